package app_test

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

// path is a way of one packet past several interfaces of the test's namespace.
type path struct {
	name    string
	include []string // "" for the default
	build   func(t *testing.T) ends
	want    string // the interfaces, sorted; the first is that of the record
	place   string // the interface of the record, if it is not one of several
	tunnel  ebbwatch.Tunnel
	id      uint32
	netns   string // of the record
	adjust  func(*app.Config)
}

// ends are who talks to whom. A nil host is the test's namespace.
type ends struct {
	client, server *host
	address        string // of the server
	watched        int
}

func (h *host) at(t *testing.T, f func() error) {
	t.Helper()
	if h != nil {
		h.run(f)
	} else if err := f(); err != nil {
		t.Fatal(err)
	}
}

// One TCP connection and one UDP exchange are one record each, with the packets
// and bytes of one sighting, whatever they pass.
func (p *path) check(t *testing.T) {
	quiet(t)
	e := p.build(t)
	r := runAgent(t, func(cfg *app.Config) {
		cfg.DrainInterval = time.Minute // the drain at the end is the only one
		if p.include != nil {
			cfg.Interfaces.Include = p.include
		}
		if p.adjust != nil {
			p.adjust(cfg)
		}
	})
	r.watches(e.watched)
	tcp, udp := net.JoinHostPort(e.address, "7000"), net.JoinHostPort(e.address, "7001")
	e.server.at(t, func() error { return cmp.Or(serveTCP(t, tcp, 3000), serveUDP(t, udp)) })
	var call, query string
	e.client.at(t, func() (err error) {
		if _, call, err = callTCP(tcp, 20_000); err != nil {
			return err
		}
		query, err = sendUDP(udp, 6, 100, 3)
		return err
	})
	time.Sleep(50 * time.Millisecond) // the last ACK
	flows, seen := r.finishRepeated()

	f := only(t, flows, ebbwatch.ProtoUDP, query, udp)
	if f.SrcPackets != 6 || f.DstPackets != 3 || f.SrcBytes != 6*142 || f.DstBytes != 3*142 {
		t.Errorf("UDP: %d/%d packets, %d/%d bytes", f.SrcPackets, f.DstPackets, f.SrcBytes, f.DstBytes)
	}
	p.places(t, "UDP", &f)
	f = only(t, flows, ebbwatch.ProtoTCP, call, tcp)
	// Headers of 66 bytes, and 8 more in the SYN and its answer.
	if f.ConnState != ebbwatch.StateSF || f.SrcBytes != 20_000+66*f.SrcPackets+8 || f.DstBytes != 3000+66*f.DstPackets+8 {
		t.Errorf("TCP: %v, %d/%d packets, %d/%d bytes", f.ConnState, f.SrcPackets, f.DstPackets, f.SrcBytes, f.DstBytes)
	}
	p.places(t, "TCP", &f)
	for name, c := range seen {
		if c.Packets < 9+f.SrcPackets+f.DstPackets {
			t.Errorf("%s saw %d packets: the test needs each to see all", name, c.Packets)
		}
	}
}

func (p *path) places(t *testing.T, what string, f *ebbwatch.Flow) {
	t.Helper()
	names := strings.Fields(f.Interfaces)
	if len(names) == 0 {
		names = []string{f.Interface}
	}
	if names[0] != f.Interface {
		t.Errorf("%s: recorded at %s, interfaces %s", what, f.Interface, f.Interfaces)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != p.want {
		t.Errorf("%s: seen by %s, want %s", what, got, p.want)
	}
	for side, own := range []ebbwatch.Owner{f.SrcOwner, f.DstOwner} { // this process is at both ends
		if !strings.HasPrefix(own.Process, "app.test") {
			t.Errorf("%s: side %d belongs to %+v", what, side, own)
		}
	}
	if f.NetNS != p.netns {
		t.Errorf("%s: recorded in namespace %q, want %q", what, f.NetNS, p.netns)
	}
	if f.Tunnel != p.tunnel || f.TunnelID != p.id || p.place != "" && f.Interface != p.place {
		t.Errorf("%s: tunnel %v %d, recorded at %s", what, f.Tunnel, f.TunnelID, f.Interface)
	}
}

// only returns the single record between two endpoints.
func only(t *testing.T, flows []ebbwatch.Flow, proto uint8, src, dst string) ebbwatch.Flow {
	t.Helper()
	n := 0
	for _, f := range flows {
		if f.Proto == proto && net.JoinHostPort(f.Src.String(), fmt.Sprint(f.SrcPort)) == src && net.JoinHostPort(f.Dst.String(), fmt.Sprint(f.DstPort)) == dst {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d records of %s > %s, want 1; all:\n%s", n, src, dst, list(flows))
	}
	return conversation(t, flows, proto, src, dst)
}

// quiet keeps the kernel's own IPv6 packets out of the namespace.
func quiet(t *testing.T) {
	t.Helper()
	for _, s := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+s+"/disable_ipv6", []byte("1"), 0o644); err != nil {
			t.Logf("IPv6 stays: %v", err)
		}
	}
}

