package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func run(t *testing.T, p *Probe) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
}

func ifb(t *testing.T, name string, index int) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = name, index
	l := &netlink.Ifb{LinkAttrs: attrs}
	must(t, netlink.LinkAdd(l))
	must(t, netlink.LinkSetUp(l))
	return l
}

// rename sets another name, also where the kernel wants an interface down for it:
// those before Linux 6.2 do.
func rename(t *testing.T, l netlink.Link, name string) {
	t.Helper()
	err := netlink.LinkSetName(l, name)
	if !errors.Is(err, unix.EBUSY) {
		must(t, err)
		return
	}
	must(t, netlink.LinkSetDown(l))
	must(t, netlink.LinkSetName(l, name))
	must(t, netlink.LinkSetUp(l))
}

func TestInterfacesComeGoAndChangeTheirNames(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, h, _ := everywhere(t, Config{Include: []string{"eth*"}, Exclude: []string{"eth9*"}})
	p.cfg.Namespaces = false
	run(t, p)
	becomes := func(want string) {
		t.Helper()
		eventually(t, "watched: "+want, func() bool { return h.watched(p) == want })
	}
	a := ifb(t, "eth0", 50)
	becomes("eth0")
	rename(t, a, "eth1")
	becomes("eth1")
	must(t, netlink.LinkSetDown(a))
	must(t, netlink.LinkSetUp(a))
	becomes("eth1")
	rename(t, a, "eth90") // excluded
	becomes("")
	rename(t, a, "eth2")
	becomes("eth2")
	must(t, netlink.LinkDel(a))
	b := ifb(t, "eth3", 50) // at once, with its index
	becomes("eth3")
	must(t, netlink.LinkSetDown(b))
	ifb(t, "eth4", 51)
	becomes("eth3 eth4") // what went down stays: it may come up again
	must(t, netlink.LinkDel(b))
	becomes("eth4")
}

func TestFlappingAndStormsOfChangesEndInWhatThereIs(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, h, _ := everywhere(t, Config{Include: []string{"eth*"}})
	p.cfg.Namespaces = false
	run(t, p)
	flapping := ifb(t, "eth0", 0)
	for i := range 300 {
		must(t, netlink.LinkSetDown(flapping))
		must(t, netlink.LinkSetUp(flapping))
		l := ifb(t, fmt.Sprint("eth", 1+i%7), 0)
		if i%50 != 49 {
			must(t, netlink.LinkDel(l))
		} else {
			rename(t, l, fmt.Sprint("eth10", i))
		}
	}
	want := "eth0 eth10149 eth10199 eth10249 eth10299 eth1049 eth1099"
	eventually(t, "watched: "+want, func() bool { return h.watched(p) == want })
	if failures := testutil.ToFloat64(p.metrics.attachFailures); failures != 0 {
		t.Errorf("%v failures: what goes while it is looked at is none", failures)
	}
}

// The kernel drops what a listener has no room for, and says so once.
func TestOverflowOfTheListenerIsAChange(t *testing.T) {
	if !isolated(t) {
		return
	}
	overflows := make(chan struct{}, 1000)
	l, err := listen(true, func() { overflows <- struct{}{} })
	must(t, err)
	must(t, unix.SetsockoptInt(l.socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	eventually(t, "an overflow", func() bool {
		for range 50 {
			remove(t, ifb(t, "eth0", 0).Attrs().Name)
		}
		return len(overflows) > 0
	})
	<-l.changed
	remove(t, ifb(t, "eth0", 0).Attrs().Name)
	<-l.changed // it goes on
	l.close()
	select {
	case err := <-l.broken:
		if errors.Is(err, unix.ENOBUFS) {
			t.Error(err)
		}
	default:
	}
}

// A change in a namespace is heard at once, without anything of it kept open.
func TestChangesInNamespacesAreHeard(t *testing.T) {
	if !isolated(t) {
		return
	}
	nameSpace(t, "blue")
	plug(t, "veth1", "eth0", "/run/netns/blue")
	p, _, _ := everywhere(t, DefaultConfig())
	must(t, p.sync(true))
	l, err := listen(true, func() {})
	must(t, err)
	defer l.close()
	for _, s := range p.world.spaces {
		must(t, p.world.enter(s, func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.LinkSetAlias(l, strings.Repeat("x", 10))
		}))
	}
	<-l.changed
}
