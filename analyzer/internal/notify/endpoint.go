package notify

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// put takes over e unless a newer revision is known, and wakes the worker.
func (ep *endpoint) put(e *entry) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if have := ep.entries[e.Report]; have != nil && have.revision > e.revision {
		return
	}
	if e.Attempts > 0 && (ep.last == nil || !e.Updated.Before(ep.last.Updated)) {
		ep.last = e
	}
	if !e.open() {
		delete(ep.entries, e.Report)
		return
	}
	ep.entries[e.Report] = e
	select {
	case ep.wake <- struct{}{}:
	default:
	}
}

// forget drops e unless a newer revision is known.
func (ep *endpoint) forget(e *entry) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if have := ep.entries[e.Report]; have != nil && have.revision <= e.revision {
		delete(ep.entries, e.Report)
	}
}

func (ep *endpoint) disable() {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.off = true
	for _, e := range ep.entries { // settle what waits at once
		e.Next = time.Time{}
	}
}

func (ep *endpoint) isOff() bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.off
}

// due returns a copy of the entry that is due first, or how long none is.
func (ep *endpoint) due(now time.Time) (*entry, time.Duration) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	var first *entry
	for _, e := range ep.entries {
		if first == nil || cmp.Or(e.Next.Compare(first.Next), e.Created.Compare(first.Created)) < 0 {
			first = e
		}
	}
	if first == nil {
		return nil, time.Hour
	}
	if wait := first.Next.Sub(now); wait > 0 {
		return nil, wait
	}
	return first.clone(), 0
}

// State is what an endpoint looks like at the moment.
type State struct {
	Name       string    `json:"name"`
	Disabled   bool      `json:"disabled"` // it answered 410 Gone
	Waiting    int       `json:"waiting"`  // reports that are not delivered yet
	Retrying   int       `json:"retrying"` // of these, with at least one failed attempt
	LastTry    time.Time `json:"last_try,omitzero"`
	LastStatus int       `json:"last_status,omitempty"` // HTTP status of the last answer
	LastError  string    `json:"last_error,omitempty"`  // of the last attempt, without the URL
}

// States returns the state of every endpoint, by name.
func (n *Notifier) States() []State {
	list := make([]State, 0, len(n.endpoints))
	for _, ep := range n.endpoints {
		list = append(list, ep.state())
	}
	slices.SortFunc(list, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (ep *endpoint) state() State {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	s := State{Name: ep.name, Disabled: ep.off, Waiting: len(ep.entries)}
	for _, e := range ep.entries {
		if e.State == store.DeliveryRetrying {
			s.Retrying++
		}
	}
	if ep.last != nil {
		s.LastTry, s.LastStatus, s.LastError = ep.last.Updated, ep.last.HTTPStatus, ep.last.Error
	}
	return s
}

// recording writes the latest state of each delivery to the recorder, and again
// until that works. Only the latest of each delivery waits.
type recording struct {
	rec    Recorder
	log    *slog.Logger
	failed prometheus.Counter

	mu      sync.Mutex
	waiting map[[2]string]store.Delivery
	wake    chan struct{}
}

func newRecording(rec Recorder, log *slog.Logger) *recording {
	return &recording{rec: rec, log: log, waiting: map[[2]string]store.Delivery{}, wake: make(chan struct{}, 1),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ebbwatch_delivery_record_failures_total",
			Help: "Failed writes of a delivery's state to ClickHouse; each is repeated until it works, and the delivery itself goes on. If it grows, ClickHouse is down or refuses the analyzer.",
		})}
}

func (r *recording) put(d store.Delivery) {
	r.mu.Lock()
	r.waiting[[2]string{d.Report, d.Endpoint}] = d
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *recording) take() (store.Delivery, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, d := range r.waiting {
		delete(r.waiting, key)
		return d, true
	}
	return store.Delivery{}, false
}

// run writes until ctx ends, and then for a moment what is left.
func (r *recording) run(ctx context.Context) {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
		for {
			d, ok := r.take()
			if !ok {
				break
			}
			writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			err := r.rec.SaveDelivery(writing, d)
			cancel()
			if err == nil {
				continue
			}
			r.failed.Inc()
			r.log.Warn("state of a delivery is not recorded yet", "endpoint", d.Endpoint, "report", d.Report, "error", err)
			if ctx.Err() != nil {
				return // the outbox has it: it is recorded after the restart
			}
			r.again(d)
			sleep(ctx, 5*time.Second)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// again puts back what could not be written, unless a newer state waits.
func (r *recording) again(d store.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{d.Report, d.Endpoint}
	if _, newer := r.waiting[key]; !newer {
		r.waiting[key] = d
	}
}
