package flowbpf

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
)

// oracle holds both parsers in the kernel against the reference. It must be made
// to forget before the kernel's memory of fragments is full: the reference's never is.
type oracle struct {
	parser *parser
	ref    *reference
	met    map[string]int // how often a kind of result came up
}

func newOracle(t testing.TB) *oracle {
	return &oracle{parser: newParser(t), ref: newReference(), met: make(map[string]int)}
}

func (o *oracle) forget(t testing.TB) {
	t.Helper()
	clear(o.ref.known)
	forgetFragments(t, o.parser.objs.Fragments)
}

// check reports false if the kernel would not run the frame.
func (o *oracle) check(t *testing.T, frame []byte, ip bool) bool {
	t.Helper()
	if len(frame) < 14 || len(frame) > 3000 {
		return false
	}
	got, ran := o.parser.general(t, frame, ip)
	if !ran {
		return false
	}
	want := o.ref.parse(frame, ip)
	if got != want {
		t.Errorf("of %x\nthe general parser makes\n%+v, want\n%+v", frame, got, want)
	}
	o.met[fmt.Sprintf("reason %d of family %d", got.reason, got.family)]++
	o.met[fmt.Sprintf("tunnel %d", got.tunnel)]++
	if ip {
		return true
	}
	if quick, ok := o.parser.fast(t, frame); ok {
		if quick != want {
			t.Errorf("of %x\nthe fast path makes\n%+v, want\n%+v", frame, quick, want)
		}
		o.met[fmt.Sprintf("fast path, tunnel %d", got.tunnel)]++
	}
	return true
}

