package flowbpf

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// inside says which tunnel the flow comes in.
func (p *parsed) inside(tunnel uint8, id uint32) *parsed { p.tunnel, p.tunnelID = tunnel, id; return p }

var outer = ip4{src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr("192.0.2.2")}

// of returns a packet between the tunnel's ends.
func (h ip4) of(proto uint8, payload ...[]byte) []byte { h.proto = proto; return h.with(payload...) }

func tunnelCases(seg []byte) []parseCase {
	p4, p6 := ip4{proto: 6}.with(seg), ip6{next: 6}.with(seg)
	e4 := ether(typeIP4, p4)
	want := func() *parsed { return v4(6, 1234, 80, ack|psh) }
	want6 := func() *parsed { return v6(6, 1234, 80, ack|psh) }
	ends := func(proto uint8, sport, dport uint16) *parsed {
		return &parsed{src: outer.src, dst: outer.dst, proto: proto, sport: sport, dport: dport}
	}
	wrap := func(proto uint8, payload ...[]byte) []byte { return ether(typeIP4, outer.of(proto, payload...)) }
	return []parseCase{
		{name: "VXLAN", frame: wrap(17, vxlan(4789, 8, 0xabcdef, e4)), want: want().inside(inVXLAN, 0xabcdef)},
		{name: "VXLAN at Linux' first port", frame: wrap(17, vxlan(8472, 8, 7, e4)), want: want().inside(inVXLAN, 7)},
		{name: "VXLAN with bits of a group policy", frame: wrap(17, vxlan(4789, 0x88, 7, e4)), want: want().inside(inVXLAN, 7)},
		{name: "VXLAN over IPv6", frame: ether(typeIP6, ip6{next: 17}.with(vxlan(4789, 8, 7, e4))), want: want().inside(inVXLAN, 7)},
		{name: "IPv6 in VXLAN in a VLAN", frame: ether(typeVLAN, tag(5, typeIP4), outer.of(17, vxlan(4789, 8, 7, ether(typeIP6, p6)))), want: want6().inside(inVXLAN, 7).tagged(5, 0)},
		{name: "VLAN tags inside a tunnel are not the packet's", frame: wrap(17, vxlan(4789, 8, 7, ether(typeVLAN, tag(9, typeIP4), p4))), want: want().inside(inVXLAN, 7)},
		{name: "VXLAN with its generic extension, IPv4", frame: wrap(17, lieAt(vxlan(4789, 12, 7, p4), 11, 1)), want: want().inside(inVXLAN, 7)},
		{name: "VXLAN with its generic extension, network service header", frame: wrap(17, lieAt(vxlan(4789, 12, 7, p4), 11, 4)), want: ends(17, 49152, 4789), reason: notIP},
		{name: "VXLAN without the bit that says the id is valid", frame: wrap(17, vxlan(4789, 0, 7, e4)), want: ends(17, 49152, 4789), reason: badHeader},
		{name: "an answer to the port of VXLAN is none", frame: wrap(17, be16(4789, 49152, 8+8, 0), e4), want: ends(17, 4789, 49152)},
		{name: "a VXLAN header that ends beyond the UDP datagram", frame: wrap(17, vxlan(4789, 8, 7)[:12]), want: ends(17, 49152, 4789), reason: badHeader},
		{name: "ARP in VXLAN", frame: wrap(17, vxlan(4789, 8, 7, ether(typeARP, make([]byte, 28)))), want: ends(17, 49152, 4789), reason: notIP},
		{name: "a packet in VXLAN that is cut off", frame: wrap(17, vxlan(4789, 8, 7, e4))[:14+20+16+14+12], want: ends(17, 49152, 4789), reason: truncated},
		{name: "a packet in VXLAN with a header length of 16", frame: wrap(17, vxlan(4789, 8, 7, ether(typeIP4, ip4{proto: 6, lie: set(0, 0x44)}.with(seg)))), want: ends(17, 49152, 4789), reason: badHeader},
		{name: "a packet in VXLAN that claims to end beyond the one around it", frame: wrap(17, vxlan(4789, 8, 7, ether(typeIP4, ip4{proto: 6, lie: set(2, 255, 255)}.with(seg)))), want: want().inside(inVXLAN, 7)},
		{name: "Ethernet padding is not what VXLAN carries", frame: pad(wrap(17, vxlan(4789, 8, 7, ether(typeIP4))), 120), want: ends(17, 49152, 4789), reason: badHeader},
		{name: "Geneve", frame: wrap(17, geneve(9, 0, typeEther, e4)), want: want().inside(inGeneve, 9)},
		{name: "Geneve with 252 bytes of options", frame: wrap(17, geneve(9, 63, typeEther, e4)), want: want().inside(inGeneve, 9)},
		{name: "Geneve with IPv6 and no Ethernet", frame: wrap(17, geneve(9, 1, typeIP6, p6)), want: want6().inside(inGeneve, 9)},
		{name: "Geneve with options that end beyond the packet", frame: wrap(17, lieAt(geneve(9, 0, typeEther, e4), 8, 63)), want: ends(17, 49153, 6081), reason: truncated},
		{name: "Geneve of version 1", frame: wrap(17, lieAt(geneve(9, 0, typeEther, e4), 8, 0x40)), want: ends(17, 49153, 6081), reason: badHeader},
		{name: "Geneve for the tunnel's ends", frame: wrap(17, lieAt(geneve(9, 0, typeEther, e4), 9, 0x80)), want: ends(17, 49153, 6081), reason: notIP},
		{name: "GRE", frame: wrap(47, gre(0, typeIP4, 0, p4)), want: want().inside(inGRE, 0)},
		{name: "GRE with checksum, key and sequence number", frame: wrap(47, gre(0xb000, typeIP4, 0xfedcba98, p4)), want: want().inside(inGRE, 0xfedcba98)},
		{name: "IPv6 in GRE", frame: wrap(47, gre(0x1000, typeIP6, 0, p6)), want: want6().inside(inGRE, 0)},
		{name: "Ethernet in GRE in IPv6", frame: ether(typeIP6, ip6{next: 47}.with(gre(0x2000, typeEther, 3, e4))), want: want().inside(inGRE, 3)},
		{name: "GRE with a checksum alone has no key", frame: wrap(47, gre(0x8000, typeIP4, 0, p4)), want: want().inside(inGRE, 0)},
		{name: "GRE of PPTP", frame: wrap(47, be16(0x3001, 0x880b, 4, 1), make([]byte, 12)), want: ends(47, 0, 0), reason: notIP},
		{name: "GRE with routing", frame: wrap(47, gre(0x4000, typeIP4, 0, p4)), want: ends(47, 0, 0), reason: notIP},
		{name: "MPLS in GRE", frame: wrap(47, gre(0, typeMPLS, 0, p4)), want: ends(47, 0, 0), reason: notIP},
		{name: "a GRE key beyond the packet", frame: wrap(47, be16(0x2000, typeIP4)), want: ends(47, 0, 0), reason: badHeader},
		{name: "IPv4 in IPv4", frame: wrap(4, p4), want: want().inside(inIPIP, 0)},
		{name: "IPv6 in IPv4", frame: wrap(41, p6), want: want6().inside(inIPIP, 0)},
		{name: "IPv4 in IPv6", frame: ether(typeIP6, ip6{next: 4}.with(p4)), want: want().inside(inIPIP, 0)},
		{name: "IPv6 in IPv6 behind destination options", frame: ether(typeIP6, ip6{next: 60}.with(extension(41, 0), ip6{src: ip6b, dst: ip6a, next: 17}.with(udp(1, 2, 3)))), want: (&parsed{src: ip6b, dst: ip6a, sport: 1, dport: 2, proto: 17}).inside(inIPIP, 0)},
		{name: "IPv6 where protocol 4 says IPv4", frame: wrap(4, p6), want: ends(4, 0, 0), reason: badHeader},
		{name: "nothing in IPv4 in IPv4", frame: wrap(4), want: ends(4, 0, 0), reason: badHeader},
		{name: "GRE in VXLAN", frame: wrap(17, vxlan(4789, 8, 7, ether(typeIP4, outer.of(47, gre(0x2000, typeIP4, 3, p4))))), want: want().inside(inGRE, 3)},
		{name: "a tunnel without id in one with an id has none", frame: wrap(17, vxlan(4789, 8, 7, ether(typeIP4, outer.of(4, p4)))), want: want().inside(inIPIP, 0)},
		{name: "three tunnels inside each other", frame: wrap(47, gre(0, typeIP4, 0, outer.of(4, outer.of(17, vxlan(4789, 8, 7, e4))))), want: ends(17, 49152, 4789).inside(inIPIP, 0), reason: tooDeep},
		{name: "a hundred tunnels inside each other", frame: wrap(4, nested(100, p4)), want: ends(4, 0, 0).inside(inIPIP, 0), reason: tooDeep},
		{name: "damage in the second tunnel leaves the first", frame: wrap(17, vxlan(4789, 8, 7, ether(typeIP4, outer.of(4, make([]byte, 40))))), want: ends(4, 0, 0).inside(inVXLAN, 7), reason: badHeader},
		{name: "PPPoE with IPv4", frame: ether(typePPPoE, pppoe(0x21, p4)), want: want()},
		{name: "PPPoE with IPv6 in a VLAN", frame: ether(typeVLAN, tag(7, typePPPoE), pppoe(0x57, p6)), want: want6().tagged(7, 0)},
		{name: "PPPoE with its own control protocol", frame: pad(ether(typePPPoE, pppoe(0xc021, make([]byte, 20))), 60), reason: notIP},
		{name: "PPPoE of version 2", frame: ether(typePPPoE, lieAt(pppoe(0x21, p4), 0, 0x21)), reason: badHeader},
		{name: "MPLS", frame: ether(typeMPLS, make([]byte, 4), p4), reason: notIP},
		{name: "LLC with SNAP", frame: ether(60, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, p4), reason: notIP},
		{name: "an authentication header over IPv4", frame: ether(typeIP4, ip4{proto: 51}.with(extension(6, 4)[:24], seg)), want: want()},
	}
}

