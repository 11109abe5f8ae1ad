// Package drain empties the datapath every interval and makes batches of what
// it counted: the records, and the proof that nothing is missing.
package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
)

// maxRows is how many records go into one batch, maxNames how many bytes of
// names. Even with the largest values in every column, and names that cannot be
// compressed, so many stay below ebbwatch.MaxBatchEncoded.
const (
	maxRows  = 2500
	maxNames = 256 << 10
)

// maxAttach is how many attach points one batch can tell of: the contract's limit.
const maxAttach = 4096

// Datapath is the source: a *flowbpf.Datapath.
type Datapath interface {
	Drain(visit func([]flowbpf.Entry)) ([]flowbpf.Totals, error)
	Full() bool
	MapBytes() uint64
}

// Sink takes the batches away: a *publish.Publisher.
type Sink interface {
	NextSequence() uint64
	Losses() []ebbwatch.Loss
	Encode(*ebbwatch.Batch) (publish.Message, error)
	Enqueue(...publish.Message)
}

// Annotator adds to records what other parts of the agent know about their
// conversations.
type Annotator interface {
	// Begin is called when the interval's packets are all counted, before the first record.
	Begin()
	Annotate(*conn.Record)
	// End emits records without packets for what was left over, or lets it wait
	// for the next drain.
	End(emit func(*ebbwatch.Flow))
	// Last emits what waits. It is called after End when no drain may follow.
	Last(emit func(*ebbwatch.Flow))
}

// Warner makes early warnings: a *warn.Watch.
type Warner interface {
	// Warn fills in what passed since the call before, or returns false if nothing did.
	Warn(b *ebbwatch.Batch, since, lasted time.Duration) bool
	// Account adds to the first batch of a drain what is known of the interval's sources.
	Account(b *ebbwatch.Batch, lasted time.Duration)
}

// Drainer drains one datapath. Make it with New.
type Drainer struct {
	// Interval is the time from one drain to the next.
	Interval time.Duration
	Datapath Datapath
	Table    *conn.Table
	Sink     Sink
	// Interfaces names the places, also those that are gone.
	Interfaces conn.Interfaces
	Annotator  Annotator // may be nil
	Warner     Warner    // may be nil
	// WarnInterval is the time from one early warning to the next, 0 for none.
	WarnInterval time.Duration
	// Seed is called once, before the first drain: it tells the table what was
	// there before. May be nil.
	Seed func(context.Context, *conn.Table)
	// Govern is told after each drain how long the programs ran in the interval. May be nil.
	Govern func(run, interval time.Duration)
	// Clock reads the host's clocks. Nil is hostclock.Now.
	Clock func() (hostclock.Reading, error)
	// Drained is called after each drain: interfaces that were removed before it
	// need no name any more. May be nil.
	Drained func()
	Log     *slog.Logger

	metrics *metrics
	now     hostclock.Reading // of the drain at hand
	last    hostclock.Reading // of the one before
	warned  hostclock.Reading // of the last early warning
	stats   conn.Stats
	failed  uint64 // drains
	owed    int    // drains until everything is read that failed ones left
	ending  bool

	succeeded atomic.Pointer[time.Time]

	// The batches of one drain: the first, which is encoded last because the
	// attach points' totals come at the end, and the one that is being filled.
	first, rest ebbwatch.Batch
	warning     ebbwatch.Batch
	current     *ebbwatch.Batch
	messages    []publish.Message
	recorded    ebbwatch.Counter
	begun       bool // the annotator has
}

// Register registers the drainer's metrics. Call it once, before Run.
func (d *Drainer) Register(reg prometheus.Registerer) {
	d.metrics = newMetrics(reg, d.Datapath.MapBytes)
}

// maxLast is how many drains are made at the end: the buffers take turns, so that
// what a drain could not read comes with the one after the next.
const maxLast = 4

// Run drains every Interval until ctx ends, and then once more, or until nothing is
// left that a drain could not read. If the datapath is detached by then, all that
// it counted has been handed out when Run returns.
func (d *Drainer) Run(ctx context.Context) error {
	if d.Clock == nil {
		d.Clock = hostclock.Now
	}
	var err error
	if d.last, err = d.Clock(); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	begin := time.Now()
	d.succeeded.Store(&begin)
	d.warned = d.last
	ticker := time.NewTicker(d.Interval)
	defer ticker.Stop()
	var warn <-chan time.Time // for ever silent without warnings
	if d.Warner != nil && d.WarnInterval > 0 {
		t := time.NewTicker(d.WarnInterval)
		defer t.Stop()
		warn = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return d.end(ctx)
		case <-ticker.C:
			if err := d.drain(ctx); err != nil {
				return err
			}
		case <-warn:
			if err := d.warn(); err != nil {
				return err
			}
		}
	}
}

