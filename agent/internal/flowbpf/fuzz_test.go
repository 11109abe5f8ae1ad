package flowbpf

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzParse pushes any bytes through both parsers, on interfaces with a link
// layer and without. They must agree in everything but time, account every
// byte, and never invent an entry for a packet that they call other.
func FuzzParse(f *testing.F) {
	for _, s := range fuzzSeeds() {
		f.Add(s.frame, s.ip, uint8(0), uint16(0))
		f.Add(s.frame, s.ip, uint8(3), uint16(1000))
	}
	p := newParserPair(f)
	f.Fuzz(func(t *testing.T, frame []byte, ip bool, segs uint8, size uint16) {
		p.compare(t, frame, ip, uint32(segs), uint32(size))
	})
}

// Go's fuzzer cannot see coverage in the kernel, so chance aims at headers here.
func TestParsersAgreeOnDamagedFrames(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p, seeds := newParserPair(t), fuzzSeeds()
	ran, entries := 0, 0
	for range 8_000 {
		s := seeds[r.IntN(len(seeds))]
		frame := damage(r, slices.Clone(s.frame))
		out, ok := p.compare(t, frame, s.ip, r.Uint32N(3), r.Uint32N(100))
		if t.Failed() {
			t.Fatalf("frame %x", frame)
		}
		if ok {
			ran++
			entries += out.entries
		}
	}
	if ran < 5_000 || entries < ran/4 || entries == ran {
		t.Errorf("of %d frames %d became entries: damaged too much or too little", ran, entries)
	}
}

// damage changes some bytes, mostly of the headers, and sometimes the length.
func damage(r *rand.Rand, b []byte) []byte {
	for range r.IntN(4) {
		at := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b[at] = byte(r.Uint32())
		case 1:
			b[at] ^= 1 << r.IntN(8)
		case 2:
			b[at] = []byte{0, 1, 4, 5, 6, 17, 44, 58, 60, 0x45, 0x46, 0x60, 0x81, 0xff}[r.IntN(14)]
		case 3:
			b[min(12+r.IntN(12), len(b)-1)] = byte(r.Uint32())
		}
	}
	if r.IntN(8) == 0 {
		b = b[:max(14, r.IntN(len(b)+1))]
	}
	return b
}

func fuzzSeeds() []parseCase {
	udp1 := udp(1, 2, 16)
	return append(parseCases(),
		parseCase{frame: ether(typeIP4, ip4{proto: 17, id: 7, frag: 0x2000}.with(udp1))},
		parseCase{frame: ether(typeIP4, ip4{proto: 17, id: 7, frag: 3}.with(udp1))},
		parseCase{frame: ether(typeIP6, ip6{next: 44}.with(fragment6(60, 0, 1, true), extension(6, 0), tcp(7, 8, syn, 0)))},
		parseCase{frame: ether(typeIP6, ip6{next: 44}.with(fragment6(60, 3, 1, false), udp1))},
	)
}

// parserPair holds a datapath with the fast path and one without, for frames
// with a link-layer header and without.
type parserPair struct{ fast, general [2]*Datapath }

func newParserPair(t testing.TB) *parserPair {
	p := &parserPair{}
	for i := range 2 {
		p.fast[i] = load(t, func(c *Config) { c.MaxFlows = 4 })
		p.general[i] = load(t, func(c *Config) { c.MaxFlows, c.generalParser = 4, true })
		must(t, p.fast[i].Pretend(loopback, i == 1))
		must(t, p.general[i].Pretend(loopback, i == 1))
	}
	return p
}

// fuzzed is everything that a frame became, times left out.
type fuzzed struct {
	entry   Entry
	entries int
	totals  Totals
}

// compare reports false if the kernel would not run the frame.
func (p *parserPair) compare(t *testing.T, frame []byte, ip bool, segs, size uint32) (fuzzed, bool) {
	if len(frame) < 14 || len(frame) > 3000 {
		return fuzzed{}, false
	}
	i := 0
	if ip {
		i = 1
	}
	x, ran := fuzzOne(t, p.fast[i], frame, segs, size)
	y, _ := fuzzOne(t, p.general[i], frame, segs, size)
	if ran && x != y {
		t.Errorf("the fast path makes\n%+v of it, the general parser\n%+v", x, y)
	}
	return x, ran
}

func fuzzOne(t *testing.T, d *Datapath, frame []byte, segs, size uint32) (out fuzzed, ran bool) {
	err := d.Run(&TestRun{Frame: frame, GSOSegs: segs, GSOSize: size})
	// No program can be running any more, so there is nothing to wait for.
	old, swapErr := d.swap()
	must(t, swapErr)
	var e Entry
	totals, collectErr := d.collect(old, func(group []Entry) { e = group[0]; out.entries += len(group) })
	must(t, collectErr)
	out.totals = sum(totals)
	if err != nil {
		if out.entries != 0 || out.totals.Seen != (Counters{}) {
			t.Errorf("%v, yet it was counted: %+v", err, totals)
		}
		return fuzzed{}, false
	}
	if out.entries > 1 || out.totals.Overflow != (Counters{}) || !out.totals.Balanced() {
		t.Errorf("one packet made %d entries, totals %+v", out.entries, out.totals)
	}
	if out.totals.Seen.Packets == 0 || out.totals.Seen.Bytes < uint64(len(frame)) {
		t.Errorf("seen %+v of a frame of %d bytes", out.totals.Seen, len(frame))
	}
	if out.entries == 0 {
		return out, true
	}
	checkEntry(t, &e)
	e.FirstNS, e.LastNS = 0, 0
	for i := range e.Side {
		s := &e.Side[i]
		s.SYNNS, s.SYNACKNS, s.FINNS, s.RSTNS, s.ACKNS = min(s.SYNNS, 1), min(s.SYNACKNS, 1), min(s.FINNS, 1), min(s.RSTNS, 1), min(s.ACKNS, 1)
	}
	out.entry = e
	return out, true
}

// checkEntry holds an entry to what is true of every packet.
func checkEntry(t *testing.T, e *Entry) {
	t.Helper()
	if e.APort != 0 || e.BPort != 0 {
		switch e.Proto {
		case protoTCP, protoUDP, protoSCTP, 33, 136:
		default:
			t.Errorf("protocol %d has ports: %+v", e.Proto, e)
		}
	}
	if c := e.A.Compare(e.B); c > 0 || c == 0 && e.APort > e.BPort {
		t.Errorf("endpoints out of order: %+v", e)
	}
	if e.Proto != protoTCP && (e.Side[0].Flags|e.Side[1].Flags) != 0 {
		t.Errorf("protocol %d has TCP flags: %+v", e.Proto, e)
	}
}
