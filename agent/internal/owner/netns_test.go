package owner

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

// lab is a host, in the test's namespace, and the datapath on it.
type lab struct {
	*testing.T
	d *flowbpf.Datapath
	w *Watcher
}

func newLab(t *testing.T, adjust func(*flowbpf.Config)) *lab {
	t.Helper()
	losstest.Namespace(t)
	cfg := flowbpf.DefaultConfig()
	cfg.MaxFlows = 1000
	if adjust != nil {
		adjust(&cfg)
	}
	d, err := flowbpf.Load(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	w := Open(d.Sockets(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { must(t, w.Close()) })
	losstest.Need(t, w.features[0].Err == nil, fmt.Sprintf("%s: %v", w.features[0].Name, w.features[0].Err))
	return &lab{t, d, w}
}

// container is a network namespace behind the veth pair of that name. The host's
// end has the index near.
type container struct {
	*lab
	space netns.NsHandle
	veth  string
	near  netlink.Link
}

// container makes one with these addresses ("10.1.0.2/24"), and gateways for all else.
func (l *lab) container(veth string, addresses ...string) *container {
	l.Helper()
	home, err := netns.Get()
	must(l, err)
	defer home.Close()
	space, err := netns.New() // enters it, too
	must(l, err)
	l.Cleanup(func() { must(l, space.Close()) })
	must(l, netns.Set(home))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = veth
	must(l, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(space))}))
	c := &container{lab: l, space: space, veth: veth}
	c.inside(func() { number(l, "lo"); number(l, "eth0", addresses...) })
	number(l, veth)
	c.near, err = netlink.LinkByName(veth)
	must(l, err)
	return c
}

// inside runs f in the container, on the test's thread.
func (c *container) inside(f func()) {
	c.Helper()
	home, err := netns.Get()
	must(c, err)
	defer home.Close()
	must(c, netns.Set(c.space))
	defer func() { must(c, netns.Set(home)) }()
	f()
}

// number sets an interface up, with addresses.
func number(t testing.TB, name string, addresses ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	for _, a := range addresses {
		address, err := netlink.ParseAddr(a)
		must(t, err)
		address.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(link, address))
	}
}

func (c *container) gateway(addresses ...string) {
	c.Helper()
	c.inside(func() {
		for _, a := range addresses {
			must(c, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(a)}))
		}
	})
}

// attach watches the host's end, first as if nothing were known of the other one.
func (c *container) attach(known bool) {
	c.Helper()
	place := flowbpf.Place{Ifindex: uint32(c.near.Attrs().Index)}
	must(c, c.d.Attach(place, 0))
	if known {
		if err := c.d.Attach(place, uint32(c.near.Attrs().NetNsID)+1); !errors.Is(err, flowbpf.ErrAttached) {
			c.Fatal(err)
		}
	}
}

// start is start in the container, or on the host if that is nil.
func (c *container) start(l *lab, name, role, to string) *actor {
	l.Helper()
	return start(l, name, role, to, func(cmd *exec.Cmd) {
		if c != nil {
			cmd.Env = append(cmd.Env, netVariable+fmt.Sprintf("=/proc/%d/fd/%d", os.Getpid(), int(c.space)))
		}
	})
}

func (l *lab) forward(on bool) {
	l.Helper()
	value := map[bool]string{false: "0", true: "1"}[on]
	for _, family := range []string{"ipv4", "ipv6"} {
		must(l, os.WriteFile("/proc/sys/net/"+family+"/conf/all/forwarding", []byte(value), 0o644))
	}
}

// pids drains and returns the owners by port: all that entries tell, merged as
// the table does, which takes the first it finds. A contradiction is an error.
func (l *lab) pids() map[uint16]uint32 {
	l.Helper()
	time.Sleep(20 * time.Millisecond)
	pids := make(map[uint16]uint32)
	_, err := l.d.Drain(func(entries []flowbpf.Entry) {
		for _, e := range entries {
			for side, port := range []uint16{e.APort, e.BPort} {
				if pid := e.Side[side].PID; pids[port] == 0 {
					pids[port] = pid
				} else if pid != 0 && pid != pids[port] {
					l.Errorf("port %d belongs to %d and %d", port, pids[port], pid)
				}
			}
		}
	})
	must(l, err)
	return pids
}

