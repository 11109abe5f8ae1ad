// Package annotate adds to flow records what is learned beside the packet
// counters: what the beginning of a conversation says, whose sockets its ends
// are, and what the kernel dropped or sent again.
package annotate

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/l7"
	"github.com/ebbwatch/ebbwatch/agent/internal/trace"
)

// Hints is where beginnings of conversations come from: a *flowbpf.Datapath.
type Hints interface {
	Hints(visit func(*flowbpf.Hint)) error
	HintsLost() uint64
}

// Owners names processes: an *owner.Watcher.
type Owners interface {
	Owner(pid uint32) (ebbwatch.Owner, bool)
}

// Losses tells what conversations lost since it was last asked: a *trace.Tracer.
type Losses interface {
	Drain() (map[trace.Key]trace.Loss, error)
	Stats() (trace.Stats, error)
}

// Conversations makes a record without packets: a *conn.Table.
type Conversations interface {
	Bare(name flowbpf.Key, sender uint8) *conn.Record
	Known(flowbpf.Key) bool
}

// Sources are where annotations come from. Hints must be there.
type Sources struct {
	Hints         Hints
	Owners        Owners
	Losses        Losses
	Conversations Conversations
}

// notSpecified is the reason of drops that the kernel does not explain; the end
// of a test packet is one.
const notSpecified = "NOT_SPECIFIED"

// maxBare bounds the records of one drain that have no packets, only losses.
const maxBare = 1000

// Annotator implements drain.Annotator. Make it with New. Collect is safe to
// call beside the other methods.
type Annotator struct {
	from Sources
	log  *slog.Logger

	metrics  *l7.Metrics
	unkept   prometheus.Counter
	failed   prometheus.Counter
	bare     prometheus.Counter
	unplaced prometheus.Counter

	losses  map[trace.Key]trace.Loss // of the interval, without those in records
	late    map[trace.Key]trace.Loss // of the interval before, without a record so far
	records int                      // without packets, of the drain

	// Losses are drained some milliseconds after the packets: segments that were
	// sent again in between are told now, and are among the packets of the next
	// interval. Those of this one, and of the one before, by side.
	ahead, due map[flowbpf.Key][2]uint32

	mu     sync.Mutex // guards what follows
	parser l7.Parser
	talks  map[flowbpf.Key]*talk
}

// New returns an annotator that registers its metrics with reg.
func New(from Sources, reg prometheus.Registerer, log *slog.Logger) *Annotator {
	a := &Annotator{
		from: from, log: log, metrics: l7.NewMetrics(reg), talks: make(map[flowbpf.Key]*talk),
		unkept: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_hints_unkept_total",
			Help: "Beginnings of conversations that were not read because too many others waited for their record. Their records have no application hints; shorten drain_interval."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_annotation_failures_total",
			Help: "Attempts to read hints or losses from the kernel that failed; the next one comes within an interval. Look at the log for the kernel's reason."}),
		bare: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_losses_without_record_total",
			Help: "Conversations with drops but without a packet at any watched interface that found no place among the records of a drain. Harmless unless it keeps growing: the kernel drops most of what somebody sends, see drop_reason in other records."}),
		unplaced: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_loss_unplaced_total",
			Help: "Dropped packets of which the kernel does not tell the network namespace, and of whose conversation there was no record: in no record. They can belong to a namespace that is not watched, such as a container's; Linux 6.11 and later tell it of most."}),
	}
	reg.MustRegister(a.unkept, a.failed, a.bare, a.unplaced, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_hints_lost_total",
		Help: "Beginnings of conversations that found no room in the kernel's buffer. Their records have no application hints: raise datapath.hint_bytes."},
		func() float64 { return float64(from.Hints.HintsLost()) }))
	if from.Losses != nil {
		a.registerLosses(reg)
	}
	return a
}

