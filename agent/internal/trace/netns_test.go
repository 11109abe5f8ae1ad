package trace

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestLossesOfOtherNetworkNamespacesAreTheirOwn(t *testing.T) {
	w := openWatch(t)
	_, b := addresses4()
	lost := func(watch func() error, n uint64) uint64 {
		t.Helper()
		var from netip.AddrPort
		elsewhere(t, func() error {
			if watch != nil {
				if err := watch(); err != nil {
					return err
				}
			}
			return toAClosedPort(b, &from)
		})
		loss := w.lost(conversation(protoUDP, from, netip.AddrPortFrom(b, 9)), 0, n, 28+10)
		return loss.Drops[0] + loss.Drops[1]
	}
	if n := lost(nil, 0); n != 0 {
		t.Errorf("%d drops in a namespace that is not watched", n)
	}
	if n := lost(w.tr.watchOwn, 5); n != 5 {
		t.Errorf("%d drops in a namespace that is watched, want 5", n)
	}
	if n := lost(func() error {
		if err := w.tr.watchOwn(); err != nil {
			return err
		}
		cookie, err := netCookie()
		if err != nil {
			return err
		}
		return w.tr.Unwatch(cookie)
	}, 0); n != 0 {
		t.Errorf("%d drops in a namespace that is no longer watched", n)
	}
}

// elsewhere calls f in a network namespace of its own with a loopback interface.
func elsewhere(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() { // the thread is never unlocked: it ends with its namespace
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
			return f()
		}()
	}()
	must(t, <-done)
}

// toAClosedPort sends five datagrams.
func toAClosedPort(to netip.Addr, from *netip.AddrPort) error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: to.Prev().AsSlice()})
	if err != nil {
		return err
	}
	defer c.Close()
	*from = c.LocalAddr().(*net.UDPAddr).AddrPort()
	for range 5 {
		if _, err := c.WriteToUDPAddrPort(make([]byte, 10), netip.AddrPortFrom(to, 9)); err != nil {
			return err
		}
	}
	return nil
}

// TCP takes the device from what it receives, and the socket is not in it: only
// the receiver, which the kernel tells of since Linux 6.11, has a namespace.
func TestDropsWithoutSocketOrDeviceAreUnplacedUnlessTheReceiverIsKnown(t *testing.T) {
	kernel, err := readReasons()
	for i, n := range kernel.noLoss {
		if n == noLossEmpty {
			kernel.noLoss[i] = 0 // keep-alives are what is dropped here
		}
	}
	old := kernel
	old.receiver = false
	for _, c := range []struct {
		name  string
		names reasons
	}{{"this kernel", kernel}, {"Linux before 6.11", old}} {
		t.Run(c.name, func(t *testing.T) {
			w := watchOf(t, openAs(t, 1<<15, c.names, err))
			a, b := addresses4()
			from, to := netip.AddrPortFrom(a, 3000), netip.AddrPortFrom(b, 3001)
			key := conversation(protoTCP, from, to)
			elsewhere(t, func() error { return keepAlive(from, to) })
			there, unplaced := w.losses(key).Drops[0], w.unplaced(key)
			if there != unplaced || (there > 0) == c.names.receiver {
				t.Errorf("elsewhere: %d drops are told, %d of them unplaced", there, unplaced)
			}
			must(t, keepAlive(from, to))
			here := w.losses(key).Drops[0] - there
			if unplaced = w.unplaced(key) - unplaced; here == 0 || (unplaced == 0) != c.names.receiver || unplaced > 0 && unplaced != here {
				t.Errorf("here: %d drops are told, %d of them unplaced", here, unplaced)
			}
		})
	}
}

// keepAlive has a TCP connection asked whether it lives. Such a probe has a
// sequence number that was acknowledged, for which its receiver drops it.
func keepAlive(from, to netip.AddrPort) error {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTCP("tcp4", net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second}); err != nil {
		return err
	}
	s, err := l.AcceptTCP()
	if err != nil {
		return err
	}
	defer s.Close()
	time.Sleep(1500 * time.Millisecond)
	return nil
}
