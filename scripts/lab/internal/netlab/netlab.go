// Package netlab builds a small network of hosts on one machine: each host is a
// network namespace, all are joined by a bridge that has a namespace to itself.
//
// Nothing leaves it: no namespace has a default route, none forwards, and no
// link leads to the network of the machine. Names carry the id of the process
// that built the lab, so that labs can stand side by side and those of dead
// processes are recognised and removed.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	prefix    = "ebblab-"    // of every namespace, followed by the process id
	netnsPath = "/run/netns" // where named namespaces are bound
	device    = "eth0"       // the one link of a host
)

// ErrPrivilege is returned where the process may not make namespaces.
var ErrPrivilege = errors.New("the lab makes network namespaces: run it as root")

// Prefixes of the lab's addresses. They are private, and no route leads out, so
// that several labs can use the same ones.
var (
	Prefix4 = netip.MustParsePrefix("10.99.0.0/24")
	Prefix6 = netip.MustParsePrefix("fd00:99::/64")
)

// Plan describes a host: the last number of its addresses, several if the host
// is to look like several machines.
type Plan struct {
	Name    string
	Numbers []byte
}

// Lab is a built network. Close it whatever happens.
type Lab struct {
	id     string
	hosts  map[string]*Host
	spaces []string // names of namespaces, in the order of their making
}

// Build makes the hosts of plans and joins them. What a dead process left
// behind is removed first. On an error nothing stays.
func Build(plans []Plan) (lab *Lab, err error) {
	if os.Geteuid() != 0 {
		return nil, ErrPrivilege
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	lab = &Lab{id: prefix + strconv.Itoa(os.Getpid()), hosts: make(map[string]*Host, len(plans))}
	for n := 0; exists(lab.id + "-net"); n++ { // a process may hold several labs
		lab.id = fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), n)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lab.Close())
			lab = nil
		}
	}()
	bridge, err := lab.space("net")
	if err != nil {
		return lab, err
	}
	if err := bridge.Do(makeBridge); err != nil {
		return lab, err
	}
	for _, plan := range plans {
		host, err := lab.space(plan.Name)
		if err != nil {
			return lab, err
		}
		for _, n := range plan.Numbers {
			host.IPv4 = append(host.IPv4, number(Prefix4, n))
			host.IPv6 = append(host.IPv6, number(Prefix6, n))
		}
		lab.hosts[plan.Name] = host
		if err := host.join(bridge); err != nil {
			return lab, fmt.Errorf("join %s: %w", plan.Name, err)
		}
	}
	return lab, nil
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(netnsPath, name))
	return err == nil
}

// number returns the address of prefix that ends in n.
func number(prefix netip.Prefix, n byte) netip.Addr {
	raw := prefix.Addr().AsSlice()
	raw[len(raw)-1] = n
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// Host returns the host of that name, nil if the plan had none.
func (l *Lab) Host(name string) *Host { return l.hosts[name] }

// Close removes the namespaces and with them every link. Processes in them keep
// running without a network: end them before.
func (l *Lab) Close() error {
	var errs []error
	for _, host := range l.hosts {
		errs = append(errs, host.handle.Close())
	}
	for i := len(l.spaces) - 1; i >= 0; i-- {
		if err := netns.DeleteNamed(l.spaces[i]); err != nil {
			errs = append(errs, fmt.Errorf("delete namespace %s: %w", l.spaces[i], err))
		}
	}
	l.hosts, l.spaces = nil, nil
	return errors.Join(errs...)
}

// Sweep removes the labs of processes that no longer live.
func Sweep() error {
	entries, err := os.ReadDir(netnsPath)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for old labs: %w", err)
	}
	for _, entry := range entries {
		rest, ours := strings.CutPrefix(entry.Name(), prefix)
		digits, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		if !ours || err != nil || alive(pid) {
			continue
		}
		if err := netns.DeleteNamed(entry.Name()); err != nil {
			return fmt.Errorf("delete old namespace %s: %w", entry.Name(), err)
		}
	}
	return nil
}

