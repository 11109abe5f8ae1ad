package warn_test

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/warn"
)

// counted is a datapath that has counted as written.
type counted struct {
	glances          []flowbpf.Glance
	sources, drained []flowbpf.Source
	err              error
}

func (c *counted) Glances(visit func(*flowbpf.Glance)) error {
	for i := range c.glances {
		visit(&c.glances[i])
	}
	return c.err
}

func (c *counted) Sources(visit func(*flowbpf.Source)) error {
	for i := range c.sources {
		visit(&c.sources[i])
	}
	return c.err
}

func (c *counted) DrainedSources() []flowbpf.Source { return c.drained }

type names struct{}

func (names) Name(flowbpf.Place) string  { return "eth0" }
func (names) NetNS(flowbpf.Place) string { return "blue" }

func watch(t *testing.T, c *counted) (*warn.Watch, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return warn.New(c, names{}, reg, slog.New(slog.NewTextHandler(t.Output(), nil))), reg
}

func address(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(n))
	return netip.AddrFrom4(b)
}

func overflow(packets uint64) flowbpf.Counters {
	return flowbpf.Counters{Packets: packets, Bytes: 64 * packets}
}

func TestAWarningTellsWhatPassedAndWhoStandsOut(t *testing.T) {
	g := flowbpf.Glance{Place: flowbpf.Place{Ifindex: 2}, Direction: flowbpf.Egress, Seen: flowbpf.Counters{Packets: 9, Bytes: 900}, SYN: 5, SYNACK: 4, FIN: 3, RST: 2, NewFlows: 6, Overflow: 1}
	g.Sizes[6], g.Gaps[10] = 9, 2
	c := &counted{
		glances: []flowbpf.Glance{{Seen: flowbpf.Counters{Packets: 1, Bytes: 1}}, g}, // the first is a test run's
		sources: []flowbpf.Source{{Addr: address(1), Flows: 15, Targets: 15}, {Addr: address(2), Flows: 16, Targets: 16}, {Addr: address(3), Flows: 99, Targets: 99}, {Flows: 1, Targets: 1, Overflow: overflow(1)}},
	}
	w, _ := watch(t, c)
	var b ebbwatch.Batch
	if !w.Warn(&b, time.Second, 3*time.Second) {
		t.Fatal("no warning")
	}
	wantFeatures := []ebbwatch.Feature{{Interface: "eth0", NetNS: "blue", Egress: true, IntervalMS: 1000, Seen: ebbwatch.Counter{Packets: 9, Bytes: 900}, SYN: 5, SYNACK: 4, FIN: 3, RST: 2, NewFlows: 6, Overflow: 1,
		Sizes: []uint64{6: 9}, Gaps: []uint64{10: 2}}}
	if !reflect.DeepEqual(b.Features, wantFeatures) {
		t.Errorf("features\n%+v, want\n%+v", b.Features, wantFeatures)
	}
	wantSources := []ebbwatch.Source{
		{Addr: address(3), IntervalMS: 3000, Flows: 99, Targets: 99}, {Addr: address(2), IntervalMS: 3000, Flows: 16, Targets: 16},
		{IntervalMS: 3000, Flows: 1, Targets: 1, Overflow: ebbwatch.Counter{Packets: 1, Bytes: 64}},
	}
	if !reflect.DeepEqual(b.Sources, wantSources) {
		t.Errorf("sources\n%+v, want\n%+v", b.Sources, wantSources)
	}
}

func TestAWarningNamesNoMoreThan32Sources(t *testing.T) {
	c := &counted{glances: []flowbpf.Glance{{Place: flowbpf.Place{Ifindex: 2}, Seen: flowbpf.Counters{Packets: 1, Bytes: 64}}}}
	for i := range 500 {
		c.sources = append(c.sources, flowbpf.Source{Addr: address(i), Flows: 1000, Targets: uint64(20 + i)})
	}
	w, _ := watch(t, c)
	var b ebbwatch.Batch
	if !w.Warn(&b, time.Second, time.Second) || len(b.Sources) != 32 || b.Sources[0].Targets != 519 || b.Sources[31].Targets != 488 {
		t.Errorf("%d sources: %+v", len(b.Sources), b.Sources)
	}
}

