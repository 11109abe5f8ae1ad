package drain_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/drain"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
)

// script is a datapath whose drains go as written: each step is one interval.
// The real one is in the tests of the app package; failures are only here.
type script struct {
	steps []step
	next  int
	clock func() (hostclock.Reading, error)
}

type step struct {
	flows  int
	totals []flowbpf.Totals
	err    error
}

func (s *script) Full() bool       { return false }
func (s *script) MapBytes() uint64 { return 0 }

func (s *script) Drain(visit func([]flowbpf.Entry)) ([]flowbpf.Totals, error) {
	if s.next == len(s.steps) {
		return nil, nil
	}
	st := s.steps[s.next]
	s.next++
	for i := range st.flows {
		e := flowbpf.Entry{A: netip.MustParseAddr("192.0.2.1"), B: netip.MustParseAddr("192.0.2.2"), APort: uint16(i + 1), BPort: 53, Proto: ebbwatch.ProtoUDP, Place: flowbpf.Place{Ifindex: 1}, Sampling: 1}
		clock, err := s.clock()
		if err != nil {
			return nil, err
		}
		e.FirstNS = clock.MonoNS - int64(time.Millisecond)
		e.LastNS = e.FirstNS
		e.Side[0].Counters = flowbpf.Counters{Packets: 1, Bytes: 100}
		visit([]flowbpf.Entry{e})
	}
	return st.totals, st.err
}

// interfaces is a host with one.
type interfaces struct{}

func (interfaces) Name(flowbpf.Place) string       { return "eth0" }
func (interfaces) NetNS(flowbpf.Place) string      { return "" }
func (interfaces) Related(_, _ flowbpf.Place) bool { return false }

// sink keeps what a real publisher has encoded.
type sink struct {
	*publish.Publisher
	messages []publish.Message
}

func (s *sink) Enqueue(m ...publish.Message) { s.messages = append(s.messages, m...) }

func run(t *testing.T, steps ...step) (batches []ebbwatch.Batch, reg *prometheus.Registry) {
	t.Helper()
	return runUnder(t, func(time.Duration) time.Duration { return 0 }, steps...)
}

// begin is what the clock shows at first, and the time of the bubble.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// runUnder is run where somebody sets the wall clock: wrong tells how far it is
// from the truth at a time after begin.
func runUnder(t *testing.T, wrong func(time.Duration) time.Duration, steps ...step) (batches []ebbwatch.Batch, reg *prometheus.Registry) {
	t.Helper()
	clock := func() (hostclock.Reading, error) {
		now := time.Now()
		since := now.Sub(begin)
		return hostclock.Reading{Wall: now.Add(wrong(since)).UTC(), MonoNS: int64(time.Hour + since)}, nil
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	reg = prometheus.NewRegistry()
	publisher, err := publish.New(publish.Config{Agent: "host-a", QueueMaxBytes: 1 << 20}, &nats.Conn{}, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{Publisher: publisher}
	synctest.Test(t, func(t *testing.T) {
		d := &drain.Drainer{Interval: 5 * time.Second, Datapath: &script{steps: steps, clock: clock}, Clock: clock, Table: conn.NewTable(conn.DefaultConfig(), interfaces{}), Sink: out, Interfaces: interfaces{}, Log: log}
		d.Register(reg)
		// One drain at each tick, and one at the end.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(steps)-1)*5*time.Second+time.Second)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var decoder ebbwatch.Decoder
	batches = make([]ebbwatch.Batch, len(out.messages))
	for i, m := range out.messages {
		if err := decoder.Decode(m.Data, &batches[i]); err != nil {
			t.Fatal(err)
		}
		if batches[i].Sequence != uint64(i+1) || batches[i].Len() != m.Flows {
			t.Errorf("message %d: sequence %d, %d flows, said %d", i, batches[i].Sequence, batches[i].Len(), m.Flows)
		}
	}
	return batches, reg
}

func count(packets uint64) flowbpf.Counters {
	return flowbpf.Counters{Packets: packets, Bytes: 100 * packets}
}

func value(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestQuietDrainStillSendsItsSignOfLife(t *testing.T) {
	batches, _ := run(t, step{totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}}, {Place: flowbpf.Place{Ifindex: 1}, Direction: flowbpf.Egress}}}, step{})
	if len(batches) != 2 {
		t.Fatalf("%d batches of 2 drains", len(batches))
	}
	b := batches[0]
	if b.Len() != 0 || len(b.Attach) != 2 || b.Attach[0].Egress || !b.Attach[1].Egress || b.Attach[0].Interface != "eth0" {
		t.Errorf("%+v", b.Envelope)
	}
}

func TestLargeDrainTakesSeveralBatchesWithTheProofInTheFirst(t *testing.T) {
	batches, reg := run(t, step{flows: 12_345, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(12_345), Recorded: count(12_345)}}})
	if len(batches) != 5 {
		t.Fatalf("%d batches", len(batches))
	}
	flows := 0
	for i, b := range batches {
		if b.Last != (i == len(batches)-1) {
			t.Errorf("batch %d of the only drain, the last one: %v", i, b.Last)
		}
		flows += b.Len()
		if (i == 0) != (len(b.Attach) == 1) {
			t.Errorf("batch %d tells of %d attach points", i, len(b.Attach))
		}
		if !b.Time.Equal(batches[0].Time) || b.IntervalMS != batches[0].IntervalMS {
			t.Errorf("batch %d is of another interval", i)
		}
	}
	if flows != 12_345 {
		t.Errorf("%d flows", flows)
	}
	if n := value(t, reg, "ebbwatch_agent_imbalances_total"); n != 0 {
		t.Errorf("%v imbalances", n)
	}
}