func wildcard(address string) string {
	if strings.Contains(address, ":") {
		return "[::]"
	}
	return "0.0.0.0"
}

// talk has a client talk to a server, which listens on all addresses, and says
// whom the entries name. A nil container is the host.
func (l *lab) talk(from, to *container, proto, address string, decoys ...*container) {
	l.Helper()
	serve := proto + "server"
	if proto == "udpsend" {
		serve = "udpsink"
	}
	server := to.start(l, "ebbserver", serve, wildcard(address)+":0")
	defer server.wait(l)       // others may want the port
	for _, d := range decoys { // the same port, elsewhere
		defer d.start(l, "ebbdecoy", serve, fmt.Sprintf("%s:%d", wildcard(address), server.port)).wait(l)
	}
	client := from.start(l, "ebbclient", proto, netip.AddrPortFrom(netip.MustParseAddr(address), server.port).String())
	client.wait(l)
	pids := l.pids()
	if pids[client.port] != client.pid() || pids[server.port] != server.pid() {
		l.Errorf("%s to %s: client %d and server %d, want %d and %d", proto, address, pids[client.port], pids[server.port], client.pid(), server.pid())
	}
}

func TestProcessesBehindAVethPairAreNamed(t *testing.T) {
	for _, c := range []struct {
		name            string
		forwarding, xdp bool
	}{{"", false, false}, {"of a router", true, false}, {"of a router, through XDP", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, nil)
			behind := l.container("veth1", "10.1.0.2/24", "fd00:1::2/64")
			number(t, "veth1", "10.1.0.1/24", "fd00:1::1/64")
			l.forward(c.forwarding)
			if c.xdp {
				behind.throughXDP()
			}
			behind.attach(true)
			for _, net := range []string{"10.1.0.", "fd00:1::"} {
				for _, proto := range []string{"tcp", "udp"} {
					l.talk(behind, nil, proto, net+"1")
					l.talk(nil, behind, proto, net+"2")
				}
				l.talk(behind, nil, "udpsend", net+"1")
				if c.forwarding { // else no route tells who has the address
					l.talk(nil, behind, "udpsend", net+"2")
				}
			}
		})
	}
}

// throughXDP has a program pass on what comes in by the host's end. Such packets
// carry no socket any more.
func (c *container) throughXDP() {
	c.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 2), // XDP_PASS
		asm.Return(),
	}})
	must(c, err)
	c.Cleanup(func() { must(c, prog.Close()) })
	x, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: c.near.Attrs().Index, Flags: link.XDPDriverMode})
	must(c, err)
	c.Cleanup(func() { must(c, x.Close()) })
}

func TestWhoForwardsReceivesNothing(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("other ends known %v", known), func(t *testing.T) {
			l := newLab(t, nil)
			a := l.container("veth1", "10.1.0.2/24", "fd00:1::2/64")
			b := l.container("veth2", "10.2.0.2/24", "fd00:2::2/64")
			number(t, "veth1", "10.1.0.1/24", "fd00:1::1/64")
			number(t, "veth2", "10.2.0.1/24", "fd00:2::1/64")
			a.gateway("10.1.0.1", "fd00:1::1")
			b.gateway("10.2.0.1", "fd00:2::1")
			l.forward(true)
			a.attach(known)
			b.attach(known)
			for _, proto := range []string{"tcp", "udp"} {
				for _, address := range []string{"10.2.0.2", "fd00:2::2"} {
					l.talk(a, b, proto, address, nil, a)
				}
			}
			if known {
				l.talk(a, b, "udpsend", "10.2.0.2", nil, a)
			}
		})
	}
}

