package flowbpf

import (
	"math"
	"math/bits"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

func TestWarningTypesLieInMemoryAsInC(t *testing.T) {
	spec, err := objects.LoadFlow()
	must(t, err)
	for name, size := range map[string][2]uintptr{
		"ebb_feature":    {unsafe.Sizeof(featureRow{}), featureSize},
		"ebb_source":     {unsafe.Sizeof(source{}), sourceSize},
		"ebb_source_key": {unsafe.Sizeof(sourceKey{}), 16},
	} {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("find %s: %v", name, err)
			continue
		}
		if uintptr(c.Size) != size[1] || size[0] != size[1] {
			t.Errorf("%s has %d bytes in C and %d in Go, want %d", name, c.Size, size[0], size[1])
		}
		checkPacked(t, name, c)
	}
	offsets := map[string][2]uintptr{
		"feature.bytes":    {unsafe.Offsetof(featureRow{}.Bytes), 0},
		"source.overflow":  {unsafe.Offsetof(source{}.Overflow), 8},
		"source.registers": {unsafe.Offsetof(source{}.Registers), 24},
	}
	for name, o := range offsets {
		if o[0] != o[1] {
			t.Errorf("%s is at %d, want %d", name, o[0], o[1])
		}
	}
}

// glance returns what passed the attach point since the call before, nothing if
// no packet did.
func glance(t testing.TB, d *Datapath, ifindex uint32, dir Direction) (g Glance) {
	t.Helper()
	must(t, d.Glances(func(x *Glance) {
		if x.Place.Ifindex == ifindex && x.Direction == dir {
			g = *x
		}
	}))
	return g
}

func TestFeaturesCountKindsOfPackets(t *testing.T) {
	tcpFrame := func(flags uint16) []byte { return ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, flags, 6))) }
	cases := []struct {
		name                  string
		frame                 []byte
		syn, synack, fin, rst uint64
		other                 bool // makes no flow
	}{
		{"a SYN", tcpFrame(syn), 1, 0, 0, 0, false},
		{"a SYN with ECN flags", tcpFrame(syn | ece | cwr), 1, 0, 0, 0, false},
		{"a SYN-ACK", tcpFrame(syn | ack), 0, 1, 0, 0, false},
		{"a FIN", tcpFrame(fin | ack), 0, 0, 1, 0, false},
		{"a RST", tcpFrame(rst), 0, 0, 0, 1, false},
		{"a SYN and FIN", tcpFrame(syn | fin), 1, 0, 1, 0, false},
		{"data", tcpFrame(ack | psh), 0, 0, 0, 0, false},
		{"a SYN over IPv6", ether(typeIP6, ip6{next: protoTCP}.with(tcp(1, 2, syn, 6))), 1, 0, 0, 0, false},
		{"UDP whose payload looks like a SYN", ether(typeIP4, ip4{proto: protoUDP}.with(udp(1, 2, 20))), 0, 0, 0, 0, false},
		{"ARP", ether(typeARP, make([]byte, 46)), 0, 0, 0, 0, true},
	}
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			drain(t, d) // the next packet makes an entry again
			for range 3 {
				mustRun(t, d, &TestRun{Frame: c.frame, Ifindex: 1})
			}
			g := glance(t, d, 1, Ingress)
			want := Glance{Place: Place{Ifindex: 1}, Seen: Counters{3, 3 * uint64(len(c.frame))}, SYN: 3 * c.syn, SYNACK: 3 * c.synack, FIN: 3 * c.fin, RST: 3 * c.rst}
			if !c.other {
				want.NewFlows = g.NewFlows
				if g.NewFlows < 1 || g.NewFlows > 3 { // of each CPU that the test ran on
					t.Errorf("%d new flows", g.NewFlows)
				}
			}
			want.Sizes[bits.Len(uint(len(c.frame)))-1] = 3
			want.Gaps = g.Gaps
			if g != want {
				t.Errorf("%+v, want\n%+v", g, want)
			}
			if g := glance(t, d, 1, Ingress); g != (Glance{}) {
				t.Errorf("nothing passed since, but %+v", g)
			}
		})
	}
}

// Each size from the smallest frame on falls into its bucket.
func TestFeaturesSortFramesBySize(t *testing.T) {
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	var want [sizeBuckets]uint64
	for size := 34; size <= 3400; size += 1 + size/40 {
		mustRun(t, d, &TestRun{Frame: ether(typeIP4, ip4{proto: protoNone}.with(make([]byte, size-34))), Ifindex: 1, Direction: Egress})
		want[bits.Len(uint(size))-1]++
	}
	for _, size := range []int{63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 2047, 2048} {
		mustRun(t, d, &TestRun{Frame: ether(typeIP4, ip4{proto: protoNone}.with(make([]byte, size-34))), Ifindex: 1, Direction: Egress})
		want[bits.Len(uint(size))-1]++
	}
	if g := glance(t, d, 1, Egress); g.Sizes != want {
		t.Errorf("sizes %v, want %v", g.Sizes, want)
	}
}

