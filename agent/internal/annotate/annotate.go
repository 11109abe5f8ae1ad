// Package annotate adds to flow records what is learned beside the packet
// counters: what the beginning of a conversation says, whose sockets its ends
// are, and what the kernel dropped or sent again.
package annotate

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/l7"
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

// Annotator implements drain.Annotator. Make it with New. Collect is safe to
// call beside the other methods.
type Annotator struct {
	hints  Hints
	owners Owners // nil: nobody knows
	log    *slog.Logger

	metrics *l7.Metrics
	unkept  prometheus.Counter
	failed  prometheus.Counter

	mu     sync.Mutex // guards what follows
	parser l7.Parser
	talks  map[flowbpf.Key]*talk
}

// New returns an annotator that registers its metrics with reg. owners may be nil.
func New(hints Hints, owners Owners, reg prometheus.Registerer, log *slog.Logger) *Annotator {
	a := &Annotator{
		hints: hints, owners: owners, log: log, metrics: l7.NewMetrics(reg), talks: make(map[flowbpf.Key]*talk),
		unkept: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_hints_unkept_total",
			Help: "Beginnings of conversations that were not read because too many others waited for their record. Their records have no application hints; shorten drain_interval."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_hint_reads_failed_total",
			Help: "Attempts to read beginnings of conversations from the kernel that failed; the next one comes within a second. Look at the log for the kernel's reason."}),
	}
	reg.MustRegister(a.unkept, a.failed, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_hints_lost_total",
		Help: "Beginnings of conversations that found no room in the kernel's buffer. Their records have no application hints: raise datapath.hint_bytes."},
		func() float64 { return float64(hints.HintsLost()) }))
	return a
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
	if err := a.hints.Hints(a.hear); err != nil {
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
	if hint := t.side[h.Side].hear(&a.parser, h); hint != nil {
		a.metrics.Hint(hint)
		t.drains, t.told = 0, false
	}
}

// Begin implements drain.Annotator.
func (a *Annotator) Begin() { a.Collect() }

// Annotate implements drain.Annotator.
func (a *Annotator) Annotate(r *conn.Record) {
	a.own(&r.SrcOwner)
	a.own(&r.DstOwner)
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

func (a *Annotator) own(o *ebbwatch.Owner) {
	if o.PID == 0 {
		return
	}
	if a.owners != nil {
		if known, ok := a.owners.Owner(o.PID); ok {
			*o = known
			return
		}
	}
	*o = ebbwatch.Owner{PID: o.PID}
}

// End implements drain.Annotator: it forgets what was told.
func (a *Annotator) End(func(*ebbwatch.Flow)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, t := range a.talks {
		if t.drains++; t.drains >= patience {
			delete(a.talks, k)
		}
	}
}
