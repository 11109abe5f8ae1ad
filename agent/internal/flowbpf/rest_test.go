package flowbpf

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An agent that ends ends the counting on all interfaces at once, and accounts for it
// to the packet, however many they are; closing one tcx link after the other takes the
// kernel seconds for a hundred of them.
func TestRestEndsTheCountingOnAHundredInterfacesAtOnce(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		const pairs, limit = 50, time.Second
		l := newLab(t)
		d := load(t, func(c *Config) { c.Attach, c.MaxInterfaces = mode, 2*pairs+1 })
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		must(t, err)
		defer stats.Close()
		places := []Place{here(l.index())}
		for i := range pairs {
			v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("ebba%d", i)}, PeerName: fmt.Sprintf("ebbb%d", i)}
			must(t, netlink.LinkAdd(v))
			for _, name := range []string{v.Name, v.PeerName} {
				end, err := netlink.LinkByName(name)
				must(t, err)
				places = append(places, here(end.Attrs().Index))
			}
		}
		for _, p := range places {
			must(t, d.Attach(p, 0))
		}
		l.up(t)
		l.sink(t)
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: farIP, Port: 7})
		must(t, err)
		var sent atomic.Uint64
		var sender sync.WaitGroup
		defer sender.Wait()
		defer c.Close()
		sender.Go(func() {
			for {
				if _, err := c.Write(make([]byte, 10)); err != nil {
					return
				}
				sent.Add(1)
			}
		})
		for sent.Load() < 1000 {
			time.Sleep(time.Millisecond)
		}

		begin := time.Now()
		for _, p := range places {
			must(t, d.Rest(p))
		}
		_, totals := drain(t, d)
		if took := time.Since(begin); took > limit {
			t.Errorf("the counting on %d interfaces ended, and was drained, in %v, want %v at most", len(places), took, limit)
		} else {
			t.Logf("the counting on %d interfaces ended, and was drained, in %v", len(places), took)
		}
		seen := sum(totals).Seen.Packets
		if n := runs(t, d); seen != n || n < 1000 {
			t.Errorf("%d packets told, the kernel ran the programs %d times", seen, n)
		}
		for before := sent.Load(); sent.Load() < before+1000; {
			time.Sleep(time.Millisecond)
		}
		for range 2 { // both generations
			if _, totals := drain(t, d); len(totals) != 0 {
				t.Errorf("told after the counting had ended: %+v", totals)
			}
		}
		if n := runs(t, d); n != seen {
			t.Errorf("the programs ran %d times after the counting had ended", n-seen)
		}
		must(t, d.Close())
		for _, p := range places {
			if n := hooksOf(t, mode, int(p.Ifindex)); n != 0 {
				t.Errorf("%d programs stay on interface %d", n, p.Ifindex)
			}
		}
	})
}

// What rests can be attached anew, and an interface that went does not rest.
func TestRestIsForWhatIsAttached(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, withMode(mode))
		must(t, d.Rest(here(l.index())))
		must(t, d.Attach(here(l.index()), 0))
		must(t, d.Rest(here(l.index())))
		must(t, d.Attach(here(l.index()), 0))
		must(t, netlink.LinkDel(l.link))
		must(t, d.Rest(here(l.index())))
		must(t, d.Close())
	})
}

// runs is how often the kernel ran the programs that count.
func runs(t *testing.T, d *Datapath) (n uint64) {
	t.Helper()
	for _, p := range []*ebpf.Program{d.objs.EbbIngress, d.objs.EbbEgress} {
		s, err := p.Stats()
		must(t, err)
		n += s.RunCount
	}
	return n
}

// hooksOf counts programs of ours on an interface.
func hooksOf(t *testing.T, mode AttachMode, ifindex int) (n int) {
	t.Helper()
	for _, dir := range []Direction{Ingress, Egress} {
		if mode == AttachTCX {
			r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: tcxType(dir)})
			must(t, err)
			n += len(r.Programs)
			continue
		}
		filters, err := netlink.FilterList(linkIndex(ifindex), dir.tcParent())
		must(t, ignoreGone(err))
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, tcFilterPrefix) {
				n++
			}
		}
	}
	return n
}