func TestFailedDrainIsToldAsOverflowAndCounted(t *testing.T) {
	batches, reg := run(t,
		step{flows: 3, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(10), Recorded: count(3), Other: count(1)}}, err: errors.New("batch lookup: out of memory")},
		step{flows: 1, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(1), Recorded: count(1)}}})
	if len(batches) != 3 || batches[0].Len() != 3 || batches[1].Len() != 1 {
		t.Fatalf("%d batches", len(batches))
	}
	want := ebbwatch.AttachPoint{
		Interface: "eth0", Seen: ebbwatch.Counter(count(10)), Recorded: ebbwatch.Counter(count(3)),
		Overflow: ebbwatch.Counter(count(6)), Other: ebbwatch.Counter(count(1)),
	}
	if !reflect.DeepEqual(batches[0].Attach[0], want) {
		t.Errorf("got %+v, want %+v", batches[0].Attach[0], want)
	}
	if a, b := value(t, reg, "ebbwatch_agent_drain_errors_total"), value(t, reg, "ebbwatch_agent_imbalances_total"); a != 1 || b != 1 {
		t.Errorf("%v drain errors, %v imbalances", a, b)
	}
	told := false
	for _, l := range batches[1].Losses {
		told = told || l.Name == "drains_failed" && l.Count == 1
	}
	if !told {
		t.Errorf("losses: %+v", batches[1].Losses)
	}
}

// What a drain could not read comes with the drain after the next, also where the
// agent ends before that one is due.
func TestLastDrainsReadWhatFailedOnesLeft(t *testing.T) {
	failing := step{err: errors.New("batch lookup: out of memory")}
	for _, c := range []struct {
		name  string
		steps []step // the last of them is the first at the end
		want  int
	}{
		{"nothing failed", []step{{}, {}}, 2},
		{"one failed long before", []step{failing, {}, {}, {}}, 4},
		{"the one before the end failed", []step{failing, {}}, 3},
		{"the one at the end failed", []step{{}, failing}, 4},
		{"several failed, and the one at the end", []step{{}, failing, failing, failing, failing, failing}, 8},
	} {
		batches, _ := run(t, c.steps...)
		if len(batches) != c.want {
			t.Errorf("%s: %d drains, want %d", c.name, len(batches), c.want)
		}
		for i, b := range batches {
			if b.Last != (i == len(batches)-1) {
				t.Errorf("%s: batch %d of %d: last is %v", c.name, i+1, len(batches), b.Last)
			}
		}
	}
}

// A wall clock that somebody sets moves the times of what comes after, and nothing
// else: no interval, no age, no number.
func TestStepsOfTheWallClockMoveTimesAlone(t *testing.T) {
	wrong := func(since time.Duration) time.Duration {
		switch {
		case since > 22*time.Second:
			return 24 * time.Hour
		case since > 12*time.Second:
			return -time.Hour
		}
		return 0
	}
	steps := make([]step, 7) // one conversation, in each interval
	for i := range steps {
		steps[i] = step{flows: 1, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(1), Recorded: count(1)}}}
	}
	batches, reg := runUnder(t, wrong, steps...)
	if len(batches) != len(steps) {
		t.Fatalf("%d batches", len(batches))
	}
	for i, b := range batches {
		since, interval := time.Duration(i+1)*5*time.Second, uint32(5000)
		if i == len(steps)-1 { // the end comes before the next tick
			since, interval = time.Duration(i)*5*time.Second+time.Second, 1000
		}
		if want := begin.Add(since).Add(wrong(since)); !b.Time.Equal(want) || b.IntervalMS != interval {
			t.Errorf("drain %d at %v of %d ms, want %v and %d", i, b.Time, b.IntervalMS, want, interval)
		}
		f := b.Flow(0)
		if want := b.Time.Add(-time.Millisecond); b.Len() != 1 || !f.Start.Equal(want) || !f.End.Equal(want) {
			t.Errorf("drain %d: %d records, from %v to %v, want %v", i, b.Len(), f.Start, f.End, want)
		}
		age := uint32(0)
		if i > 0 { // from its first packet, in the first interval, to the drain before
			age = uint32(i*5000 - 4999)
		}
		if f.AgeMS != age {
			t.Errorf("drain %d: the conversation is %d ms old, want %d", i, f.AgeMS, age)
		}
	}
	if n := value(t, reg, "ebbwatch_agent_clock_steps_total"); n != 2 {
		t.Errorf("%v steps counted", n)
	}
}

func TestRecordsThatDoNotAddUpAreNoticed(t *testing.T) {
	_, reg := run(t, step{flows: 2, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(3), Recorded: count(3)}}})
	if n := value(t, reg, "ebbwatch_agent_imbalances_total"); n != 1 {
		t.Errorf("%v imbalances", n)
	}
}

func TestMetricsHaveHelpThatSaysWhatToDo(t *testing.T) {
	_, reg := run(t, step{flows: 1, totals: []flowbpf.Totals{{Place: flowbpf.Place{Ifindex: 1}, Seen: count(1), Recorded: count(1)}}})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