// end makes the last drains.
func (d *Drainer) end(ctx context.Context) error {
	d.ending = true
	for range maxLast {
		if err := d.drain(ctx); err != nil || d.owed == 0 {
			return err
		}
	}
	d.Log.Error("the kernel's maps could not be read to the end, part of what they counted is lost")
	return nil
}

// drain makes and enqueues the batches of one interval: at least one, which is
// the agent's sign of life. What goes wrong with the datapath is logged and
// counted, and the next interval tries again.
func (d *Drainer) drain(ctx context.Context) error {
	now, err := d.Clock()
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	d.now = now
	if step := now.Step(d.last); step.Abs() > time.Second {
		d.metrics.clockSteps.Inc()
		d.Log.Warn("the wall clock was stepped", "by", step.Round(time.Millisecond))
	}
	d.begin()
	if d.Seed != nil {
		d.Seed(context.WithoutCancel(ctx), d.Table)
		d.Seed = nil
	}
	totals, err := d.Datapath.Drain(d.visit)
	d.owed = max(0, d.owed-1)
	if err != nil {
		d.failed++
		d.owed = 2
		d.metrics.drainErrors.Inc()
		d.Log.Error("drain failed, part of the interval has no records", "error", err)
	}
	if err == nil {
		at := time.Now()
		d.succeeded.Store(&at)
	}
	if d.Annotator != nil {
		d.annotating()
		d.Annotator.End(d.append)
		if ctx.Err() != nil {
			d.Annotator.Last(d.append)
		}
	}
	d.Table.Expire(d.append)
	d.finish(totals)
	d.last = now
	if d.Drained != nil {
		d.Drained()
	}
	end, err := d.Clock()
	if err == nil {
		d.metrics.duration.Observe(time.Duration(end.MonoNS - now.MonoNS).Seconds())
	}
	return nil
}

func (d *Drainer) begin() {
	d.Table.Begin(d.now, d.last.MonoNS, d.Datapath.Full())
	d.first.Reset()
	d.rest.Reset()
	d.current = &d.first
	d.messages = d.messages[:0]
	d.recorded, d.begun = ebbwatch.Counter{}, false
	d.envelope(&d.first)
}

// envelope fills in what is known when a batch begins.
func (d *Drainer) envelope(b *ebbwatch.Batch) {
	b.Time = d.now.Wall.Truncate(time.Microsecond)
	b.IntervalMS = uint32(min((d.now.MonoNS-d.last.MonoNS)/1e6, math.MaxUint32))
	b.Sequence = d.Sink.NextSequence()
	b.Losses = append(b.Losses, d.Sink.Losses()...)
	b.Losses = append(b.Losses, ebbwatch.Loss{Name: "conversations_evicted", Count: d.stats.Evicted}, ebbwatch.Loss{Name: "drains_failed", Count: d.failed})
}

func (d *Drainer) visit(group []flowbpf.Entry) {
	d.annotating()
	d.Table.Observe(group, d.observe)
}

// annotating begins the annotator once in a drain, as late as can be: then all
// packets of the interval are counted.
func (d *Drainer) annotating() {
	if d.Annotator != nil && !d.begun {
		d.begun = true
		d.Annotator.Begin()
	}
}

func (d *Drainer) observe(r *conn.Record) {
	if d.Annotator != nil {
		d.Annotator.Annotate(r)
	}
	d.append(&r.Flow)
}

func (d *Drainer) append(f *ebbwatch.Flow) {
	if d.current.Len() >= maxRows || d.current.NameBytes() >= maxNames {
		if d.current == &d.rest {
			d.encode(&d.rest)
			d.rest.Reset()
		}
		d.current = &d.rest
		d.envelope(&d.rest)
	}
	d.current.Append(f)
	d.recorded.Add(ebbwatch.Counter{Packets: f.SrcPackets + f.DstPackets, Bytes: f.SrcBytes + f.DstBytes})
	d.metrics.flows[f.ConnState].Inc()
}

func (d *Drainer) encode(b *ebbwatch.Batch) {
	m, err := d.Sink.Encode(b)
	if err != nil {
		d.Log.Error("batch cannot be encoded and is lost", "sequence", b.Sequence, "flows", b.Len(), "error", err)
		return
	}
	d.messages = append(d.messages, m)
}

// finish completes the first batch with the totals and sends all of them.
func (d *Drainer) finish(totals []flowbpf.Totals) {
	d.account(totals)
	if d.Warner != nil {
		d.Warner.Account(&d.first, time.Duration(d.now.MonoNS-d.last.MonoNS))
	}
	d.current.Last = d.ending && d.owed == 0
	if d.current == &d.rest {
		d.encode(&d.rest)
	}
	rest := d.messages
	d.messages = nil
	d.encode(&d.first)
	d.Sink.Enqueue(append(d.messages, rest...)...)
	d.messages = rest[:0]
	clear(rest)
	d.metrics.lastDrain.Set(float64(d.now.Wall.UnixNano()) / 1e9)
}