func TestFeaturesCountTheSegmentsOfASuperPacket(t *testing.T) {
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	// 3 segments: 1000, 1000 and 100 bytes of payload with 54 of headers.
	frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, ack, 2100)))
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1, GSOSegs: 3, GSOSize: 1000})
	g := glance(t, d, 1, Ingress)
	var want [sizeBuckets]uint64
	want[10], want[7] = 2, 1
	if g.Seen != (Counters{3, 2100 + 3*54}) || g.Sizes != want {
		t.Errorf("%+v, sizes %v, want %v", g.Seen, g.Sizes, want)
	}
	// A size that does not fit the frame: the mean in its place.
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1, GSOSegs: 3, GSOSize: 60_000})
	want = [sizeBuckets]uint64{9: 3}
	if g := glance(t, d, 1, Ingress); g.Seen != (Counters{3, 2100 + 3*54}) || g.Sizes != want {
		t.Errorf("a size that lies: %+v, sizes %v, want %v", g.Seen, g.Sizes, want)
	}
}

// The gaps are those between neighbours, whatever the period of the traffic:
// every 64th gap is long here, which a sample of every 64th would see always or never.
func TestFeaturesSampleGapsWithoutBias(t *testing.T) {
	d := load(t, func(c *Config) { c.Replay = true })
	must(t, d.Pretend(1, false))
	frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, ack, 6)))
	const n, period, short, long = 200_000, 64, 1000, 1_000_000
	now := int64(1_000_000_000)
	oneCPU(t)
	for i := range n {
		now += short
		if i%period == 0 {
			now += long - short
		}
		mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1, TimeNS: now})
	}
	g := glance(t, d, 1, Ingress)
	var total uint64
	for _, v := range g.Gaps {
		total += v
	}
	isShort, isLong := g.Gaps[bits.Len(short)-1], g.Gaps[bits.Len(long)-1]
	if isShort+isLong != total {
		t.Errorf("gaps that were not: %v", g.Gaps)
	}
	// The number of sampled pairs, and of long ones among them, with four standard
	// deviations: binomial at most, since the sample is spaced more evenly than that.
	within := func(what string, got uint64, mean float64) {
		if math.Abs(float64(got)-mean) > 4*math.Sqrt(mean) {
			t.Errorf("%s: %d, want about %.0f", what, got, mean)
		}
	}
	within("sampled pairs", total, n/65.5)
	within("long gaps", isLong, float64(total)/period)
}

// Several CPUs count at the same time as the counts are read: nothing is lost,
// nothing doubled.
func TestFeaturesUnderTrafficAddUp(t *testing.T) {
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	const senders, rounds, repeat = 4, 500, 50
	frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, syn, 6)))
	done := make(chan error, senders)
	for range senders {
		go func() {
			for range rounds {
				if err := d.Run(&TestRun{Frame: slices.Clone(frame), Ifindex: 1, Repeat: repeat}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	var seen Counters
	var syns uint64
	add := func() {
		g := glance(t, d, 1, Ingress)
		seen.Add(g.Seen)
		syns += g.SYN
	}
	for left := senders; left > 0; {
		select {
		case err := <-done:
			must(t, err)
			left--
		default:
			add()
		}
	}
	add()
	_, totals := drain(t, d)
	if s := sum(totals); seen != s.Seen || syns != s.Seen.Packets {
		t.Errorf("features saw %+v and %d SYNs, the totals %+v", seen, syns, s.Seen)
	}
}

func TestASlotThatChangesHandsBeginsAtZero(t *testing.T) {
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, syn, 6)))
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1})
	must(t, d.Detach(Place{Ifindex: 1}))
	if g := glance(t, d, 1, Ingress); g.SYN != 1 {
		t.Errorf("%d SYNs of the interface that is gone, want 1", g.SYN)
	}
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1})
	drain(t, d) // frees the slot
	must(t, d.Pretend(1, false))
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1})
	if g := glance(t, d, 1, Ingress); g.SYN != 1 {
		t.Errorf("%d SYNs of the new interface, want 1", g.SYN)
	}
}

func TestWithoutFeaturesNothingIsCounted(t *testing.T) {
	d := load(t, func(c *Config) { c.NoFeatures = true })
	must(t, d.Pretend(1, false))
	scan(t, d, 10)
	must(t, d.Glances(func(g *Glance) { t.Errorf("%+v", g) }))
}

// Sampled 1 in 16, what is told is what passed, but for chance; gaps are no longer
// those of neighbours and are left out.
func TestFeaturesAreScaledWherePacketsAreSampled(t *testing.T) {
	d := load(t, nil)
	must(t, d.Pretend(1, false))
	must(t, d.SetSampling(16))
	drain(t, d)
	const n = 64_000
	frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 2, syn, 6)))
	must(t, d.Glances(func(*Glance) {}))
	mustRun(t, d, &TestRun{Frame: frame, Ifindex: 1, Repeat: n})
	g := glance(t, d, 1, Ingress)
	_, totals := drain(t, d)
	sent := float64(sum(totals).Seen.Packets)
	// The number taken is binomial: n/16 with a deviation of √(n·15)/16.
	if math.Abs(float64(g.Seen.Packets)-sent) > 4*math.Sqrt(sent*15) || g.SYN != g.Seen.Packets || g.Sizes[5] != g.Seen.Packets || g.Seen.Bytes != 60*g.Seen.Packets {
		t.Errorf("%+v of %v packets", g, sent)
	}
	if g.Gaps != ([gapBuckets]uint64{}) {
		t.Errorf("gaps %v", g.Gaps)
	}
}
