package flowbpf

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
)

// parsed is what a frame should become; a nil *parsed means other.
type parsed struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
	flags        uint16
	vlan, inner  uint16
	typ, code    uint8
	tunnel       uint8
	tunnelID     uint32
}

// v4 and v6 are flows between the addresses that the frames have by default.
func v4(proto uint8, sport, dport, flags uint16) *parsed {
	return &parsed{src: ip4a, dst: ip4b, sport: sport, dport: dport, proto: proto, flags: flags}
}

func v6(proto uint8, sport, dport, flags uint16) *parsed {
	return &parsed{src: ip6a, dst: ip6b, sport: sport, dport: dport, proto: proto, flags: flags}
}

func (p *parsed) tagged(vlan, inner uint16) *parsed { p.vlan, p.inner = vlan, inner; return p }
func (p *parsed) icmp(typ, code uint8) *parsed      { p.typ, p.code = typ, code; return p }

type parseCase struct {
	name  string
	ip    bool // the frame begins with the IP header
	frame []byte
	want  *parsed
	// reason is why there is no flow; beside a flow, why not of the packet inside.
	reason uint8
}

func pad(b []byte, n int) []byte { return join(b, make([]byte, max(0, n-len(b)))) }

func set(at int, v ...byte) func([]byte) { return func(h []byte) { copy(h[at:], v) } }

// parseCases is every kind of packet, honest and lying. Fragments, which depend
// on each other, have a test of their own. Test runs refuse a frame that ends
// inside the IP header unless a VLAN tag hides it.
func parseCases() []parseCase {
	seg := tcp(1234, 80, ack|psh, 10)
	return slices.Concat(ip4Cases(seg), ip6Cases(seg), linkCases(seg), tunnelCases(seg))
}

