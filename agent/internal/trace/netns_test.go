package trace

import (
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestLossesOfOtherNetworkNamespacesAreTheirOwn(t *testing.T) {
	w := openWatch(t)
	_, b := addresses4()
	lost := func(watch func() error, n uint64) uint64 {
		t.Helper()
		var from netip.AddrPort
		done := make(chan error)
		go func() { // the thread is never unlocked: it ends with its namespace
			runtime.LockOSThread()
			done <- elsewhere(b, &from, watch)
		}()
		must(t, <-done)
		loss := w.lost(conversation(protoUDP, from, netip.AddrPortFrom(b, 9)), 0, n, 28+10)
		return loss.Drops[0] + loss.Drops[1]
	}
	if n := lost(nil, 0); n != 0 {
		t.Errorf("%d drops in a namespace that is not watched", n)
	}
	if n := lost(w.tr.Watch, 5); n != 5 {
		t.Errorf("%d drops in a namespace that is watched, want 5", n)
	}
	if n := lost(func() error {
		if err := w.tr.Watch(); err != nil {
			return err
		}
		return w.tr.Unwatch()
	}, 0); n != 0 {
		t.Errorf("%d drops in a namespace that is no longer watched", n)
	}
}

// elsewhere sends five datagrams to a closed port in a network namespace of its own.
func elsewhere(to netip.Addr, from *netip.AddrPort, watch func() error) error {
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
	if watch != nil {
		if err := watch(); err != nil {
			return err
		}
	}
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
