package trace

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open moves the test to a network namespace, which is what the tracer watches.
func open(t testing.TB, entries uint32) *Tracer {
	t.Helper()
	names, err := readReasons()
	return openAs(t, entries, names, err)
}

// openAs is open on a kernel with these reasons.
func openAs(t testing.TB, entries uint32, names reasons, noReasons error) *Tracer {
	t.Helper()
	losstest.Namespace(t)
	tr := openWith(slog.New(slog.NewTextHandler(t.Output(), nil)), entries, names, noReasons)
	t.Cleanup(func() { must(t, tr.Close()) })
	for _, f := range tr.Features() {
		losstest.Need(t, f.Err == nil, fmt.Sprintf("%s: %v", f.Name, f.Err))
	}
	return tr
}

// addresses returns two that nobody else uses, the first below the second.
func addresses4() (a, b netip.Addr) {
	r := rand.Uint32()
	return netip.AddrFrom4([4]byte{127, byte(r), byte(r >> 8), 1}), netip.AddrFrom4([4]byte{127, byte(r), byte(r >> 8), 2})
}

func addresses6(t testing.TB) (a, b netip.Addr) {
	t.Helper()
	a = netip.MustParseAddr(fmt.Sprintf("fd00:%x:%x::1", rand.Uint32()>>16, rand.Uint32()>>16))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	for _, at := range []netip.Addr{a, a.Next()} {
		must(t, netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: at.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}))
	}
	return a, a.Next()
}

// conversation names one as the datapath does: the lower endpoint first.
func conversation(proto uint8, a, b netip.AddrPort) flowbpf.Key {
	return flowbpf.Key{A: a.Addr().As16(), APort: a.Port(), B: b.Addr().As16(), BPort: b.Port(), Proto: proto}
}

// watch sums what a tracer tells. It drains all the time and has much room, so
// that the drops of whatever else runs on the host do not fill the map.
type watch struct {
	t  testing.TB
	tr *Tracer

	mu     sync.Mutex
	sums   map[flowbpf.Key]Loss
	nobody map[flowbpf.Key]uint64 // drops of sums that are unplaced
	drains int
	err    error
}

func openWatch(t testing.TB) *watch {
	t.Helper()
	return watchOf(t, open(t, 1<<15))
}

func watchOf(t testing.TB, tr *Tracer) *watch {
	t.Helper()
	w := &watch{t: t, tr: tr, sums: make(map[flowbpf.Key]Loss), nobody: make(map[flowbpf.Key]uint64)}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
				w.add(tr.Drain())
			}
		}
	}()
	t.Cleanup(func() { close(end); <-done; must(t, w.err) })
	return w
}

func (w *watch) add(all map[Key]Loss, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drains++
	if err != nil && w.err == nil {
		w.err = err
	}
	for k, l := range all {
		sum := w.sums[k.Key]
		for side := range 2 {
			sum.Drops[side] += l.Drops[side]
			sum.DropBytes[side] += l.DropBytes[side]
			sum.Retransmits[side] += l.Retransmits[side]
		}
		if l.Reason != "" && (sum.Reason == "" || !k.Unplaced) { // the map has no order
			sum.Reason = l.Reason
		}
		w.sums[k.Key] = sum
		if k.Unplaced {
			w.nobody[k.Key] += l.Drops[0] + l.Drops[1]
		}
	}
}

// lost returns the conversation's sum once it has n drops or, on a host that does
// not come to it, after some seconds. The kernel does not tell of a drop while it
// tells of another on the same CPU (Stats.Interrupted): those count as told, size
// bytes each and of that side.
func (w *watch) lost(key flowbpf.Key, side int, n, size uint64) Loss {
	w.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := w.losses(key)
		stats, err := w.tr.Stats()
		must(w.t, err)
		missing := n - min(n, got.Drops[side])
		if missing > 0 && missing <= stats.Interrupted {
			got.Drops[side] += missing
			got.DropBytes[side] += missing * size
			return got
		}
		if missing == 0 || time.Now().After(deadline) {
			return got
		}
	}
}

// losses returns the conversation's sum, once some drains have not changed it.
func (w *watch) losses(key flowbpf.Key) (sum Loss) {
	since := -1
	for {
		w.mu.Lock()
		now, drains := w.sums[key], w.drains
		w.mu.Unlock()
		switch {
		case since < 0 || now != sum:
			sum, since = now, drains
		case drains-since >= 5:
			return sum
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// unplaced is how many of the conversation's drops are.
func (w *watch) unplaced(key flowbpf.Key) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nobody[key]
}

func listenUDP(t testing.TB, at netip.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func localOf(c interface{ LocalAddr() net.Addr }) netip.AddrPort {
	switch at := c.LocalAddr().(type) {
	case *net.UDPAddr:
		return netip.AddrPortFrom(at.AddrPort().Addr().Unmap(), at.AddrPort().Port())
	case *net.TCPAddr:
		return netip.AddrPortFrom(at.AddrPort().Addr().Unmap(), at.AddrPort().Port())
	}
	return netip.AddrPort{}
}

// retransSegs is what the namespace's TCP has sent again.
func retransSegs(t testing.TB) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	must(t, err)
	var names []string
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Tcp: ")
		if !ok {
			continue
		}
		if names == nil {
			names = strings.Fields(rest)
			continue
		}
		for i, v := range strings.Fields(rest) {
			if names[i] == "RetransSegs" {
				_, err := fmt.Sscan(v, &n)
				must(t, err)
			}
		}
	}
	return n
}

func totalRetrans(t testing.TB, c *net.TCPConn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	var info *unix.TCPInfo
	must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	must(t, err)
	return uint64(info.Total_retrans)
}
