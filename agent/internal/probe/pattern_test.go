package probe

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

func attrs(index int, name string, flags uint32) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Index, a.Name, a.RawFlags = index, name, flags
	return a
}

func TestWhichInterfacesAreWatched(t *testing.T) {
	under := func(a netlink.LinkAttrs, parent int) netlink.LinkAttrs { a.ParentIndex = parent; return a }
	port := func(a netlink.LinkAttrs, master int) netlink.LinkAttrs { a.MasterIndex = master; return a }
	elsewhere := func(a netlink.LinkAttrs, parent, namespace int) netlink.LinkAttrs {
		a.ParentIndex, a.NetNsID = parent, namespace
		return a
	}
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: attrs(1, "lo", flagUp|flagLoopback)},
		&netlink.Device{LinkAttrs: attrs(2, "eth0", flagUp)},
		&netlink.Device{LinkAttrs: attrs(3, "eth1", 0)},
		&netlink.Vlan{LinkAttrs: under(attrs(4, "eth0.10", flagUp), 2)},
		&netlink.Bridge{LinkAttrs: attrs(5, "br0", flagUp)},
		&netlink.Veth{LinkAttrs: port(attrs(6, "veth6", flagUp), 5)},
		&netlink.Bridge{LinkAttrs: attrs(7, "br-empty", flagUp)},
		&netlink.Vlan{LinkAttrs: under(attrs(8, "eth1.10", flagUp), 3)},
		&netlink.Macvlan{LinkAttrs: elsewhere(attrs(9, "macvlan9", flagUp), 2, 4)},
		&netlink.Vxlan{LinkAttrs: under(attrs(10, "vxlan10", flagUp), 2)},
		&netlink.Wireguard{LinkAttrs: attrs(11, "wg0", flagUp)},
		&netlink.Device{LinkAttrs: attrs(12, "was0", 0)}, // attached before it went down
		netlink.NewLinkBond(attrs(13, "bond13", flagUp)),
		&netlink.Device{LinkAttrs: port(attrs(14, "slave14", flagUp), 13)},
		&netlink.Device{LinkAttrs: port(attrs(15, "slave15", flagUp), 13)},
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"by default all that carry packets of their own", Config{}, "bond13 br-empty eth0 eth1.10 macvlan9 veth6 vxlan10 was0 wg0"},
		{"a bridge when its ports are excluded", Config{Exclude: []string{"veth*"}}, "bond13 br-empty br0 eth0 eth1.10 macvlan9 vxlan10 was0 wg0"},
		{"a VLAN when its parent is excluded", Config{Exclude: []string{"eth0", "v*", "m*", "w*", "b*"}}, "eth0.10 eth1.10 slave14 slave15"},
		{"exactly what is included, even loopback and a bridge", Config{Include: []string{"lo", "br?"}}, "br0 lo"},
		{"exclude wins", Config{Include: []string{"eth*"}, Exclude: []string{"*.10"}}, "eth0"},
		{"nothing that is down", Config{Include: []string{"eth1"}}, ""},
	} {
		got := strings.Join(slices.Sorted(maps.Values(choose(&c.cfg, devices(0, links, nowhere), func(p flowbpf.Place) bool { return p.Ifindex == 12 }))), " ")
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func nowhere(int) (uint32, bool) { return 0, false }

func TestOfAPairBetweenNamespacesTheEndNearerToTheAgentIsWatched(t *testing.T) {
	here, there, deeper := flowbpf.Place{Ifindex: 5}, flowbpf.Place{NetNS: 1, Ifindex: 2}, flowbpf.Place{NetNS: 2, Ifindex: 2}
	pair := []device{
		{place: here, name: "veth5", kind: "veth", up: true, peer: there},
		{place: there, name: "eth0", kind: "veth", up: true, peer: here},
		{place: flowbpf.Place{NetNS: 1, Ifindex: 3}, name: "veth3", kind: "veth", up: true, peer: deeper},
		{place: deeper, name: "eth1", kind: "veth", up: true, peer: flowbpf.Place{NetNS: 1, Ifindex: 3}},
		{place: flowbpf.Place{NetNS: 1, Ifindex: 1}, name: "lo", up: true, loopback: true},
		{place: flowbpf.Place{NetNS: 1, Ifindex: 9}, name: "vf9", up: true},
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "veth3 veth5 vf9"},
		{Config{Exclude: []string{"veth5"}}, "eth0 veth3 vf9"},
		{Config{Include: []string{"eth*", "lo"}}, "eth0 eth1 lo"},
	} {
		got := strings.Join(slices.Sorted(maps.Values(choose(&c.cfg, pair, func(flowbpf.Place) bool { return false }))), " ")
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.cfg, got, c.want)
		}
	}
}

func TestPatternsAreChecked(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // part of the error, "" for none
	}{
		{Config{}, ""},
		{Config{Include: []string{"eth*", "bond[01]", "en?"}}, ""},
		{Config{Include: []string{"eth["}}, "include: "},
		{Config{Exclude: []string{""}}, "exclude: "},
	} {
		c.cfg.MaxNamespaces = 1
		err := c.cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}