// Frames with all that the parsers know, whole, damaged and cut off.
func TestParsersAgreeWithTheReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g, o := newGenerator(seed), newOracle(t)
	ran := 0
	for i := range 200_000 {
		if i%2000 == 0 {
			o.forget(t)
		}
		frame, ip := g.frame()
		if i%2 == 1 {
			frame = damage(g.Rand, frame)
		}
		if o.check(t, frame, ip) {
			ran++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d frames: %v", ran, o.met)
	if ran < 180_000 {
		t.Errorf("the kernel ran only %d frames", ran)
	}
	for _, what := range []string{
		"reason 0 of family 4", "reason 0 of family 6",
		"reason 1 of family 0", "reason 2 of family 0", "reason 3 of family 0", "reason 4 of family 0",
		"reason 1 of family 4", "reason 2 of family 4", "reason 3 of family 4", "reason 4 of family 4",
		"tunnel 0", "tunnel 1", "tunnel 2", "tunnel 3", "tunnel 4",
		"fast path, tunnel 0", "fast path, tunnel 1", "fast path, tunnel 2",
	} {
		if o.met[what] < 20 {
			t.Errorf("%q came up %d times: the frames test too little", what, o.met[what])
		}
	}
}

func TestEveryCaseAgreesWithTheReference(t *testing.T) {
	o := newOracle(t)
	for _, c := range fuzzSeeds() {
		t.Run(c.name, func(t *testing.T) { o.check(t, c.frame, c.ip) })
	}
}

// The flow map tells neither why a packet was not read nor where its payload is.
func TestParserSaysWhyAPacketIsNotRead(t *testing.T) {
	p := newParser(t)
	for _, c := range parseCases() {
		t.Run(c.name, func(t *testing.T) {
			got, ran := p.general(t, c.frame, c.ip)
			if !ran {
				t.Fatal("the kernel does not run the frame")
			}
			want := packet{reason: c.reason}
			if w := c.want; w != nil {
				want = packet{
					src: w.src, dst: w.dst, sport: w.sport, dport: w.dport, proto: w.proto, flags: w.flags,
					vlan: w.vlan, inner: w.inner, tunnel: w.tunnel, tunnelID: w.tunnelID,
					typ: w.typ, code: w.code, reason: c.reason, family: 6,
				}
				if w.src.Is4() {
					want.family = 4
				}
				want.header, want.payload, want.window = got.header, got.payload, got.window
			}
			if got != want {
				t.Errorf("got\n%+v, want\n%+v", got, want)
			}
		})
	}
	if got, ran := p.run(t, p.objs.General, parseCases()[0].frame, linkUnknown, 0); !ran || got != (packet{reason: unknownLink}) {
		t.Errorf("an unknown link layer makes %+v", got)
	}
}

// FuzzReference pushes any bytes through both parsers and the reference.
func FuzzReference(f *testing.F) {
	for _, s := range fuzzSeeds() {
		f.Add(s.frame, s.ip)
	}
	g := newGenerator(1)
	for range 200 {
		frame, ip := g.frame()
		f.Add(frame, ip)
	}
	o := newOracle(f)
	f.Fuzz(func(t *testing.T, frame []byte, ip bool) {
		o.forget(t) // what another input left
		o.check(t, frame, ip)
	})
}

// The figures are counted by hand: 14 of Ethernet, 20 of IPv4, 40 of IPv6, 8 of
// UDP, 8 of VXLAN.
func TestPayloadIsFound(t *testing.T) {
	seg := tcpOptions(1, 2, ack, 12, 100)
	copy(seg[4:], []byte{1, 2, 3, 4, 5, 6, 7, 8})
	cases := []struct {
		name            string
		frame           []byte
		header, payload uint32
	}{
		{"TCP with options", ether(typeIP4, ip4{proto: 6}.with(seg)), 14 + 20 + 32, 100},
		{"TCP over IPv6", ether(typeIP6, ip6{next: 6}.with(seg)), 14 + 40 + 32, 100},
		{"Ethernet padding is none", pad(ether(typeIP4, ip4{proto: 17}.with(udp(1, 2, 3))), 60), 14 + 20 + 8, 3},
		{"of a capture's beginning", ether(typeIP4, ip4{proto: 6}.with(seg))[:90], 14 + 20 + 32, 100},
		{"a length of 0 reaches to the end of the frame", ether(typeIP4, ip4{proto: 6, lie: set(2, 0, 0)}.with(seg)), 14 + 20 + 32, 100},
		{"a TCP header that claims more than there is", ether(typeIP4, ip4{proto: 6}.with(lieAt(tcp(1, 2, ack, 10), 12, 0xf0))), 14 + 20 + 60, 0},
		{"in VXLAN", ether(typeIP4, outer.of(17, vxlan(4789, 8, 7, ether(typeIP4, ip4{proto: 6}.with(seg))))), 14 + 20 + 8 + 8 + 14 + 20 + 32, 100},
		{"of a first fragment is not known", ether(typeIP4, ip4{proto: 17, frag: 0x2000}.with(udp(1, 2, 64))), 14 + 20 + 8, 0},
	}
	p := newParser(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, ran := p.general(t, c.frame, false)
			if !ran || got.header != c.header || got.payload != c.payload {
				t.Errorf("headers of %d and payload of %d bytes, want %d and %d", got.header, got.payload, c.header, c.payload)
			}
			if got.proto == protoTCP && got.sport == 1 && got.payload == 100 && (got.seq != 0x01020304 || got.ack != 0x05060708 || got.window != 1024) {
				t.Errorf("sequence %#x, acknowledgement %#x, window %d", got.seq, got.ack, got.window)
			}
		})
	}
}

// A capture holds only the frame's beginning, and an IP length of 0 where the
// network card was to fill it in.
func TestPayloadOfAReplayedFrameEndsWhereTheFrameDid(t *testing.T) {
	p := newParserFor(t, true)
	none := set(2, 0, 0)
	for name, c := range map[string]struct {
		frame  []byte
		header uint32
	}{
		"IPv4":         {ether(typeIP4, ip4{proto: 6, lie: none}.with(tcp(1, 2, ack, 10))), 14 + 20 + 20},
		"IPv6":         {ether(typeIP6, ip6{next: 6, lie: set(4, 0, 0)}.with(tcp(1, 2, ack, 10))), 14 + 40 + 20},
		"inside VXLAN": {ether(typeIP4, ip4{proto: 17, lie: none}.with(vxlan(4789, 8, 7, ether(typeIP4, ip4{proto: 6, lie: none}.with(tcp(1, 2, ack, 10)))))), 14 + 20 + 30 + 20 + 20},
	} {
		for _, prog := range []*ebpf.Program{p.objs.Fast, p.objs.General} {
			if got, ran := p.run(t, prog, c.frame, linkEthernet, 3000); !ran || got.header != c.header || got.payload != 3000-c.header {
				t.Errorf("%s: %s makes %d bytes of payload after %d, want %d after %d", name, prog, got.payload, got.header, 3000-c.header, c.header)
			}
		}
	}
}