func ip4Cases(seg []byte) []parseCase {
	all := fin | syn | rst | psh | ack | urg | ece | cwr | ae
	return []parseCase{
		{name: "a TCP segment over IPv4", frame: ether(typeIP4, ip4{proto: 6}.with(seg)), want: v4(6, 1234, 80, ack|psh)},
		{name: "the other direction of the same", frame: ether(typeIP4, ip4{src: ip4b, dst: ip4a, proto: 6}.with(tcp(80, 1234, ack, 0))), want: &parsed{src: ip4b, dst: ip4a, sport: 80, dport: 1234, proto: 6, flags: ack}},
		{name: "a host that talks to itself, from the higher port", frame: ether(typeIP4, ip4{src: ip4a, dst: ip4a, proto: 6}.with(tcp(9000, 80, ack, 0))), want: &parsed{src: ip4a, dst: ip4a, sport: 9000, dport: 80, proto: 6, flags: ack}},
		{name: "every TCP flag bit", frame: ether(typeIP4, ip4{proto: 6}.with(tcp(1, 2, all, 0))), want: v4(6, 1, 2, all)},
		{name: "reserved TCP bits are no flags", frame: ether(typeIP4, ip4{proto: 6}.with(tcp(1, 2, 0xe00|syn, 0))), want: v4(6, 1, 2, syn)},
		{name: "a TCP header length of zero", frame: ether(typeIP4, ip4{proto: 6}.with(join(be16(1, 2), make([]byte, 8), be16(syn, 0, 0, 0)))), want: v4(6, 1, 2, syn)},
		{name: "4 bytes of IPv4 options", frame: ether(typeIP4, ip4{proto: 6, options: []byte{1, 1, 1, 0}}.with(seg)), want: v4(6, 1234, 80, ack|psh)},
		{name: "40 bytes of IPv4 options", frame: ether(typeIP4, ip4{proto: 17, options: make([]byte, 40)}.with(udp(53, 5353, 4))), want: v4(17, 53, 5353, 0)},
		{name: "an IPv4 option of length 0", frame: ether(typeIP4, ip4{proto: 6, options: []byte{7, 0, 0, 0}}.with(seg)), want: v4(6, 1234, 80, ack|psh)},
		{name: "a UDP datagram", frame: ether(typeIP4, ip4{proto: 17}.with(udp(5000, 53, 20))), want: v4(17, 5000, 53, 0)},
		{name: "an empty UDP datagram", frame: ether(typeIP4, ip4{proto: 17}.with(udp(5000, 53, 0))), want: v4(17, 5000, 53, 0)},
		{name: "an ICMP echo request", frame: ether(typeIP4, ip4{proto: 1}.with(icmp(8, 0))), want: v4(1, 0, 0, 0).icmp(8, 0)},
		{name: "an ICMP error", frame: ether(typeIP4, ip4{proto: 1}.with(icmp(3, 13), ip4{proto: 6}.with(seg))), want: v4(1, 0, 0, 0).icmp(3, 13)},
		{name: "ICMPv6 inside IPv4 has no type", frame: ether(typeIP4, ip4{proto: 58}.with(icmp(128, 1))), want: v4(58, 0, 0, 0)},
		{name: "SCTP has ports", frame: ether(typeIP4, ip4{proto: 132}.with(be16(7, 9), make([]byte, 8))), want: v4(132, 7, 9, 0)},
		{name: "RSVP has none", frame: ether(typeIP4, ip4{proto: 46}.with(be16(0, typeIP4), seg)), want: v4(46, 0, 0, 0)},
		{name: "ESP has none", frame: ether(typeIP4, ip4{proto: 50}.with(make([]byte, 24))), want: v4(50, 0, 0, 0)},
		{name: "an unknown protocol without payload", frame: ether(typeIP4, ip4{proto: 253}.with()), want: v4(253, 0, 0, 0)},
		{name: "Ethernet padding is no payload", frame: pad(ether(typeIP4, ip4{proto: 17}.with(udp(1, 2, 0))), 60), want: v4(17, 1, 2, 0)},
		{name: "padding where the ports should be", frame: pad(ether(typeIP4, ip4{proto: 17}.with()), 60), reason: badHeader},
		{name: "a total length that ends inside the TCP header", frame: ether(typeIP4, ip4{proto: 6, lie: set(2, 0, 28)}.with(seg)), want: v4(6, 1234, 80, 0)},
		{name: "a total length of zero is a packet above 64 KiB", frame: ether(typeIP4, ip4{proto: 6, lie: set(2, 0, 0)}.with(seg)), want: v4(6, 1234, 80, ack|psh)},
		{name: "a total length beyond the frame", frame: ether(typeIP4, ip4{proto: 6, lie: set(2, 5, 220)}.with(seg)), want: v4(6, 1234, 80, ack|psh)},
		{name: "a total length below the header's", frame: ether(typeIP4, ip4{proto: 6, lie: set(2, 0, 19)}.with(seg)), reason: badHeader},
		{name: "an IPv4 header length of 16", frame: ether(typeIP4, ip4{proto: 6, lie: set(0, 0x44)}.with(seg)), reason: badHeader},
		{name: "an IPv4 header length beyond the packet", frame: ether(typeIP4, ip4{proto: 6, lie: set(0, 0x4f)}.with(seg)), reason: badHeader},
		{name: "IPv6 under the IPv4 ethertype", frame: ether(typeIP4, ip6{next: 6}.with(seg)), reason: badHeader},
		{name: "a frame that ends inside the IPv4 header", frame: ether(typeVLAN, tag(1, typeIP4), ip4{proto: 6}.with(seg))[:37], reason: truncated},
		{name: "a frame that ends before the ports", frame: ether(typeIP4, ip4{proto: 6}.with(seg))[:37], reason: truncated},
		{name: "a frame that ends after the ports", frame: ether(typeIP4, ip4{proto: 6}.with(seg))[:47], want: v4(6, 1234, 80, 0)},
		{name: "an ICMP message of one byte", frame: ether(typeIP4, ip4{proto: 1}.with([]byte{8})), reason: badHeader},
	}
}

