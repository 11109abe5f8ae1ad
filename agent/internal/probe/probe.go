// Package probe keeps the datapath attached to the host's interfaces as they
// come, go, and change their names.
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
	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

const (
	// resync is how often the interfaces are listed without an event: a netlink
	// socket that overflows loses events.
	resync = 30 * time.Second
	// settle gathers a storm of events into one listing.
	settle = 50 * time.Millisecond
	// retryAfter is how long an interface that could not be attached is left alone.
	retryAfter = 30 * time.Second
)

// Attacher is what the interfaces are attached to: a *flowbpf.Datapath. What
// an interface counted before Detach must come with the next drain.
type Attacher interface {
	Attach(flowbpf.Place) error
	Detach(flowbpf.Place) error
}

// here is an interface of the process' network namespace.
func here(index int) flowbpf.Place { return flowbpf.Place{Ifindex: uint32(index)} }

// Probe watches the interfaces of the process' network namespace.
type Probe struct {
	cfg      Config
	datapath Attacher
	log      *slog.Logger

	attachFailures prometheus.Counter
	names          *names
	relations      atomic.Pointer[relations] // made anew by each sync

	mu       sync.Mutex
	attached map[int]string    // by index
	failed   map[int]time.Time // attempts that failed
	lastErr  error
	listed   bool   // once, at least
	present  string // all interfaces, for people
	toldNone bool
}

// New returns a probe that is not attached to anything yet. It registers its
// metrics with reg.
func New(cfg Config, datapath Attacher, reg prometheus.Registerer, log *slog.Logger) *Probe {
	p := &Probe{
		cfg: cfg, datapath: datapath, log: log,
		attached: make(map[int]string), failed: make(map[int]time.Time), names: newNames(),
		attachFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_attach_failures_total",
			Help: "Failed attempts to attach to an interface; retried every 30 s. Look at the log for the kernel's reason, or exclude the interface."}),
	}
	reg.MustRegister(p.attachFailures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebbwatch_agent_interfaces",
		Help: "Interfaces watched now. 0 means that the agent sees nothing: check interfaces.include and interfaces.exclude."},
		func() float64 { return float64(len(p.Interfaces())) }))
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
func (p *Probe) Name(place flowbpf.Place) string { return p.names.get(place.Ifindex) }

// NetNS returns the name of the place's network namespace, "" for the agent's own.
func (p *Probe) NetNS(flowbpf.Place) string { return "" }

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
// ctx ends. It detaches nothing at the end: a last drain may follow.
func (p *Probe) Run(ctx context.Context) error {
	if err := p.sync(); err != nil {
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

// watch follows one subscription until it breaks or ctx ends.
func (p *Probe) watch(ctx context.Context) error {
	events := make(chan netlink.LinkUpdate, 64)
	broken := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(events, done, netlink.LinkSubscribeOptions{ErrorCallback: func(err error) {
		select {
		case broken <- err:
		default:
		}
	}})
	if err != nil {
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	// After the subscription, so that nothing falls between the list and the events.
	if err := p.sync(); err != nil {
		return err
	}
	ticker := time.NewTicker(resync)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return fmt.Errorf("receive link changes: %w", err)
		case <-ticker.C:
		case _, open := <-events:
			if !open {
				return fmt.Errorf("receive link changes: subscription ended")
			}
			if !p.settle(ctx, events) {
				return nil
			}
		}
		if err := p.sync(); err != nil {
			return err
		}
	}
}

// settle swallows what follows an event closely. It reports false if ctx ended.
func (p *Probe) settle(ctx context.Context, events <-chan netlink.LinkUpdate) bool {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case _, open := <-events:
			if !open {
				return true
			}
		}
	}
}

// sync attaches to what is wanted and not attached, and detaches from the rest.
func (p *Probe) sync() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	present := make(map[int]string, len(links))
	for _, l := range links {
		present[l.Attrs().Index] = l.Attrs().Name
	}
	p.relations.Store(relate(devices(0, links, func(int) (uint32, bool) { return 0, false })))
	wanted := choose(&p.cfg, links)
	p.mu.Lock()
	defer p.mu.Unlock()
	for index, name := range p.attached {
		if now, ok := wanted[index]; ok && now != name {
			p.log.Info("interface was renamed", "from", name, "to", now)
			p.attached[index] = now
			p.names.set(index, now)
		} else if !ok {
			p.detach(index, name, present[index] != "")
		}
	}
	for _, index := range slices.Sorted(maps.Keys(wanted)) {
		if _, ok := p.attached[index]; !ok {
			p.attach(index, wanted[index])
		}
	}
	for index := range p.failed {
		if _, ok := wanted[index]; !ok {
			delete(p.failed, index)
		}
	}
	p.listed, p.present = true, describe(links)
	p.tellIfNone()
	return nil
}

func (p *Probe) attach(index int, name string) {
	before, again := p.failed[index]
	if again && time.Since(before) < retryAfter {
		return
	}
	// Before the first packet can be drained.
	p.names.set(index, name)
	if err := p.datapath.Attach(here(index)); err != nil {
		p.attachFailures.Inc()
		p.failed[index], p.lastErr = time.Now(), err
		p.names.retire(index)
		if !again {
			p.log.Error("interface cannot be watched, trying again every 30 s", "interface", name, "ifindex", index, "error", err)
		}
		return
	}
	delete(p.failed, index)
	p.attached[index] = name
	p.log.Info("watching interface", "interface", name, "ifindex", index)
}

func (p *Probe) detach(index int, name string, present bool) {
	delete(p.attached, index)
	p.names.retire(index)
	if err := p.datapath.Detach(here(index)); err != nil {
		p.log.Warn("interface cannot be detached", "interface", name, "ifindex", index, "error", err)
		return
	}
	p.log.Info("no longer watching interface", "interface", name, "ifindex", index, "present", present)
}