// lieAt returns b with one byte changed.
func lieAt(b []byte, at int, v byte) []byte {
	b = join(b)
	b[at] = v
	return b
}

// nested puts IPv4 into IPv4 a number of times.
func nested(times int, p []byte) []byte {
	for range times {
		p = outer.of(4, p)
	}
	return p
}

// In a tunnel of the kernel's own: super-packets with headers around headers, and
// datagrams that only the tunnel makes too large for the wire.
func TestVXLANOfTheKernelIsCountedAsOnTheWire(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(l.index()), 0))
	l.up(t)
	l.inFar(t, func() { must(t, vxlanDevice(nearIP, net.IPv4(10, 78, 0, 2))) })
	must(t, vxlanDevice(farIP, net.IPv4(10, 78, 0, 1)))
	l.sink(t)
	far := net.IPv4(10, 78, 0, 2)

	const payload = 4 << 20
	c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: far, Port: 7})
	must(t, err)
	sendAll(t, c, payload)
	const datagram = 2500
	u, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: far, Port: 7})
	must(t, err)
	defer u.Close()
	_, err = u.Write(make([]byte, datagram))
	must(t, err)
	time.Sleep(50 * time.Millisecond)
	segments, again := outSegments(t)
	entries, totals := drain(t, d)
	stream, message := insideEntry(t, entries, protoTCP, far), insideEntry(t, entries, protoUDP, far)

	// Each segment travels in Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4 and TCP
	// with time stamps.
	const headers = 14 + 20 + 8 + 8 + 14 + 20 + 32
	checkStream(t, stream.Side[0], payload, headers, segments, again)
	// Fragments of the packet inside travel in a tunnel's packet each.
	const around = 14 + 20 + 8 + 8
	if want := (Counters{2, 8 + datagram + 2*(around+14+20)}); message.Side[0].Counters != want {
		t.Errorf("a datagram of %d bytes counts %+v, want two fragments inside, %+v", datagram, message.Side[0].Counters, want)
	}
	if point := pointOf(totals, l.index(), Egress); point.Recorded != point.Seen {
		other := point.Other // ARP, outside and inside
		other.Add(point.Recorded)
		if other != point.Seen {
			t.Errorf("totals %+v, want all recorded but ARP", point)
		}
	}

	// The tunnel's own packet is in fragments: the first alone has headers.
	tunnel, err := netlink.LinkByName("ebbvxlan")
	must(t, err)
	must(t, netlink.LinkSetMTU(tunnel, 4000))
	_, err = u.Write(make([]byte, datagram))
	must(t, err)
	time.Sleep(50 * time.Millisecond)
	entries, _ = drain(t, d)
	message = insideEntry(t, entries, protoUDP, far)
	if want := (Counters{2, 20 + 14 + 20 + 8 + datagram + 8 + 8 + 14 + 14 + 20}); message.Side[0].Counters != want {
		t.Errorf("a datagram of %d bytes counts %+v, want two fragments outside, %+v", datagram, message.Side[0].Counters, want)
	}
}