// plug makes a veth pair from here into h, and gives the far end an address if it is not "".
func (h *host) plug(near, far, cidr string) {
	h.t.Helper()
	var fd int
	h.run(func() (err error) {
		quiet(h.t)
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = near
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerNamespace: netlink.NsFd(fd)}); err != nil {
		h.t.Fatalf("add veth: %v", err)
	}
	up(h.t, near)
	h.run(func() error { return number(far, cidr) })
}

// number gives the interface an IPv4 address, if it is not "", and sets it up.
func number(name, cidr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", cidr, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// bridge makes a bridge of these ports.
func bridge(t *testing.T, name, cidr string, ports ...string) {
	t.Helper()
	br := &netlink.Bridge{LinkAttrs: named(name)}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		link, err := netlink.LinkByName(p)
		if err == nil {
			err = netlink.LinkSetMaster(link, br)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := number(name, cidr); err != nil {
		t.Fatal(err)
	}
}

func forward(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func vlan(name, parent string, id int, cidr string) error {
	link, err := netlink.LinkByName(parent)
	if err != nil {
		return err
	}
	a := named(name)
	a.ParentIndex = link.Attrs().Index
	if err := netlink.LinkAdd(&netlink.Vlan{LinkAttrs: a, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}); err != nil {
		return err
	}
	return number(name, cidr)
}

func vxlan(name, below, local, remote, cidr string) error {
	link, err := netlink.LinkByName(below)
	if err != nil {
		return err
	}
	v := &netlink.Vxlan{LinkAttrs: named(name), VxlanId: 42, VtepDevIndex: link.Attrs().Index, SrcAddr: net.ParseIP(local), Group: net.ParseIP(remote), Port: 4789, Learning: true}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	return number(name, cidr)
}

// container and other host on one network, by the bridge of the test's namespace.
func switched(t *testing.T) ends {
	c, o := newHost(t), newHost(t)
	c.plug("veth1", "eth0", "10.9.0.2/24")
	o.plug("up0", "eth0", "10.9.0.3/24")
	bridge(t, "br0", "", "veth1", "up0")
	return ends{c, o, "10.9.0.3", 2}
}

// A container behind a bridge that the host routes to the other host.
func routed(t *testing.T) ends {
	forward(t)
	c, o := newHost(t), newHost(t)
	c.plug("veth1", "eth0", "10.9.0.2/24")
	o.plug("up0", "eth0", "10.8.0.2/24")
	bridge(t, "br0", "10.9.0.1/24", "veth1")
	if err := number("up0", "10.8.0.1/24"); err != nil {
		t.Fatal(err)
	}
	c.run(func() error { return route("10.8.0.0/24", "10.9.0.1") })
	o.run(func() error { return route("10.9.0.0/24", "10.8.0.1") })
	return ends{c, o, "10.8.0.2", 2}
}

func overMacvlan(t *testing.T) ends {
	o := newHost(t)
	o.plug("up0", "eth0", "10.7.0.2/24")
	a := named("mac0")
	a.ParentIndex = up(t, "up0").Attrs().Index
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		t.Fatal(err)
	}
	if err := number("mac0", "10.7.0.1/24"); err != nil {
		t.Fatal(err)
	}
	return ends{nil, o, "10.7.0.2", 2}
}

func withWatched(build func(*testing.T) ends, n int) func(*testing.T) ends {
	return func(t *testing.T) ends {
		e := build(t)
		e.watched = n
		return e
	}
}

// With drains in its midst, too: whatever interval a packet's sightings fall into,
// it is recorded once.
func TestAConversationOfManyDrainsIsRecordedOnce(t *testing.T) {
	for _, p := range []path{
		{name: "through a bridge", build: switched},
		{name: "with the bridge watched", include: []string{"*0", "veth*"}, build: withWatched(routed, 3)},
		{name: "over a macvlan", include: []string{"up0", "mac0"}, build: overMacvlan},
		{name: "with both ends of a container's pair", include: []string{"eth0", "veth1"}, build: contained(switched, 2)},
	} {
		t.Run(p.name, func(t *testing.T) {
			if !isolated(t) {
				return
			}
			quiet(t)
			e := p.build(t)
			r := runAgent(t, func(cfg *app.Config) {
				cfg.DrainInterval, cfg.Interfaces.Include, cfg.Interfaces.Namespaces = 100*time.Millisecond, p.include, true
			})
			r.watches(e.watched)
			address := net.JoinHostPort(e.address, "7001")
			e.server.at(t, func() error { return serveUDP(t, address) })
			stop := stream(t, e.client, address)
			time.Sleep(2 * time.Second)
			sent, answered := stop()
			flows, _ := r.finishRepeated()
			var src, dst uint64
			for _, f := range flows {
				if f.Proto == ebbwatch.ProtoUDP && f.DstPort == 7001 {
					src, dst = src+f.SrcPackets, dst+f.DstPackets
				}
			}
			if src != uint64(sent) || dst != uint64(answered) || sent < 100 {
				t.Errorf("%d/%d packets recorded, %d/%d sent", src, dst, sent, answered)
			}
		})
	}
}

// tagged is the path that not every kernel can build.
const tagged = "with a VLAN over the uplink"

func TestOneConversationIsOneRecordWhateverItPasses(t *testing.T) {
	for _, p := range []path{
		{name: "from a container through a bridge to another host", build: switched, want: "up0 veth1"},
		{name: "from another host through a bridge to a container", want: "up0 veth1", build: func(t *testing.T) ends {
			e := switched(t)
			return ends{e.server, e.client, "10.9.0.2", 2}
		}},
		{name: "routed between a bridge and an uplink", build: routed, want: "up0 veth1"},
		{name: "and with the bridge watched", include: []string{"*0", "veth*"}, build: withWatched(routed, 3), want: "br0 up0 veth1"},
		{name: tagged, include: []string{"up0*"}, want: "up0 up0.7", build: func(t *testing.T) ends {
			o := newHost(t)
			o.plug("up0", "eth0", "")
			o.run(func() error { return vlan("eth0.7", "eth0", 7, "10.7.0.2/24") })
			if err := vlan("up0.7", "up0", 7, "10.7.0.1/24"); err != nil {
				t.Fatal(err)
			}
			return ends{nil, o, "10.7.0.2", 2}
		}},
		{name: "with a macvlan over the uplink", include: []string{"up0", "mac0"}, want: "mac0 up0", build: overMacvlan},
		{name: "in a VXLAN over the uplink", want: "up0 vx0", place: "vx0", tunnel: ebbwatch.TunnelVXLAN, id: 42, build: func(t *testing.T) ends {
			o := newHost(t)
			o.plug("up0", "eth0", "10.8.0.2/24")
			o.run(func() error { return vxlan("vx0", "eth0", "10.8.0.2", "10.8.0.1", "10.7.0.2/24") })
			if err := cmp.Or(number("up0", "10.8.0.1/24"), vxlan("vx0", "up0", "10.8.0.1", "10.8.0.2", "10.7.0.1/24")); err != nil {
				t.Fatal(err)
			}
			return ends{nil, o, "10.7.0.2", 2}
		}},
		{name: "by a pair of which both ends are here", want: "p0 p1 up0", build: func(t *testing.T) ends {
			o := newHost(t)
			o.plug("up0", "eth0", "10.9.0.2/24")
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: named("p0"), PeerName: "p1"}); err != nil {
				t.Fatal(err)
			}
			bridge(t, "br0", "", "p1", "up0")
			if err := number("p0", "10.9.0.1/24"); err != nil {
				t.Fatal(err)
			}
			up(t, "p1")
			return ends{nil, o, "10.9.0.2", 3}
		}},
		{name: "on this host alone", include: []string{"lo"}, want: "lo", build: func(*testing.T) ends { return ends{nil, nil, "127.0.0.1", 1} }},
		{name: "to an uplink's own address", include: []string{"lo"}, want: "lo", build: func(t *testing.T) ends {
			newHost(t).plug("up0", "eth0", "")
			if err := number("up0", "10.8.0.1/24"); err != nil {
				t.Fatal(err)
			}
			return ends{nil, nil, "10.8.0.1", 1}
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			if !inNamespace(t) {
				return
			}
			if p.name == tagged && errors.Is(vlan("lo.9", "lo", 9, ""), unix.EOPNOTSUPP) {
				t.Log("not run: this kernel is built without VLAN_8021Q")
				return
			}
			p.check(t)
		})
	}
}