func TestAQuietSecondMakesNoWarning(t *testing.T) {
	w, _ := watch(t, &counted{sources: []flowbpf.Source{{Addr: address(1), Targets: 100}}})
	var b ebbwatch.Batch
	if w.Warn(&b, time.Second, time.Second) || len(b.Sources) != 0 {
		t.Errorf("warned of %+v", b.Sources)
	}
}

func TestAFailureIsCountedAndTheRestIsTold(t *testing.T) {
	c := &counted{glances: []flowbpf.Glance{{Place: flowbpf.Place{Ifindex: 2}, Seen: flowbpf.Counters{Packets: 1, Bytes: 64}}}, err: errors.New("bad address")}
	w, reg := watch(t, c)
	var b ebbwatch.Batch
	if !w.Warn(&b, time.Second, time.Second) || len(b.Features) != 1 {
		t.Errorf("features: %+v", b.Features)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ebbwatch_agent_warning_errors_total" && f.GetMetric()[0].GetCounter().GetValue() != 2 {
			t.Errorf("%v", f)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

// However many sources there are, the account's overflow is theirs to the byte,
// and it fits into a batch.
func TestTheAccountOfADrainTellsTheWholeOverflow(t *testing.T) {
	cases := []struct {
		name                        string
		overflowed, scanners, crowd int
		want                        int // sources told
	}{
		{"nothing at all", 0, 0, 0, 0},
		{"a scanner without overflow", 0, 1, 0, 1},
		{"a few with overflow", 3, 0, 0, 3},
		{"a few and a crowd", 3, 2, 7, 6},
		{"as many as can be told", 1000, 0, 0, 1000},
		{"the crowd is one of as many as can be told", 999, 0, 5, 1000},
		{"one more than can be told", 1001, 0, 0, 1001},
		{"a thousand and a crowd", 1000, 0, 5, 1001},
		{"a flood from everywhere", 8192, 200, 100_000, 1024},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := &counted{}
			var want ebbwatch.Counter
			add := func(s flowbpf.Source) {
				want.Add(ebbwatch.Counter(s.Overflow))
				d.drained = append(d.drained, s)
			}
			for i := range c.overflowed {
				add(flowbpf.Source{Addr: address(i), Flows: 1, Targets: 1, Overflow: overflow(1 + uint64(i))})
			}
			if c.crowd > 0 {
				add(flowbpf.Source{Flows: uint64(c.crowd), Targets: 1, Overflow: overflow(uint64(c.crowd))})
			}
			for i := range c.scanners {
				add(flowbpf.Source{Addr: address(100_000 + i), Flows: 50, Targets: 40})
			}
			for i := range 50 { // of no interest
				add(flowbpf.Source{Addr: address(200_000 + i), Flows: 5, Targets: 5})
			}
			w, _ := watch(t, d)
			var b ebbwatch.Batch
			w.Account(&b, 5*time.Second)
			var got ebbwatch.Counter
			seen := make(map[netip.Addr]bool)
			for _, s := range b.Sources {
				got.Add(s.Overflow)
				if seen[s.Addr] {
					t.Errorf("%v is told twice", s.Addr)
				}
				seen[s.Addr] = true
			}
			if got != want || len(b.Sources) != c.want {
				t.Errorf("%d sources tell of an overflow of %+v, want %d and %+v", len(b.Sources), got, c.want, want)
			}
			if c.overflowed > 1000 && !seen[address(c.overflowed-1)] {
				t.Error("the one with the most overflow is not named")
			}
		})
	}
}

func TestConfigKnowsItsBounds(t *testing.T) {
	for interval, ok := range map[time.Duration]bool{0: true, time.Second: true, 100 * time.Millisecond: true, 99 * time.Millisecond: false, -time.Second: false, time.Minute + 1: false} {
		c := warn.Config{Interval: interval}
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%v: %v", interval, err)
		}
	}
}
