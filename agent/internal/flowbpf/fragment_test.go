package flowbpf

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// more is the flag of IPv4 that says that another fragment follows.
const more = 0x2000

// split cuts an IP packet's payload, which begins after the header of the given
// kind, into two fragments behind Ethernet.
func split(h ip4, at int, payload []byte) (first, last []byte) {
	h.frag = more
	first = ether(typeIP4, h.with(payload[:at]))
	h.frag = uint16(at / 8)
	return first, ether(typeIP4, h.with(payload[at:]))
}

func TestFragmentsOfTunnelsBelongToTheInnermostFlow(t *testing.T) {
	const long = 200
	inside := ether(typeIP4, ip4{proto: 17}.with(udp(1000, 2000, long)))
	outerUDP := ip4{src: outer.src, dst: outer.dst, proto: 17, id: 5}
	first, last := split(outerUDP, 120, vxlan(4789, 8, 7, inside))

	// A packet inside a tunnel that is a fragment itself.
	in := ip4{proto: 17, id: 9, frag: more}
	innerFirst := in.with(udp(1000, 2000, 64))
	in.frag = 9
	innerLast := in.with(make([]byte, 64))
	inVX := func(id uint32, p []byte) []byte {
		return ether(typeIP4, outer.of(17, vxlan(4789, 8, id, ether(typeIP4, p))))
	}
	// Both: the first fragment of a datagram inside the first fragment of one outside.
	bothFirst, bothLast := split(outerUDP, 80, vxlan(4789, 8, 7, ether(typeIP4, innerFirst)))
	// Fragments of a tunnel inside a tunnel.
	gre4 := ip4{src: netip.MustParseAddr("198.51.100.1"), dst: netip.MustParseAddr("198.51.100.2"), proto: 47, id: 3, frag: more}
	midFirst := gre4.with(gre(0x2000, typeIP4, 11, ip4{proto: 17}.with(udp(1000, 2000, 20))))
	gre4.frag = 9
	midLast := gre4.with(make([]byte, 40))
	six := ip6{next: 44}
	sixFirst := ether(typeIP6, six.with(fragment6(41, 0, 1, true), ip6{src: ip6b, dst: ip6a, next: 17}.with(udp(7, 8, 40))))
	sixLast := ether(typeIP6, six.with(fragment6(41, 11, 1, false), make([]byte, 40)))

	want := func() *parsed { return v4(17, 1000, 2000, 0).inside(inVXLAN, 7) }
	six6 := (&parsed{src: ip6b, dst: ip6a, sport: 7, dport: 8, proto: 17}).inside(inIPIP, 0)
	cases := []struct {
		name   string
		frames [][]byte
		want   []*parsed
	}{
		{"fragments of the packet outside", [][]byte{first, last}, []*parsed{want(), want()}},
		{"the last fragment outside comes first", [][]byte{last, first}, []*parsed{{src: outer.src, dst: outer.dst, proto: 17}, want()}},
		{"fragments of the packet inside", [][]byte{inVX(7, innerFirst), inVX(7, innerLast)}, []*parsed{want(), want()}},
		{"the same addresses and id in another tunnel are another datagram", [][]byte{inVX(7, innerFirst), inVX(8, innerLast)}, []*parsed{want(), v4(17, 0, 0, 0).inside(inVXLAN, 8)}},
		{"nor are they the same without a tunnel", [][]byte{inVX(7, innerFirst), ether(typeIP4, innerLast)}, []*parsed{want(), v4(17, 0, 0, 0)}},
		{"fragments of both", [][]byte{bothFirst, bothLast, inVX(7, innerLast)}, []*parsed{want(), want(), want()}},
		{"fragments of a tunnel in a tunnel", [][]byte{inVX(7, midFirst), inVX(7, midLast)}, []*parsed{v4(17, 1000, 2000, 0).inside(inGRE, 11), v4(17, 1000, 2000, 0).inside(inGRE, 11)}},
		{"fragments of IPv6 around IPv6", [][]byte{sixFirst, sixLast}, []*parsed{six6, six6}},
		{"a first fragment that ends inside the packet inside", [][]byte{first[:14+20+40], last}, []*parsed{
			{src: outer.src, dst: outer.dst, sport: 49152, dport: 4789, proto: 17}, {src: outer.src, dst: outer.dst, sport: 49152, dport: 4789, proto: 17}}},
	}
	d := load(t, nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { checkFlows(t, d, c.frames, c.want) })
	}
}

// forgetFragments empties the memory of datagrams.
func forgetFragments(t testing.TB, fragments *ebpf.Map) {
	t.Helper()
	for key := new(objects.FlowEbbFragmentKey); fragments.NextKey(nil, key) == nil; {
		must(t, fragments.Delete(key))
	}
}