// What comes in are the same super-packets, but no kernel said what they become.
func TestVXLANSuperPacketsThatComeInAreCounted(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(l.index()), 0))
	l.up(t)
	must(t, vxlanDevice(farIP, net.IPv4(10, 78, 0, 1)))
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: 7})
	must(t, err)
	defer listener.Close()
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	const payload = 4 << 20
	var segments, again uint64
	l.inFar(t, func() {
		must(t, vxlanDevice(nearIP, net.IPv4(10, 78, 0, 2)))
		c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(10, 78, 0, 1), Port: 7})
		must(t, err)
		sendAll(t, c, payload)
		time.Sleep(50 * time.Millisecond)
		segments, again = outSegments(t)
	})
	entries, _ := drain(t, d)
	stream := insideEntry(t, entries, protoTCP, net.IPv4(10, 78, 0, 2))
	checkStream(t, stream.Side[1], payload, 14+20+8+8+14+20+32, segments, again)
	if stream.FirstDirection != Ingress {
		t.Errorf("the first packet passed %s", stream.FirstDirection)
	}
}

// sendAll writes so many bytes and waits until the other end has them.
func sendAll(t *testing.T, c *net.TCPConn, payload int) {
	t.Helper()
	_, err := c.Write(make([]byte, payload))
	must(t, err)
	must(t, c.CloseWrite())
	_, _ = c.Read(make([]byte, 1)) // the other end's FIN
	must(t, c.Close())
}

