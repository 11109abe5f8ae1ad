package probe

import (
	"log/slog"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
)

// The agent enters no namespace here: where a pair's other end is, its own end tells.
func TestTheNamespaceOfAPairsOtherEndIsToldAndFollowed(t *testing.T) {
	if !isolated(t) {
		return
	}
	open := func(name string) *os.File {
		nameSpace(t, name)
		f, err := os.Open("/run/netns/" + name)
		must(t, err)
		t.Cleanup(func() { must(t, f.Close()) })
		return f
	}
	blue, green := open("blue"), open("green")
	plug(t, "veth1", "eth0", "/run/netns/blue")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "here1"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "here2"}))
	must(t, setUp("here1"))
	ifb(t, "ifb7", 70)
	h := newHooks(t)
	run(t, New(Config{}, h, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil))))
	told := func(name string) (peer uint32, known bool) {
		l, err := netlink.LinkByName(name)
		must(t, err)
		h.mu.Lock()
		defer h.mu.Unlock()
		peer, known = h.peers[here(l.Attrs().Index)]
		return peer, known
	}
	is := func(space *os.File) func() bool {
		return func() bool {
			id, err := netlink.GetNetNsIdByFd(int(space.Fd()))
			must(t, err)
			peer, _ := told("veth1")
			return id >= 0 && peer == uint32(id)+1
		}
	}
	eventually(t, "veth1 leads to blue", is(blue))
	for _, name := range []string{"here1", "ifb7"} {
		eventually(t, name+" is watched", func() bool { _, known := told(name); return known })
		if peer, _ := told(name); peer != 0 {
			t.Errorf("%s leads to namespace %d - 1, want none", name, peer)
		}
	}
	inside(t, blue, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(l, int(green.Fd()))
	})
	inside(t, green, func() error { return setUp("eth0") })
	eventually(t, "veth1 leads to green", is(green))
}