// The host is in the midst of a chain: what it sends to its neighbour goes on to
// another one, by a router that listens on the same port.
func TestANeighbourThatForwardsReceivesNothing(t *testing.T) {
	l := newLab(t, nil)
	router := l.container("veth1", "10.1.0.2/24", "fd00:1::2/64")
	number(t, "veth1", "10.1.0.1/24", "fd00:1::1/64")
	l.forward(true)
	var end *container
	router.inside(func() {
		end = l.container("veth2", "10.2.0.2/24", "fd00:2::2/64")
		number(t, "veth2", "10.2.0.1/24", "fd00:2::1/64")
		l.forward(true)
	})
	end.gateway("10.2.0.1", "fd00:2::1")
	for _, gw := range []string{"10.1.0.2", "fd00:1::2"} {
		_, to, _ := net.ParseCIDR(map[bool]string{true: "10.2.0.0/24", false: "fd00:2::/64"}[gw[0] == '1'])
		must(t, netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(gw)}))
	}
	router.attach(true)
	for _, proto := range []string{"tcp", "udp"} {
		for _, address := range []string{"10.2.0.2", "fd00:2::2"} {
			server := end.start(l, "ebbserver", proto+"server", wildcard(address)+":0")
			decoy := router.start(l, "ebbdecoy", proto+"server", fmt.Sprintf("%s:%d", wildcard(address), server.port))
			client := start(t, "ebbclient", proto, netip.AddrPortFrom(netip.MustParseAddr(address), server.port).String(), nil)
			client.wait(t)
			if pids := l.pids(); pids[client.port] != client.pid() || pids[server.port] != 0 {
				t.Errorf("%s to %s: client %d, want %d; server %d, want none", proto, address, pids[client.port], client.pid(), pids[server.port])
			}
			server.wait(l)
			decoy.wait(l)
		}
	}
}

func TestTwoContainersOnABridgeAreNamed(t *testing.T) {
	for _, numbered := range []bool{true, false} {
		for _, forwarding := range []bool{false, true} {
			for _, known := range []bool{true, false} {
				t.Run(fmt.Sprintf("bridge with addresses %v, forwarding %v, other ends known %v", numbered, forwarding, known), func(t *testing.T) {
					l := newLab(t, nil)
					a := l.container("veth1", "10.1.0.2/24", "fd00:1::2/64")
					b := l.container("veth2", "10.1.0.3/24", "fd00:1::3/64")
					l.bridge(a, b)
					if numbered {
						number(t, "br0", "10.1.0.1/24", "fd00:1::1/64")
					}
					l.forward(forwarding)
					a.attach(known)
					b.attach(known)
					for _, net := range []string{"10.1.0.", "fd00:1::"} {
						for _, proto := range []string{"tcp", "udp"} {
							l.talk(a, b, proto, net+"3", nil, a)
							if numbered {
								l.talk(a, nil, proto, net+"1", b)
								l.talk(nil, a, proto, net+"2", nil, b)
							}
						}
						if known && numbered && forwarding {
							l.talk(a, b, "udpsend", net+"3", nil, a)
							l.talk(a, nil, "udpsend", net+"1", b)
							l.talk(nil, a, "udpsend", net+"2", nil, b)
						}
					}
				})
			}
		}
	}
}

func (l *lab) bridge(ports ...*container) {
	l.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	br := &netlink.Bridge{LinkAttrs: attrs}
	must(l, netlink.LinkAdd(br))
	for _, c := range ports {
		must(l, netlink.LinkSetMaster(c.near, br))
	}
	number(l, "br0")
}

// Of the two sockets of a VXLAN tunnel, the kernel's own, nobody is the owner:
// neither who made the device, nor whose packet is inside.
func TestATunnelsSocketBelongsToNobody(t *testing.T) {
	l := newLab(t, func(cfg *flowbpf.Config) { cfg.Tunnels = flowbpf.Tunnels{} })
	c := l.container("veth1", "10.1.0.2/24")
	number(t, "veth1", "10.1.0.1/24")
	vxlan := func(remote, address string) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "vx0"
		must(t, netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: 7, Port: 4789, Group: net.ParseIP(remote), Learning: true}))
		number(t, "vx0", address)
	}
	vxlan("10.1.0.2", "10.9.0.1/24")
	c.inside(func() { vxlan("10.1.0.1", "10.9.0.2/24") })
	c.attach(true)
	server := c.start(l, "ebbserver", "udpserver", "10.9.0.2:0")
	client := start(t, "ebbclient", "udp", fmt.Sprintf("10.9.0.2:%d", server.port), nil)
	client.wait(t)
	pids := l.pids()
	outer, ok := pids[4789]
	if !ok {
		t.Fatalf("no tunnel was seen: %v", pids)
	}
	if outer != 0 {
		t.Errorf("the tunnel belongs to %d; this test is %d, the client %d, the server %d", outer, os.Getpid(), client.pid(), server.pid())
	}
	for port, pid := range pids {
		if pid != 0 {
			t.Errorf("port %d belongs to %d", port, pid)
		}
	}
}
