package probe

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

const (
	flagUp       = unix.IFF_UP
	flagLoopback = unix.IFF_LOOPBACK
)

// device is an interface and what it is tied to. A place that is zero is none, or
// one that nobody knows here.
type device struct {
	place        flowbpf.Place
	name, kind   string // kind as ip link names it: "veth", "bridge", …
	up, loopback bool
	master       flowbpf.Place // the bridge or bond that it is a port of
	lower        flowbpf.Place // what its packets pass below it: a VLAN's parent
	peer         flowbpf.Place // the other end of a pair
	peerSpace    uint32        // 1 + the id of its network namespace in this one, 0 if it is this one
}

// devices returns the interfaces of the namespace of that number. resolve gives
// the number of a namespace by the id that the kernel gave it in this one
// (ip-netns(8)), false if it is none that the agent knows.
func devices(netns uint32, links []netlink.Link, resolve func(nsid int) (uint32, bool)) []device {
	list := make([]device, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		d := device{
			place: flowbpf.Place{NetNS: netns, Ifindex: uint32(a.Index)}, name: a.Name, kind: l.Type(),
			up: a.RawFlags&flagUp != 0, loopback: a.RawFlags&flagLoopback != 0,
		}
		if a.MasterIndex != 0 {
			d.master = flowbpf.Place{NetNS: netns, Ifindex: uint32(a.MasterIndex)}
		}
		d.tie(l, resolve)
		list = append(list, d)
	}
	return list
}

// tie finds the interface that IFLA_LINK names, or the one that a VXLAN device
// sends through: a peer or a parent, maybe in another namespace.
func (d *device) tie(l netlink.Link, resolve func(int) (uint32, bool)) {
	a := l.Attrs()
	other := flowbpf.Place{NetNS: d.place.NetNS, Ifindex: uint32(a.ParentIndex)}
	if v, ok := l.(*netlink.Vxlan); ok {
		other.Ifindex = uint32(v.VtepDevIndex)
	}
	pair := d.kind == "veth" || d.kind == "netkit"
	if a.NetNsID >= 0 {
		if pair {
			d.peerSpace = uint32(a.NetNsID) + 1
		}
		n, ok := resolve(a.NetNsID)
		if !ok {
			return
		}
		other.NetNS = n
	}
	switch {
	case other.Ifindex == 0 || other == d.place:
	case pair:
		d.peer = other
	default:
		d.lower = other
	}
}

// The kinds of interface above others. All packets that pass a switch also pass
// one of its ports, and a port's packets go to any other port; a bundle spreads its
// packets over its ports, and gets those of all of them; the rest is a view of its
// master's ports.
var (
	switches = []string{"bridge", "openvswitch"}
	bundles  = []string{"bond", "team"}
	views    = []string{"vrf", "hsr"}
	// stacked have a lower interface that all their packets pass too.
	stacked = []string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"}
)

func (d *device) is(kinds []string) bool { return slices.Contains(kinds, d.kind) }