func (a *Annotator) registerLosses(reg prometheus.Registerer) {
	for _, m := range []struct {
		name, help string
		value      func(trace.Stats) uint64
	}{
		{"loss_overflow_total", "Drops and retransmissions that found no room in the kernel's map: in no record. A flood is being dropped.", func(s trace.Stats) uint64 { return s.Overflow }},
		{"loss_unreadable_total", "Drops of IP packets whose headers could not be read: in no record.", func(s trace.Stats) uint64 { return s.Unreadable }},
		{"loss_interrupted_total", "Drops that came while another was being counted on the same CPU: in no record. A few are normal under load.", func(s trace.Stats) uint64 { return s.Interrupted }},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_" + m.name, Help: m.help}, func() float64 {
			s, err := a.from.Losses.Stats()
			if err != nil {
				return 0
			}
			return float64(m.value(s))
		}))
	}
}

// Run collects every second until ctx ends.
func (a *Annotator) Run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			a.Collect()
		}
	}
}

// Collect takes what conversations said since the last call out of the kernel's
// buffer. About once a second, so that the buffer need not be large.
func (a *Annotator) Collect() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.from.Hints.Hints(a.hear); err != nil {
		a.failed.Inc()
		a.log.Debug("beginnings of conversations cannot be read", "error", err)
	}
}

func (a *Annotator) hear(h *flowbpf.Hint) {
	t := a.talks[h.Key]
	if t == nil {
		if len(a.talks) >= maxTalks {
			a.unkept.Inc()
			return
		}
		t = &talk{}
		a.talks[h.Key] = t
	}
	if t.side[h.Side].hear(&a.parser, h, a.metrics.Hint) {
		t.drains, t.told = 0, false
	}
}

// Begin implements drain.Annotator.
func (a *Annotator) Begin() {
	a.Collect()
	if a.from.Losses == nil {
		return
	}
	a.ahead, a.due = make(map[flowbpf.Key][2]uint32), a.ahead
	losses, err := a.from.Losses.Drain()
	if err != nil {
		a.failed.Inc()
		a.log.Warn("losses cannot be read", "error", err)
	}
	a.losses = losses
	for k, loss := range a.late {
		if a.losses == nil {
			a.losses = make(map[trace.Key]trace.Loss)
		}
		a.losses[k] = together(loss, a.losses[k])
	}
}

// together adds up what one conversation suffered, in two intervals or places.
func together(a, b trace.Loss) trace.Loss {
	if b.Reason == "" || b.Drops[0]+b.Drops[1] < a.Drops[0]+a.Drops[1] {
		b.Reason = a.Reason
	}
	for i := range a.Drops {
		b.Drops[i] += a.Drops[i]
		b.DropBytes[i] += a.DropBytes[i]
		b.Retransmits[i] += a.Retransmits[i]
	}
	return b
}