func ip6Cases(seg []byte) []parseCase {
	var nine [][]byte
	for range 9 {
		nine = append(nine, extension(protoDst, 0))
	}
	return []parseCase{
		{name: "a TCP segment over IPv6", frame: ether(typeIP6, ip6{next: 6}.with(seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "the other direction over IPv6", frame: ether(typeIP6, ip6{src: ip6b, dst: ip6a, next: 17}.with(udp(53, 999, 1))), want: &parsed{src: ip6b, dst: ip6a, sport: 53, dport: 999, proto: 17}},
		{name: "an ICMPv6 echo request", frame: ether(typeIP6, ip6{next: 58}.with(icmp(128, 0))), want: v6(58, 0, 0, 0).icmp(128, 0)},
		{name: "hop-by-hop options", frame: ether(typeIP6, ip6{next: 0}.with(extension(6, 0), seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "hop-by-hop, routing, destination options", frame: ether(typeIP6, ip6{next: 0}.with(extension(43, 0), extension(60, 2), extension(17, 1), udp(1, 2, 3))), want: v6(17, 1, 2, 0)},
		{name: "an authentication header counts in words of 4", frame: ether(typeIP6, ip6{next: 51}.with(extension(6, 4)[:24], seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "eight extension headers", frame: ether(typeIP6, ip6{next: 60}.with(join(nine[:7]...), extension(6, 0), seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "nine extension headers", frame: ether(typeIP6, ip6{next: 60}.with(join(nine[:8]...), extension(6, 0), seg)), reason: tooDeep},
		{name: "an extension header that ends beyond the packet", frame: ether(typeIP6, ip6{next: 60}.with(extension(6, 255)[:64])), reason: badHeader},
		{name: "an extension header beyond the payload length", frame: ether(typeIP6, ip6{next: 60, lie: set(4, 0, 4)}.with(extension(6, 0), seg)), reason: badHeader},
		{name: "ESP hides what follows", frame: ether(typeIP6, ip6{next: 50}.with(make([]byte, 16))), want: v6(50, 0, 0, 0)},
		{name: "no next header", frame: ether(typeIP6, ip6{next: 59}.with()), want: v6(59, 0, 0, 0)},
		{name: "an atomic fragment is a whole packet", frame: ether(typeIP6, ip6{next: 44}.with(fragment6(6, 0, 1, false), seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "a payload length of zero is a jumbogram", frame: ether(typeIP6, ip6{next: 6, lie: set(4, 0, 0)}.with(seg)), want: v6(6, 1234, 80, ack|psh)},
		{name: "a payload length that ends inside the ports", frame: ether(typeIP6, ip6{next: 6, lie: set(4, 0, 3)}.with(seg)), reason: badHeader},
		{name: "IPv4 under the IPv6 ethertype", frame: ether(typeIP6, ip4{proto: 6}.with(seg, seg)), reason: badHeader},
		{name: "a frame that ends inside the IPv6 header", frame: ether(typeVLAN, tag(1, typeIP6), ip6{next: 6}.with(seg))[:57], reason: truncated},
		{name: "ICMP inside IPv6 has no type", frame: ether(typeIP6, ip6{next: 1}.with(icmp(8, 3))), want: v6(1, 0, 0, 0)},
	}
}

func linkCases(seg []byte) []parseCase {
	p := ip4{proto: 6}.with(seg)
	want := func() *parsed { return v4(6, 1234, 80, ack|psh) }
	return []parseCase{
		{name: "ARP", frame: pad(ether(typeARP), 60), reason: notIP},
		{name: "an 802.3 frame with a length", frame: pad(ether(38), 60), reason: notIP},
		{name: "a tag alone", frame: ether(typeVLAN, tag(1, typeIP4)), reason: truncated},
		{name: "one VLAN tag", frame: ether(typeVLAN, tag(100, typeIP4), p), want: want().tagged(100, 0)},
		{name: "priority bits are not part of the VLAN id", frame: ether(typeVLAN, tag(0xf064, typeIP4), p), want: want().tagged(100, 0)},
		{name: "a priority tag has VLAN id 0", frame: ether(typeVLAN, tag(0xe000, typeIP4), p), want: want()},
		{name: "802.1ad around 802.1Q", frame: ether(typeQinQ, tag(200, typeVLAN), tag(4095, typeIP4), p), want: want().tagged(200, 4095)},
		{name: "802.1Q around 802.1Q, IPv6", frame: ether(typeVLAN, tag(1, typeVLAN), tag(2, typeIP6), ip6{next: 6}.with(seg)), want: v6(6, 1234, 80, ack|psh).tagged(1, 2)},
		{name: "the old QinQ ethertype", frame: ether(typeOldQ, tag(9, typeIP4), p), want: want().tagged(9, 0)},
		{name: "four VLAN tags", frame: ether(typeQinQ, tag(1, typeVLAN), tag(2, typeVLAN), tag(3, typeVLAN), tag(4, typeIP4), p), want: want().tagged(1, 2)},
		{name: "five VLAN tags", frame: ether(typeQinQ, tag(1, typeVLAN), tag(2, typeVLAN), tag(3, typeVLAN), tag(4, typeVLAN), tag(5, typeIP4), p), reason: tooDeep},
		{name: "a frame that ends inside the VLAN tag", frame: ether(typeVLAN, []byte{0}), reason: truncated},
		{name: "IPv4 without a link-layer header", ip: true, frame: p, want: want()},
		{name: "IPv6 without a link-layer header", ip: true, frame: ip6{next: 17}.with(udp(8, 9, 0)), want: v6(17, 8, 9, 0)},
		{name: "neither, without a link-layer header", ip: true, frame: make([]byte, 40), reason: badHeader},
	}
}

func TestParse(t *testing.T) {
	for _, parser := range []struct {
		name    string
		general bool
	}{{"with the fast path", false}, {"by the general parser", true}} {
		t.Run(parser.name, func(t *testing.T) {
			d := load(t, func(c *Config) { c.generalParser = parser.general })
			for _, c := range parseCases() {
				for _, dir := range []Direction{Ingress, Egress} {
					t.Run(c.name+", "+dir.String(), func(t *testing.T) { checkParse(t, d, &c, dir) })
				}
			}
		})
	}
}

func monotonicNS(t *testing.T) int64 {
	t.Helper()
	clock, err := hostclock.Now()
	if err != nil {
		t.Fatal(err)
	}
	return clock.MonoNS
}

func checkParse(t *testing.T, d *Datapath, c *parseCase, dir Direction) {
	if err := d.Pretend(loopback, c.ip); err != nil {
		t.Fatal(err)
	}
	defer d.Detach(here(loopback))
	before := monotonicNS(t)
	mustRun(t, d, &TestRun{Frame: c.frame, Direction: dir})
	after := monotonicNS(t)
	entries, totals := drain(t, d)
	one := Counters{1, uint64(len(c.frame))}
	want := Totals{Seen: one, Other: one}
	if c.want != nil {
		want = Totals{Seen: one, Recorded: one}
	}
	switch {
	case c.reason == 0:
	case c.want != nil:
		want.Unread[c.reason-1] = 1
	default:
		want.Reasons[c.reason-1] = 1
	}
	if got := sum(totals); got != want {
		t.Errorf("totals %+v, want %+v", got, want)
	}
	if c.want == nil {
		if len(entries) != 0 {
			t.Errorf("entry %+v, want none", entries[0])
		}
		return
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	e := entries[0]
	if e.FirstNS < before || e.FirstNS > after || e.LastNS < e.FirstNS || e.LastNS > after {
		t.Errorf("times %d to %d, want within %d to %d", e.FirstNS, e.LastNS, before, after)
	}
	if got := c.want.entry(one, dir, &e); e != got {
		t.Errorf("entry\n%+v, want\n%+v", e, got)
	}
}

// entry is the entry that the packet should make, with the times of e.
func (p *parsed) entry(count Counters, dir Direction, e *Entry) Entry {
	w := Entry{
		A: p.src, B: p.dst, APort: p.sport, BPort: p.dport, Proto: p.proto,
		VLAN: p.vlan, InnerVLAN: p.inner, Place: here(loopback), Sampling: 1,
		Tunnel: p.tunnel, TunnelID: p.tunnelID,
		FirstNS: e.FirstNS, LastNS: e.LastNS,
		FirstDirection: dir, ICMPType: p.typ, ICMPCode: p.code,
	}
	if c := p.src.Compare(p.dst); c > 0 || c == 0 && p.sport > p.dport {
		w.A, w.B, w.APort, w.BPort, w.FirstSide = p.dst, p.src, p.dport, p.sport, 1
	}
	if dir == Egress {
		w.Egress = count
	}
	s, got := &w.Side[w.FirstSide], &e.Side[w.FirstSide]
	*s = Side{Counters: count, Flags: p.flags}
	// Event times are tested with sequences; here, whether they are there.
	copyIf(p.flags&(syn|ack) == syn, &s.SYNNS, got.SYNNS)
	copyIf(p.flags&(syn|ack) == syn|ack, &s.SYNACKNS, got.SYNACKNS)
	copyIf(p.flags&fin != 0, &s.FINNS, got.FINNS)
	copyIf(p.flags&rst != 0, &s.RSTNS, got.RSTNS)
	copyIf(p.flags&(syn|ack|rst) == ack, &s.ACKNS, got.ACKNS)
	s.ZeroWindows, s.Resets = got.ZeroWindows, got.Resets // tested with sequences
	return w
}

// copyIf accepts a time where one is expected; it must not be 0 then.
func copyIf(want bool, to *int64, got int64) {
	if want {
		*to = max(got, 1)
	}
}