// checkStream holds what one side sent against the kernel's segments, of which
// each has so many bytes of headers; the SYN has 8 bytes of options more.
func checkStream(t *testing.T, sent Side, payload, headers, segments, again uint64) {
	t.Helper()
	if sent.Packets < segments || sent.Packets > segments+again {
		t.Errorf("%d packets, the kernel sent %d segments and %d again", sent.Packets, segments, again)
	}
	if want := payload + segments*headers + 8; sent.Bytes < want || sent.Bytes > want+again*(1448+headers) {
		t.Errorf("%d bytes, want %d and up to %d segments more", sent.Bytes, want, again)
	}
}

// insideEntry returns the entry of a protocol that was sent to addr.
func insideEntry(t *testing.T, entries []Entry, proto uint8, addr net.IP) Entry {
	t.Helper()
	to, _ := netip.AddrFromSlice(addr.To4())
	for _, e := range entries {
		if e.Proto == proto && e.B == to && e.Tunnel == inVXLAN && e.TunnelID == 7 {
			return e
		}
	}
	t.Fatalf("no entry of protocol %d to %s: %+v", proto, to, entries)
	return Entry{}
}

// vxlanDevice adds ebbvxlan to peer. Its MTU is free, as it is bound to no device.
func vxlanDevice(peer, ip net.IP) error {
	v := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "ebbvxlan", MTU: 1450}, VxlanId: 7, Port: 4789, Group: peer}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("add ebbvxlan: %w", err)
	}
	return address("ebbvxlan", ip)
}

func TestPortsOfTunnelsAreConfigured(t *testing.T) {
	inVX := func(port uint16) []byte {
		return ether(typeIP4, outer.of(17, vxlan(port, 8, 7, ether(typeIP4, ip4{proto: 17}.with(udp(1000, 2000, 9))))))
	}
	plain := func(port uint16) *parsed {
		return &parsed{src: outer.src, dst: outer.dst, sport: 49152, dport: port, proto: 17}
	}
	inside := func() *parsed { return v4(17, 1000, 2000, 0).inside(inVXLAN, 7) }
	cases := []struct {
		name    string
		tunnels Tunnels
		frames  [][]byte
		want    []*parsed
	}{
		{"one port of one's own", Tunnels{VXLANPorts: []uint16{9999}}, [][]byte{inVX(9999), inVX(4789), inVX(0)}, []*parsed{inside(), plain(4789), plain(0)}},
		{"none", Tunnels{}, [][]byte{inVX(4789), inVX(0)}, []*parsed{plain(4789), plain(0)}},
	}
	for _, c := range cases {
		for _, general := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				d := load(t, func(cfg *Config) { cfg.Tunnels, cfg.generalParser = c.tunnels, general })
				checkFlows(t, d, c.frames, c.want)
			})
		}
	}
	for name, bad := range map[string]Tunnels{
		"three ports":             {VXLANPorts: []uint16{1, 2, 3}},
		"the same port twice":     {VXLANPorts: []uint16{1, 1}},
		"port 0":                  {VXLANPorts: []uint16{0}},
		"a port that is Geneve's": {VXLANPorts: []uint16{6081}, GenevePort: 6081},
	} {
		cfg := DefaultConfig()
		cfg.Tunnels = bad
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