// account puts the attach points into the first batch and checks that the
// records tell the same as they do.
func (d *Drainer) account(totals []flowbpf.Totals) {
	var recorded ebbwatch.Counter
	sampling, run := uint64(1), time.Duration(0)
	for i := range totals {
		t := &totals[i]
		if t.Place.Ifindex == 0 {
			continue // the kernel's test runs
		}
		sampling = max(1, uint64(t.Sampling)) // the same for all
		recorded.Add(ebbwatch.Counter(t.Recorded))
		run += time.Duration(t.RunNS)
		d.balance(t)
		name, netns := d.Interfaces.Name(t.Place), d.Interfaces.NetNS(t.Place)
		d.metrics.observe(name, netns, t)
		if len(d.first.Attach) >= maxAttach {
			d.metrics.imbalances.Inc()
			d.Log.Error("more attach points than one batch can tell of", "interface", name, "limit", maxAttach)
			continue
		}
		d.first.Attach = append(d.first.Attach, ebbwatch.AttachPoint{
			Interface: name, NetNS: netns, Egress: t.Direction == flowbpf.Egress,
			Seen: ebbwatch.Counter(t.Seen), Recorded: ebbwatch.Counter(t.Recorded),
			Overflow: ebbwatch.Counter(t.Overflow), Other: ebbwatch.Counter(t.Other),
			Skipped: ebbwatch.Counter(t.Skipped), Reasons: reasons(t),
		})
	}
	d.metrics.forget()
	if d.Govern != nil {
		d.Govern(run, time.Duration(d.now.MonoNS-d.last.MonoNS))
	}
	stats := d.Table.Stats()
	repeated := ebbwatch.Counter{Packets: stats.Repeated.Packets - d.stats.Repeated.Packets, Bytes: stats.Repeated.Bytes - d.stats.Repeated.Bytes}
	d.metrics.table(stats, d.stats)
	d.stats = stats
	// Records are scaled by the sampling rate, counters of attach points are not.
	d.recorded.Add(ebbwatch.Counter{Packets: repeated.Packets * sampling, Bytes: repeated.Bytes * sampling})
	recorded = ebbwatch.Counter{Packets: recorded.Packets * sampling, Bytes: recorded.Bytes * sampling}
	if d.recorded != recorded {
		d.metrics.imbalances.Inc()
		d.Log.Error("records do not add up to the attach points' totals", "records_packets", d.recorded.Packets, "records_bytes", d.recorded.Bytes,
			"attach_packets", recorded.Packets, "attach_bytes", recorded.Bytes)
	}
}

// reasons are those that occurred.
func reasons(t *flowbpf.Totals) (list []ebbwatch.Loss) {
	for i, name := range flowbpf.ReasonNames() {
		if t.Reasons[i] != 0 {
			list = append(list, ebbwatch.Loss{Name: name, Count: t.Reasons[i]})
		}
	}
	return list
}

var errExcess = errors.New("more recorded than seen")

// balance keeps the envelope's promise after a failed drain: what was seen but
// is in no entry is told as overflow, because it stands in no record either.
func (d *Drainer) balance(t *flowbpf.Totals) {
	if t.Balanced() {
		return
	}
	d.metrics.imbalances.Inc()
	known := t.Recorded
	known.Add(t.Overflow)
	known.Add(t.Other)
	known.Add(t.Skipped)
	if known.Packets > t.Seen.Packets || known.Bytes > t.Seen.Bytes {
		d.Log.Error("attach point does not balance", "ifindex", t.Place.Ifindex, "direction", t.Direction, "error", errExcess)
		return
	}
	d.Log.Error("attach point does not balance, the rest counts as overflow", "ifindex", t.Place.Ifindex, "direction", t.Direction,
		"packets", t.Seen.Packets-known.Packets, "bytes", t.Seen.Bytes-known.Bytes)
	t.Overflow.Add(flowbpf.Counters{Packets: t.Seen.Packets - known.Packets, Bytes: t.Seen.Bytes - known.Bytes})
}

// Health returns an error when no drain succeeded for three intervals. It is
// safe for concurrent use.
func (d *Drainer) Health(context.Context) error {
	last := d.succeeded.Load()
	if last == nil {
		return nil // not one interval old
	}
	if late := time.Since(*last); late > 3*d.Interval {
		return fmt.Errorf("no drain succeeded for %s", late.Round(time.Second))
	}
	return nil
}