func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// space makes a namespace and brings its loopback up.
func (l *Lab) space(name string) (*Host, error) {
	full := l.id + "-" + name
	host := &Host{Name: name, Namespace: full}
	err := onThread(func() error {
		handle, err := netns.NewNamed(full)
		if err != nil {
			if errors.Is(err, syscall.EPERM) {
				return fmt.Errorf("%w (%w)", ErrPrivilege, err)
			}
			return fmt.Errorf("make namespace %s: %w", full, err)
		}
		host.handle = handle
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.spaces = append(l.spaces, full)
	return host, host.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("bring loopback of %s up: %w", full, err)
		}
		return netlink.LinkSetUp(lo)
	})
}

// onThread runs fn on a thread that keeps no namespace changed by fn: the
// thread ends with it.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: Go ends the thread with the goroutine
		done <- fn()
	}()
	return <-done
}

func makeBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	off := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	return netlink.LinkSetUp(bridge)
}

// join links h to the bridge.
func (h *Host) join(bridge *Host) error {
	return bridge.Do(func() error {
		port := "p-" + h.Name
		attrs := netlink.NewLinkAttrs()
		attrs.Name = port
		attrs.TxQLen = 1000
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: device, PeerNamespace: netlink.NsFd(int(h.handle)),
		}); err != nil {
			return fmt.Errorf("make link: %w", err)
		}
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("attach to bridge: %w", err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		return h.Do(h.configure)
	})
}

// configure gives the host its addresses; it runs in the host's namespace.
func (h *Host) configure() error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for i, addr := range append(append([]netip.Addr{}, h.IPv4...), h.IPv6...) {
		prefix := Prefix4
		if addr.Is6() {
			prefix = Prefix6
		}
		conf := &netlink.Addr{
			IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), addr.BitLen())},
			Flags: syscall.IFA_F_NODAD, // usable at once
		}
		if addr.Is6() && i > len(h.IPv4) {
			conf.ValidLft = math.MaxUint32 // for ever, but never preferred: the main address is the source
		}
		err := netlink.AddrAdd(link, conf)
		if err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Host is one machine of the lab.
type Host struct {
	Name       string
	Namespace  string       // as `ip netns` knows it
	IPv4, IPv6 []netip.Addr // the first is the main one

	handle netns.NsHandle
}

// Do runs fn in the namespace of h, on a thread of its own: sockets that fn
// makes and processes that it starts stay there. Safe for concurrent use.
//
// The thread ends with fn, so a process started by fn must not use Pdeathsig:
// it would be killed at once. Use [Host.Start].
func (h *Host) Do(fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(h.handle); err != nil {
			return fmt.Errorf("enter namespace %s: %w", h.Namespace, err)
		}
		return fn()
	})
}

// Listen announces on an address of h, as [net.Listen] does.
func (h *Host) Listen(ctx context.Context, network, address string) (ln net.Listener, err error) {
	err = h.Do(func() error {
		ln, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// ListenPacket announces on an address of h, as [net.ListenPacket] does.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (conn net.PacketConn, err error) {
	err = h.Do(func() error {
		conn, err = (&net.ListenConfig{}).ListenPacket(ctx, network, address)
		return err
	})
	return conn, err
}

// Dialer returns a dial function whose connections come from h, and from the
// address source if that is valid. The address to dial must be a literal: a name
// would be looked up on another thread, in another namespace.
func (h *Host) Dialer(source netip.Addr) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if _, err := netip.ParseAddrPort(address); err != nil {
			return nil, fmt.Errorf("dial from %s: %w", h.Name, err)
		}
		var d net.Dialer
		if source.IsValid() {
			ap := netip.AddrPortFrom(source, 0)
			if strings.HasPrefix(network, "udp") {
				d.LocalAddr = net.UDPAddrFromAddrPort(ap)
			} else {
				d.LocalAddr = net.TCPAddrFromAddrPort(ap)
			}
		}
		err = h.Do(func() error {
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