// Annotate implements drain.Annotator.
func (a *Annotator) Annotate(r *conn.Record) {
	a.own(&r.SrcOwner)
	a.own(&r.DstOwner)
	k := r.Key
	k.Tunnel, k.TunnelID, k.Mapped = 0, 0, false // the stack knows the packets inside only, and losses their addresses
	loss, lost := a.take(k)
	if _, due := a.due[k]; lost || due {
		a.suffer(r, k, &loss)
		delete(a.due, k)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.talks[r.Key]
	if t == nil || t.told {
		return
	}
	e := l7.Match(t.side[r.Src].hints, t.side[1-r.Src].hints)
	a.metrics.Exchange(&e)
	r.Hint = e.Record()
	t.told = true
}

// take returns what the conversation lost, for its record: it is in one only,
// though a conversation on several paths has several.
func (a *Annotator) take(k flowbpf.Key) (sum trace.Loss, some bool) {
	for _, unplaced := range [...]bool{false, true} {
		name := trace.Key{Key: k, Unplaced: unplaced}
		if loss, ok := a.losses[name]; ok {
			sum, some = together(sum, loss), true
			delete(a.losses, name)
		}
	}
	return sum, some
}

// suffer puts the losses of k into a record. What a socket says that it sent
// again is more exact than what was seen of it, unless it was seen to be more: on
// the way of a forwarded packet others may repeat it.
func (a *Annotator) suffer(r *conn.Record, k flowbpf.Key, loss *trace.Loss) {
	due := a.due[k]
	var ahead [2]uint32
	for side, h := range [2]*ebbwatch.Health{&r.SrcHealth, &r.DstHealth} {
		i := int(r.Src) ^ side
		h.Drops = clip(loss.Drops[i])
		seen := h.Retransmits - min(h.Retransmits, due[i])
		h.Retransmits = max(seen, clip(loss.Retransmits[i]))
		ahead[i] = h.Retransmits - seen
	}
	r.DropReason = loss.Reason
	if ahead != [2]uint32{} {
		a.ahead[k] = ahead
	}
}

// loopback reports whether a conversation stays on its host.
func loopback(k *flowbpf.Key) bool {
	return netip.AddrFrom16(k.A).Unmap().IsLoopback() || netip.AddrFrom16(k.B).Unmap().IsLoopback()
}

func clip(v uint64) uint32 { return uint32(min(v, math.MaxUint32)) }

func (a *Annotator) own(o *ebbwatch.Owner) {
	if o.PID == 0 {
		return
	}
	if a.from.Owners != nil {
		if known, ok := a.from.Owners.Owner(o.PID); ok {
			*o = known
			return
		}
	}
	*o = ebbwatch.Owner{PID: o.PID}
}

// End implements drain.Annotator: it tells of packets that were dropped before
// any interface saw them, and forgets what was told. Losses are drained some
// milliseconds after the packets: what belongs to no conversation, and what was
// sent again of one without a record, waits for the next drain.
func (a *Annotator) End(emit func(*ebbwatch.Flow)) {
	late := make(map[trace.Key]trace.Loss)
	a.records = 0
	for k, loss := range a.losses {
		if _, waited := a.late[k]; waited || !k.Unplaced && loss.Drops != [2]uint64{} && a.from.Conversations.Known(k.Key) {
			a.tell(k, &loss, emit)
		} else {
			late[k] = loss
		}
	}
	a.losses, a.late = nil, late
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, t := range a.talks {
		if t.drains++; t.drains >= patience {
			a.forget(k, t)
		}
	}
}

// Last implements drain.Annotator: it tells of what waits for another drain.
func (a *Annotator) Last(emit func(*ebbwatch.Flow)) {
	for k, loss := range a.late {
		a.tell(k, &loss, emit)
	}
	a.late = nil
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, t := range a.talks {
		a.forget(k, t)
	}
}

// forget ends the wait for what a conversation goes on to say. mu is held.
func (a *Annotator) forget(k flowbpf.Key, t *talk) {
	for i := range t.side {
		t.side[i].give(a.metrics.Hint)
	}
	delete(a.talks, k)
}

// tell emits a record of losses that stand in no other. Unplaced ones get none:
// somebody else's conversation, in another network namespace, has no packets here.
func (a *Annotator) tell(k trace.Key, loss *trace.Loss, emit func(*ebbwatch.Flow)) {
	drops := loss.Drops[0] + loss.Drops[1]
	if k.Unplaced {
		a.unplaced.Add(float64(drops))
		return
	}
	if drops == 0 || (loss.Reason == notSpecified || loopback(&k.Key)) && !a.from.Conversations.Known(k.Key) {
		return // nothing to tell, or about what no watched interface sees
	}
	if a.records++; a.records > maxBare {
		a.bare.Inc()
		return
	}
	sender := uint8(0)
	if loss.Drops[0] == 0 {
		sender = 1
	}
	r := a.from.Conversations.Bare(k.Key, sender)
	a.suffer(r, k.Key, loss)
	emit(&r.Flow)
}