// checkFlows runs the frames in order, with no other fragment known, and expects
// each to count to the flow beside it, and to no other.
func checkFlows(t *testing.T, d *Datapath, frames [][]byte, flows []*parsed) {
	t.Helper()
	forgetFragments(t, d.objs.EbbFragments)
	want := make(map[Entry]Counters)
	for i, f := range frames {
		mustRun(t, d, &TestRun{Frame: f})
		e := flows[i].entry(Counters{}, Ingress, &Entry{})
		n := want[identity(&e)]
		n.Add(Counters{1, uint64(len(f))})
		want[identity(&e)] = n
	}
	entries, totals := drain(t, d)
	if len(entries) != len(want) {
		t.Errorf("%d entries, want %d: %+v", len(entries), len(want), entries)
	}
	for i := range entries {
		n := entries[i].Side[0].Counters
		n.Add(entries[i].Side[1].Counters)
		if w := want[identity(&entries[i])]; n != w {
			t.Errorf("entry %+v counts %+v, want %+v", entries[i], n, w)
		}
	}
	if o := sum(totals).Other; o != (Counters{}) {
		t.Errorf("%+v is other, want none", o)
	}
}

// Offsets that overlap, repeat and lie, as in the attacks named after them: each
// fragment counts once, to the datagram's flow.
func TestAbsurdFragmentsBelongToTheirFlow(t *testing.T) {
	at := func(frag uint16, payload int) []byte {
		return ether(typeIP4, ip4{proto: 17, id: 7, frag: frag}.with(make([]byte, payload)))
	}
	first := ether(typeIP4, ip4{proto: 17, id: 7, frag: more}.with(udp(1000, 2000, 28)))
	flow := func() *parsed { return v4(17, 1000, 2000, 0) }
	cases := []struct {
		name   string
		frames [][]byte
	}{
		{"teardrop: the last fragment lies inside the first", [][]byte{first, at(3, 4)}},
		{"the same fragment many times", [][]byte{first, at(more|5, 8), at(more|5, 8), at(more|5, 8)}},
		{"ping of death: the last fragment ends beyond 64 KiB", [][]byte{first, at(0x1fff, 1000)}},
		{"holes", [][]byte{first, at(more|100, 8), at(more|8000, 8)}},
		{"fragments without payload", [][]byte{first, at(more|5, 0), at(6, 0)}},
		{"a reserved flag", [][]byte{first, at(0x8000|5, 8)}},
		{"an offset beside the flag not to fragment", [][]byte{first, at(0x4000|5, 8)}},
	}
	d := load(t, nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := make([]*parsed, len(c.frames))
			for i := range want {
				want[i] = flow()
			}
			checkFlows(t, d, c.frames, want)
		})
	}
}

// Many more datagrams than are remembered, none ever complete: memory stays what
// it is, every fragment is counted, and what was sent lately still has its ports.
func TestFragmentBombsAreBounded(t *testing.T) {
	const bombs = 50_000
	d := load(t, nil)
	before := d.MapBytes()
	first := ether(typeIP4, ip4{proto: 17, frag: more}.with(udp(1000, 2000, 8)))
	later := ether(typeIP4, ip4{proto: 17, frag: 2}.with(make([]byte, 8)))
	send := func(frame []byte, n int) {
		binary.BigEndian.PutUint16(frame[14+4:], uint16(n))     // id
		binary.BigEndian.PutUint16(frame[14+12:], uint16(n>>8)) // source
		mustRun(t, d, &TestRun{Frame: frame})
	}
	for n := range bombs {
		send(first, n)
	}
	var key objects.FlowEbbFragmentKey
	remembered, limit := 0, int(d.objs.EbbFragments.MaxEntries())
	var value objects.FlowEbbFragment
	for i := d.objs.EbbFragments.Iterate(); i.Next(&key, &value); {
		remembered++
	}
	if remembered > limit || remembered < limit/2 {
		t.Errorf("%d datagrams remembered, want at most %d", remembered, limit)
	}
	for n := range 100 {
		send(later, bombs-1-n)
	}
	if after := d.MapBytes(); after != before {
		t.Errorf("maps take %d bytes, before %d", after, before)
	}
	entries, totals := drain(t, d)
	s := sum(totals)
	if s.Seen.Packets != bombs+100 || s.Recorded != s.Seen {
		t.Errorf("totals %+v, want all recorded", s)
	}
	for i := range entries {
		if e := &entries[i]; e.APort == 0 && e.BPort == 0 {
			t.Errorf("a fragment just remembered was forgotten: %+v", e)
		}
	}
}
