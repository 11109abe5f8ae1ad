package flowbpf

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A new interface can have the index, and the name, of one that went.
func TestInterfaceWithTheIndexOfAnotherIsAttachedAnew(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, withMode(mode))
		index := l.index()
		must(t, d.Attach(here(index), 0))
		must(t, netlink.LinkDel(l.link))
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "ebbnear", index
		must(t, netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}))
		must(t, d.Attach(here(index), 0))
		if err := d.Attach(here(index), 0); !errors.Is(err, ErrAttached) {
			t.Errorf("attached twice: %v", err)
		}
		for _, dir := range []Direction{Ingress, Egress} {
			if n := ours(t, mode, index, dir); n != 1 {
				t.Errorf("%d hooks for %s, want 1", n, dir)
			}
		}
	})
}

func TestHooksThatSomebodyRemovedAreMadeAnew(t *testing.T) {
	l := newLab(t)
	d := load(t, withMode(AttachTC))
	must(t, d.Attach(here(l.index()), 0))
	must(t, netlink.QdiscDel(clsact(l.index())))
	must(t, d.Attach(here(l.index()), 0))
	if n := ours(t, AttachTC, l.index(), Ingress) + ours(t, AttachTC, l.index(), Egress); n != 2 {
		t.Errorf("%d filters, want 2", n)
	}
}

// ours counts hooks of ours in the thread's namespace.
func ours(t *testing.T, mode AttachMode, index int, dir Direction) (n int) {
	t.Helper()
	if mode == AttachTC {
		filters, err := netlink.FilterList(linkIndex(index), dir.tcParent())
		must(t, ignoreGone(err))
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok && b.Name == tcFilterPrefix+dir.String() {
				n++
			}
		}
		return n
	}
	r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: tcxType(dir)})
	must(t, err)
	return len(r.Programs)
}

// Forget may be called anywhere: it leaves an interface of the same index here alone.
func TestForgetLeavesOtherNamespacesAlone(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, withMode(mode))
		must(t, d.Attach(here(loopback), 0))
		there := Place{NetNS: 7, Ifindex: loopback}
		var err error
		l.inFar(t, func() { err = d.Attach(there, 0) })
		must(t, err)
		must(t, d.Forget(7))
		must(t, d.Forget(7))
		if n := ours(t, mode, loopback, Ingress); n != 1 {
			t.Errorf("%d hooks here, want 1", n)
		}
		if mode == AttachTCX {
			l.inFar(t, func() {
				if n := ours(t, mode, loopback, Ingress); n != 0 {
					t.Errorf("%d hooks there, want 0", n)
				}
			})
		}
		if len(d.instances) != 0 {
			t.Errorf("instances of namespaces %v are kept", d.instances)
		}
	})
}

// A killed agent's filters in a namespace end when the next one comes there.
func TestStaleFiltersOfANamespaceAreRemoved(t *testing.T) {
	l := newLab(t)
	before := load(t, withMode(AttachTC))
	after := load(t, withMode(AttachTC))
	l.inFar(t, func() {
		far, err := netlink.LinkByName("ebbfar")
		must(t, err)
		must(t, before.Attach(Place{NetNS: 1, Ifindex: uint32(far.Attrs().Index)}, 0))
		must(t, after.Attach(Place{NetNS: 1, Ifindex: loopback}, 0))
		if n := ours(t, AttachTC, far.Attrs().Index, Ingress); n != 0 {
			t.Errorf("%d stale filters, want 0", n)
		}
		must(t, before.Forget(1))
		must(t, after.Detach(Place{NetNS: 1, Ifindex: loopback}))
	})
}

// Every container has a loopback of index 1 and an eth0 of index 2.
func TestNamespacesWithTheSameIndicesHaveRoom(t *testing.T) {
	table := newPointTable(256)
	for n := range uint32(100) {
		for index := range uint32(2) {
			if _, err := table.add(Place{NetNS: n, Ifindex: 1 + index}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLoadingForANamespaceTakesMoments(t *testing.T) {
	l := newLab(t)
	d := load(t, withMode(AttachTCX))
	needTCX(t)
	l.inFar(t, func() {
		start := time.Now()
		must(t, d.Attach(Place{NetNS: 1, Ifindex: loopback}, 0))
		took := time.Since(start)
		t.Logf("the first attach in a namespace took %s", took)
		if took > 20*time.Second {
			t.Errorf("the first attach in a namespace took %s", took)
		}
	})
}

// With tc in use we see what an older filter keeps from others, and leave a
// younger one all it would see; neither is touched by our end.
func TestCoexistsWithOtherFilters(t *testing.T) {
	for _, priority := range []uint16{1, 10, 50000} { // 0xC000 is the kernel's own choice
		t.Run(fmt.Sprintf("an older one of priority %d", priority), func(t *testing.T) { coexist(t, priority) })
	}
}

func coexist(t *testing.T, priority uint16) {
	l := newLab(t)
	d := load(t, withMode(AttachTC))
	must(t, netlink.QdiscAdd(clsact(l.index())))
	other := func(name string, dir Direction, priority uint16) *ebpf.Map {
		m, p := countingProgram(t)
		must(t, netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: l.index(), Parent: dir.tcParent(), Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL},
			Fd:          p.FD(), Name: name, DirectAction: true,
		}))
		return m
	}
	older := other("older", Egress, priority)
	must(t, d.Attach(here(l.index()), 0))
	younger := other("younger", Ingress, 60000)
	l.up(t)
	frame := ether(typeIP4, ip4{proto: protoUDP}.with(udp(1, 2, 3)))
	for range 5 {
		sendRaw(t, "ebbnear", frame)
		l.inFar(t, func() { sendRaw(t, "ebbfar", frame) })
	}
	_, totals := drain(t, d)
	for _, c := range []struct {
		name  string
		dir   Direction
		other *ebpf.Map
	}{{"older", Egress, older}, {"younger", Ingress, younger}} {
		var n uint64
		must(t, c.other.Lookup(uint32(0), &n))
		if got := pointOf(totals, l.index(), c.dir).Seen.Packets; got != n || n < 5 {
			t.Errorf("we saw %d packets, the %s filter %d", got, c.name, n)
		}
	}
	must(t, d.Detach(here(l.index())))
	for _, dir := range []Direction{Ingress, Egress} {
		if filters, err := netlink.FilterList(l.link, dir.tcParent()); err != nil || len(filters) != 1 {
			t.Errorf("after our end, %d filters for %s, want the other's: %v", len(filters), dir, err)
		}
	}
}

func TestFirstPriorityTakenByAnotherKindOfFilterIsNoHindrance(t *testing.T) {
	l := newLab(t)
	d := load(t, withMode(AttachTC))
	must(t, netlink.QdiscAdd(clsact(l.index())))
	_, p := countingProgram(t)
	must(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.index(), Parent: Egress.tcParent(), Handle: 1, Priority: 1, Protocol: unix.ETH_P_IP},
		Fd:          p.FD(), Name: "older", DirectAction: true,
	}))
	must(t, d.Attach(here(l.index()), 0))
	if n := ours(t, AttachTC, l.index(), Egress); n != 1 {
		t.Errorf("%d filters, want 1", n)
	}
}
