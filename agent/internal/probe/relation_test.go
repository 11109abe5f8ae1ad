package probe

import (
	"fmt"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// tied is a notation of devices: name, kind, and the names of master, lower device and peer.
func tied(list ...[5]string) []device {
	places := make(map[string]flowbpf.Place)
	devices := make([]device, len(list))
	for i, d := range list {
		places[d[0]] = flowbpf.Place{Ifindex: uint32(i + 1)}
		if len(d[0]) > 2 && d[0][1] == '/' { // "1/eth0": in namespace 1
			p := places[d[0]]
			p.NetNS = uint32(d[0][0] - '0')
			places[d[0]] = p
		}
	}
	for i, d := range list {
		devices[i] = device{place: places[d[0]], name: d[0], kind: d[1], master: places[d[2]], lower: places[d[3]], peer: places[d[4]]}
	}
	return devices
}

func TestWhichInterfacesAreRelated(t *testing.T) {
	for _, c := range []struct {
		name    string
		devices []device
		related []string // "a b"; all other pairs are not
	}{
		{"two uplinks that the host routes between are not", tied([5]string{"eth0"}, [5]string{"eth1"}), nil},
		{"a bridge and its ports", tied([5]string{"br0", "bridge"}, [5]string{"eth0", "", "br0"}, [5]string{"veth1", "veth", "br0"}),
			[]string{"br0 eth0", "br0 veth1", "eth0 veth1"}},
		{"a bond and each of its ports, but not two of its ports", tied([5]string{"bond0", "bond"}, [5]string{"eth0", "", "bond0"}, [5]string{"eth1", "", "bond0"}),
			[]string{"bond0 eth0", "bond0 eth1"}},
		{"a VLAN and its parent, but not two VLANs", tied([5]string{"eth0"}, [5]string{"eth0.1", "vlan", "", "eth0"}, [5]string{"eth0.2", "vlan", "", "eth0"}),
			[]string{"eth0 eth0.1", "eth0 eth0.2"}},
		{"the two ends of a veth pair", tied([5]string{"p0", "veth", "", "", "p1"}, [5]string{"p1", "veth", "", "", "p0"}, [5]string{"eth0"}), []string{"p0 p1"}},
		{"a pair of which only one end knows the other", tied([5]string{"p0", "veth"}, [5]string{"1/p1", "veth", "", "", "p0"}), []string{"p0 1/p1"}},
		{"from a container through its bridge to a port of the bond in it", tied(
			[5]string{"1/eth0", "veth", "", "", "veth1"}, [5]string{"veth1", "veth", "br0", "", "1/eth0"}, [5]string{"br0", "bridge"},
			[5]string{"bond0", "bond", "br0"}, [5]string{"eth0", "", "bond0"}, [5]string{"eth1", "", "bond0"}),
			[]string{"1/eth0 veth1", "1/eth0 br0", "1/eth0 bond0", "1/eth0 eth0", "1/eth0 eth1", "veth1 br0", "veth1 bond0", "veth1 eth0", "veth1 eth1",
				"br0 bond0", "br0 eth0", "br0 eth1", "bond0 eth0", "bond0 eth1"}},
		{"two bridges over two VLANs of one uplink are apart", tied(
			[5]string{"eth0"}, [5]string{"eth0.1", "vlan", "br1", "eth0"}, [5]string{"eth0.2", "vlan", "br2", "eth0"}, [5]string{"br1", "bridge"}, [5]string{"br2", "bridge"}),
			[]string{"eth0 eth0.1", "eth0 br1", "eth0.1 br1", "eth0 eth0.2", "eth0 br2", "eth0.2 br2"}},
		{"the same VLAN of a container's interface and of the bridge", tied(
			[5]string{"1/eth0", "veth", "", "", "veth1"}, [5]string{"1/eth0.7", "vlan", "", "1/eth0"}, [5]string{"veth1", "veth", "br0"},
			[5]string{"br0", "bridge"}, [5]string{"br0.7", "vlan", "", "br0"}),
			[]string{"1/eth0 veth1", "1/eth0 br0", "1/eth0 1/eth0.7", "1/eth0 br0.7", "veth1 br0", "veth1 1/eth0.7", "veth1 br0.7", "br0 1/eth0.7", "br0 br0.7", "1/eth0.7 br0.7"}},
		{"two bridges joined by a pair", tied(
			[5]string{"a", "", "br1"}, [5]string{"br1", "bridge"}, [5]string{"p1", "veth", "br1", "", "p2"}, [5]string{"p2", "veth", "br2", "", "p1"}, [5]string{"br2", "bridge"}, [5]string{"b", "", "br2"}),
			[]string{"a br1", "a p1", "a p2", "a br2", "a b", "br1 p1", "br1 p2", "br1 br2", "br1 b", "p1 p2", "p1 br2", "p1 b", "p2 br2", "p2 b", "br2 b"}},
		{"a tunnel and the device below it", tied([5]string{"eth0"}, [5]string{"vxlan1", "vxlan", "", "eth0"}, [5]string{"eth1"}), []string{"eth0 vxlan1"}},
		{"a VRF and its ports", tied([5]string{"red", "vrf"}, [5]string{"eth0", "", "red"}, [5]string{"eth1", "", "red"}), []string{"red eth0", "red eth1"}},
		{"devices in a circle, which the kernel forbids", tied([5]string{"a", "vlan", "", "b"}, [5]string{"b", "vlan", "", "a"}), []string{"a b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := make(map[string]bool)
			for _, pair := range c.related {
				want[pair] = true
			}
			r := relate(c.devices)
			for i := range c.devices {
				for j := range c.devices {
					a, b := &c.devices[i], &c.devices[j]
					pair := a.name + " " + b.name
					if i > j {
						pair = b.name + " " + a.name
					}
					if got := r.related(a.place, b.place); got != (i == j || want[pair] || want[b.name+" "+a.name] || want[a.name+" "+b.name]) {
						t.Errorf("%s and %s: related is %v", a.name, b.name, got)
					}
				}
			}
		})
	}
}

func TestUnknownPlacesAreRelatedToThemselvesAlone(t *testing.T) {
	a, b := flowbpf.Place{Ifindex: 1}, flowbpf.Place{Ifindex: 2}
	for _, r := range []*relations{nil, relate(nil), relate([]device{{place: a}})} {
		if r.related(a, b) || r.related(b, a) || !r.related(b, b) {
			t.Errorf("%+v", r)
		}
	}
}

func TestWhatLiesBelowIsBounded(t *testing.T) {
	list := []device{{place: flowbpf.Place{Ifindex: 1}, kind: "bond"}}
	for i := range uint32(10 * maxBelow) {
		list = append(list, device{place: flowbpf.Place{Ifindex: i + 2}, master: list[0].place})
	}
	r := relate(list)
	for _, below := range r.below {
		if len(below) > maxBelow {
			t.Errorf("%d below", len(below))
		}
	}
}

func BenchmarkRelated(b *testing.B) {
	list := []device{{place: flowbpf.Place{Ifindex: 1}, kind: "bridge"}}
	for i := range uint32(1000) {
		list = append(list, device{place: flowbpf.Place{Ifindex: i + 2}, name: fmt.Sprint("veth", i), master: list[0].place})
	}
	r := relate(list)
	for i := range b.N {
		if !r.related(list[i%1000+1].place, list[0].place) {
			b.Fatal("not related")
		}
	}
}
