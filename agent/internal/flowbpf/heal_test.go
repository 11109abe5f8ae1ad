package flowbpf

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// A new interface can have the index, and the name, of one that went.
func TestInterfaceWithTheIndexOfAnotherIsAttachedAnew(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, withMode(mode))
		index := l.index()
		must(t, d.Attach(here(index)))
		must(t, netlink.LinkDel(l.link))
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "ebbnear", index
		must(t, netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}))
		must(t, d.Attach(here(index)))
		if err := d.Attach(here(index)); !errors.Is(err, ErrAttached) {
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
	must(t, d.Attach(here(l.index())))
	must(t, netlink.QdiscDel(clsact(l.index())))
	must(t, d.Attach(here(l.index())))
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
		must(t, d.Attach(here(loopback)))
		there := Place{NetNS: 7, Ifindex: loopback}
		var err error
		l.inFar(t, func() { err = d.Attach(there) })
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
		must(t, before.Attach(Place{NetNS: 1, Ifindex: uint32(far.Attrs().Index)}))
		must(t, after.Attach(Place{NetNS: 1, Ifindex: loopback}))
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
		must(t, d.Attach(Place{NetNS: 1, Ifindex: loopback}))
		took := time.Since(start)
		t.Logf("the first attach in a namespace took %s", took)
		if took > 20*time.Second {
			t.Errorf("the first attach in a namespace took %s", took)
		}
	})
}
