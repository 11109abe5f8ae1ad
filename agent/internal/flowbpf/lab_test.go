package flowbpf

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// lab is a veth pair between two network namespaces: near, in which the test
// itself runs on its thread, and far. Both vanish with the test. IPv6 is off
// until asked for, so that nothing passes but what the test sends.
type lab struct {
	near, far netns.NsHandle
	link      netlink.Link // the near end, still down
}

var (
	nearIP, farIP = net.IPv4(10, 77, 0, 1), net.IPv4(10, 77, 0, 2)
)

func newLab(t *testing.T) *lab {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	home, err := netns.Get()
	must(t, err)
	l := &lab{}
	l.far, err = netns.New()
	must(t, err)
	must(t, quietIPv6())
	l.near, err = netns.New()
	must(t, err)
	must(t, quietIPv6())
	t.Cleanup(func() {
		must(t, netns.Set(home))
		for _, h := range []netns.NsHandle{l.near, l.far, home} {
			must(t, h.Close())
		}
	})
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "ebbnear", MTU: 1500}, PeerName: "ebbfar", PeerNamespace: netlink.NsFd(l.far),
	}))
	l.link, err = netlink.LinkByName("ebbnear")
	must(t, err)
	return l
}

// up gives both ends their addresses and waits until they carry traffic.
func (l *lab) up(t *testing.T) {
	t.Helper()
	l.inFar(t, func() { must(t, address("lo", nil)); must(t, address("ebbfar", farIP)) })
	must(t, address("lo", nil))
	must(t, address("ebbnear", nearIP))
	// Until both ends carry traffic, the kernel drops what is sent: wait for the
	// far end's answer to ARP.
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: farIP, Port: 9})
	must(t, err)
	defer c.Close()
	for range 200 {
		_, _ = c.Write(nil)
		if rx, _ := l.statistics(t); rx.Packets > 0 {
			time.Sleep(20 * time.Millisecond)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("veth carries no traffic")
}

func (l *lab) index() int { return l.link.Attrs().Index }

// inFar runs do in the far namespace.
func (l *lab) inFar(t *testing.T, do func()) {
	t.Helper()
	must(t, netns.Set(l.far))
	do()
	must(t, netns.Set(l.near))
}

// sink receives and answers in the far namespace: UDP datagrams to port 7
// vanish, a TCP connection to port 7 is read to its end, then closed.
func (l *lab) sink(t *testing.T) {
	t.Helper()
	l.inFar(t, func() {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 7})
		must(t, err)
		tl, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: 7})
		must(t, err)
		t.Cleanup(func() { _ = u.Close(); _ = tl.Close() })
		go func() {
			for {
				c, err := tl.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
	})
}

// statistics returns what the kernel itself counted at the near end.
func (l *lab) statistics(t *testing.T) (rx, tx Counters) {
	t.Helper()
	now, err := netlink.LinkByIndex(l.index())
	must(t, err)
	s := now.Attrs().Statistics
	return Counters{s.RxPackets, s.RxBytes}, Counters{s.TxPackets, s.TxBytes}
}

func address(name string, ip net.IP) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if ip != nil {
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(24, 32)}}); err != nil {
			return fmt.Errorf("add address to %s: %w", name, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func quietIPv6() error {
	for _, which := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// point returns the totals of one attach point, zero if there are none.
func pointOf(totals []Totals, ifindex int, dir Direction) Totals {
	for _, t := range totals {
		if t.Place.Ifindex == uint32(ifindex) && t.Direction == dir {
			return t
		}
	}
	return Totals{}
}
