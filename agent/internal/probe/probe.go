// Package probe keeps the datapath attached to the host's interfaces as they
// come, go, and change their names, in the agent's network namespace and in those
// of containers, and knows which of them see the same packets.
package probe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

const (
	// resync is how often the interfaces are listed without an event.
	resync = 30 * time.Second
	// settle gathers a storm of events, after the first, into one listing.
	settle = 50 * time.Millisecond
	// retryAfter is how long an interface that could not be attached is left alone.
	retryAfter = 30 * time.Second
	// rescan is how often other network namespaces are looked for and looked at.
	// Between two looks at them passes at least restFactor times what the last took.
	rescan     = 2 * time.Second
	restFactor = 20
	// patience is how long one sync may spend on loading programs for other
	// namespaces. The rest follows with the next.
	patience = time.Second
)

// Attacher is what the interfaces are attached to: a *flowbpf.Datapath. What
// an interface counted before Detach, Rest or Forget must come with the next drain.
type Attacher interface {
	// Attach returns flowbpf.ErrAttached if the interface is attached already,
	// flowbpf.ErrTooMany if there is no room. peer is 1 + the id of the network
	// namespace of a pair's other end, 0 for none; it can change.
	Attach(place flowbpf.Place, peer uint32) error
	Detach(flowbpf.Place) error
	// Rest is a Detach for the end, which may leave behind what counts nothing.
	Rest(flowbpf.Place) error
	// Forget lets go of a network namespace that is gone.
	Forget(netns uint32) error
}

// Probe watches the interfaces of the process' network namespace, and of others
// if they are configured.
type Probe struct {
	// Container names the container of a process, "" for none. Set it before Run;
	// it may be nil.
	Container func(pid int) string
	// Losses is told which other network namespaces are looked at, by their cookies,
	// so that what is lost in them is told. Set it before Run; it may be nil.
	Losses interface {
		Watch(cookie uint64) error
		Unwatch(cookie uint64) error
	}

	cfg      Config
	datapath Attacher
	log      *slog.Logger

	metrics   *metrics
	names     *names
	relations atomic.Pointer[relations] // made anew by each sync

	// Of the goroutine that calls Run, and of Close after it.
	world    *world
	looked   time.Time     // when other namespaces were looked at
	lookTook time.Duration // how long
	told     map[uint32]bool

	mu       sync.Mutex
	attached map[flowbpf.Place]string
	failed   map[flowbpf.Place]time.Time // attempts that failed
	lastErr  error
	listed   bool   // once, at least
	present  string // all interfaces of the agent's own namespace, for people
	toldNone bool
}

// New returns a probe that is not attached to anything yet. It registers its
// metrics with reg.
func New(cfg Config, datapath Attacher, reg prometheus.Registerer, log *slog.Logger) *Probe {
	p := &Probe{
		cfg: cfg, datapath: datapath, log: log, told: make(map[uint32]bool),
		attached: make(map[flowbpf.Place]string), failed: make(map[flowbpf.Place]time.Time), names: newNames(),
	}
	p.metrics = newMetrics(reg, func() float64 { return float64(len(p.Interfaces())) })
	return p
}

// Interfaces returns the names of the interfaces that are watched now, sorted.
func (p *Probe) Interfaces() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Values(p.attached))
}

// Name returns the name of an interface that is watched, or was until two drains
// ago.
func (p *Probe) Name(place flowbpf.Place) string { return p.names.get(place) }

// NetNS returns the name of the place's network namespace, "" for the agent's own.
func (p *Probe) NetNS(place flowbpf.Place) string { return p.names.space(place.NetNS) }

// Related reports whether the two interfaces see the same packets, for what the
// last look at them found: see relations.
func (p *Probe) Related(a, b flowbpf.Place) bool { return p.relations.Load().related(a, b) }

// Drained tells that a drain is complete. The names of interfaces that went
// before it are forgotten two drains later.
func (p *Probe) Drained() { p.names.drained() }

// Health returns an error while no interface is watched. It is tolerable, as
// ops has it, if the host has none to watch: the agent waits for one.
func (p *Probe) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.attached) > 0 {
		return nil
	}
	return p.none()
}

// Run attaches to every interface that is wanted, now and as they come, until
// ctx ends. It detaches nothing at the end: that is for Close.
func (p *Probe) Run(ctx context.Context) error {
	if err := p.sync(true); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := p.watch(ctx); err != nil {
			p.log.Warn("listening for interface changes failed, starting again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// Close ends the counting at every interface. Call it after Run, and before the last
// drain: what the interfaces counted until then is part of that one, and nothing
// is counted after it. Names stay known to it. What still hangs on the interfaces
// is for the datapath to let go of.
func (p *Probe) Close() error {
	if p.world == nil {
		return nil
	}
	for _, s := range p.world.all() {
		_ = p.world.enter(s, func() error { // one that is gone needs nothing
			for _, place := range p.placesIn(s.number) {
				p.detach(place, true, p.datapath.Rest)
			}
			return nil
		})
		if s.number != 0 {
			p.leave(s)
		}
	}
	err := p.world.close()
	p.world = nil
	return err
}

// watch follows one subscription until it breaks or ctx ends.
func (p *Probe) watch(ctx context.Context) error {
	events, err := listen(p.cfg.Namespaces, p.metrics.overflows.Inc)
	if events == nil {
		return err
	}
	defer events.close()
	if err != nil {
		p.log.Info("changes in other network namespaces are seen within seconds, not at once", "error", err)
	}
	// After the subscription, so that nothing falls between the list and the events.
	if err := p.sync(true); err != nil {
		return err
	}
	every := resync
	if p.cfg.Namespaces {
		every = rescan
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		elsewhere := true
		select {
		case <-ctx.Done():
			return nil
		case err := <-events.broken:
			return fmt.Errorf("receive link changes: %w", err)
		case <-ticker.C:
		case <-events.changed:
			elsewhere = time.Since(p.looked) > restFactor*p.lookTook
		}
		if err := p.sync(elsewhere); err != nil {
			return err
		}
		select { // what follows closely is one change
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}
