package probe

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// sync attaches to what is wanted and not attached, and detaches from the rest.
// elsewhere looks at other namespaces, too, if they are configured; else what was
// found there before stays.
func (p *Probe) sync(elsewhere bool) error {
	if p.world == nil {
		w, err := openWorld(p.Container, p.log)
		if err != nil {
			return err
		}
		p.world = w
	}
	refused := 0
	if p.cfg.Namespaces && elsewhere {
		refused = p.look()
	}
	if err := p.world.list(p.world.own); err != nil {
		return err
	}
	var list []device
	for _, s := range p.world.all() {
		if s.err != nil {
			refused++
		}
		list = append(list, s.devices...)
	}
	p.relations.Store(relate(list))
	wanted := choose(&p.cfg, list, p.isAttached)
	deadline := time.Now().Add(patience)
	for _, s := range p.world.all() {
		if s.number == 0 || elsewhere && s.err == nil {
			p.apply(s, wanted, deadline)
		}
	}
	p.finish(wanted, elsewhere, refused)
	return nil
}

// look finds namespaces and what is in them. It returns how many were left out.
func (p *Probe) look() int {
	begin := time.Now()
	gone, refused := p.world.scan(p.cfg.MaxNamespaces)
	for _, s := range gone {
		p.leave(s)
	}
	for _, s := range p.world.all()[1:] {
		p.names.call(s.number, s.name)
		s.err = p.world.list(s)
		if errors.Is(s.err, errGone) {
			p.world.forget(s)
			p.leave(s)
			continue
		}
		if s.err != nil {
			s.devices = nil
			if !p.told[s.number] {
				p.told[s.number] = true
				p.log.Warn("network namespace cannot be watched", "netns", s.name, "error", s.err)
			}
			continue
		}
		p.watchLosses(s)
	}
	p.looked = time.Now()
	p.lookTook = p.looked.Sub(begin)
	return refused
}

// watchLosses has losses in the namespace told, whichever end of its pairs is watched.
func (p *Probe) watchLosses(s *space) {
	if p.Losses == nil || s.watched != 0 {
		return
	}
	if err := p.Losses.Watch(s.cookie); err != nil {
		p.log.Warn("losses in a network namespace are not told", "netns", s.name, "error", err)
		return
	}
	s.watched = s.cookie
}

// leave lets go of a namespace that is gone.
func (p *Probe) leave(s *space) {
	if s.watched != 0 {
		if err := p.Losses.Unwatch(s.watched); err != nil {
			p.log.Warn("losses in a network namespace are still told", "netns", s.name, "error", err)
		}
		s.watched = 0
	}
	if err := p.datapath.Forget(s.number); err != nil {
		p.log.Warn("network namespace cannot be left", "netns", s.name, "error", err)
	}
	delete(p.told, s.number)
	places := p.placesIn(s.number)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, place := range places {
		delete(p.attached, place)
		p.names.retire(place)
	}
	if len(places) > 0 {
		p.log.Info("no longer watching a network namespace", "netns", s.name, "interfaces", len(places))
	}
}

// apply attaches and detaches in one namespace, in its thread.
func (p *Probe) apply(s *space, wanted map[flowbpf.Place]string, deadline time.Time) {
	have := p.placesIn(s.number)
	var want []flowbpf.Place
	for place := range wanted {
		if place.NetNS == s.number {
			want = append(want, place)
		}
	}
	slices.SortFunc(want, func(a, b flowbpf.Place) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
	if len(have) == 0 && (len(want) == 0 || s.number != 0 && time.Now().After(deadline)) {
		return
	}
	present := make(map[flowbpf.Place]*device, len(s.devices))
	for i := range s.devices {
		present[s.devices[i].place] = &s.devices[i]
	}
	err := p.world.enter(s, func() error {
		for _, place := range have {
			if _, ok := wanted[place]; !ok {
				p.detach(place, present[place] != nil, p.datapath.Detach)
			}
		}
		for _, place := range want {
			p.attach(present[place], s.name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errGone) { // the next look finds out
		p.log.Warn("network namespace cannot be entered", "netns", s.name, "error", err)
	}
}

// finish tells what came of it.
func (p *Probe) finish(wanted map[flowbpf.Place]string, elsewhere bool, refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for place := range p.failed {
		if _, ok := wanted[place]; !ok {
			delete(p.failed, place)
		}
	}
	p.listed, p.present = true, describe(p.world.own.devices)
	p.tellIfNone()
	missing := 0
	for place := range wanted {
		if _, ok := p.attached[place]; !ok {
			missing++
		}
	}
	p.metrics.refused.Set(float64(missing))
	p.metrics.namespaces.Set(float64(len(p.world.spaces)))
	if elsewhere {
		p.metrics.refusedSpaces.Set(float64(refused))
	}
	p.metrics.perSpace.Reset()
	for place := range p.attached {
		p.metrics.perSpace.WithLabelValues(p.names.space(place.NetNS)).Inc()
	}
}

func (p *Probe) isAttached(place flowbpf.Place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.attached[place]
	return ok
}

func (p *Probe) placesIn(number uint32) []flowbpf.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []flowbpf.Place
	for place := range maps.Keys(p.attached) {
		if place.NetNS == number {
			list = append(list, place)
		}
	}
	return list
}

// attach is called without mu: programs are loaded and drains waited for.
func (p *Probe) attach(d *device, netns string) {
	place, name := d.place, d.name
	p.mu.Lock()
	was, attached := p.attached[place]
	before, again := p.failed[place]
	p.mu.Unlock()
	if again && time.Since(before) < retryAfter {
		return
	}
	if was != name { // before the first packet can be drained
		p.names.set(place, name, netns)
	}
	err := p.datapath.Attach(place, d.peerSpace)
	log := p.log.With("interface", p.names.get(place), "ifindex", place.Ifindex)
	if netns != "" {
		log = log.With("netns", netns)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, flowbpf.ErrAttached):
		if attached && was != name {
			log.Info("interface was renamed", "from", was)
		}
		err = nil
	case err == nil && attached:
		log.Info("watching interface again: another one has taken its place, or its hooks were removed")
	case err == nil:
		log.Info("watching interface")
	}
	if err == nil {
		delete(p.failed, place)
		p.attached[place] = name
		return
	}
	delete(p.attached, place)
	p.names.retire(place)
	if absent(err) {
		return // it went meanwhile
	}
	p.metrics.attachFailures.Inc()
	p.failed[place], p.lastErr = time.Now(), err
	if !again {
		log.Error("interface cannot be watched, trying again every 30 s", "error", err)
	}
}

// absent reports whether err says that there is no such interface.
func absent(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV)
}

// detach is called on a thread in the place's namespace, without mu. end is Detach or
// Rest of the datapath.
func (p *Probe) detach(place flowbpf.Place, present bool, end func(flowbpf.Place) error) {
	p.mu.Lock()
	name := p.attached[place]
	delete(p.attached, place)
	p.mu.Unlock()
	p.names.retire(place)
	if err := end(place); err != nil {
		p.log.Warn("interface cannot be detached", "interface", name, "ifindex", place.Ifindex, "error", err)
		return
	}
	p.log.Info("no longer watching interface", "interface", name, "ifindex", place.Ifindex, "present", present)
}

// Surveyed is what there is to watch in a network namespace.
type Surveyed struct {
	NetNS      string // "" is the agent's own
	Interfaces []string
	Err        error // why it cannot be looked at
}

// Survey tells what a probe of this configuration would watch here now, and how
// many namespaces it would leave out. It attaches to nothing.
func Survey(cfg Config, container func(pid int) string) (list []Surveyed, refused int, err error) {
	w, err := openWorld(container, nil)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if cfg.Namespaces {
		_, refused = w.scan(cfg.MaxNamespaces)
	}
	var all []device
	for _, s := range w.all() {
		s.err = w.list(s)
		if s.number == 0 && s.err != nil {
			return nil, 0, fmt.Errorf("look at this network namespace: %w", s.err)
		}
		all = append(all, s.devices...)
	}
	wanted := choose(&cfg, all, func(flowbpf.Place) bool { return false })
	for _, s := range w.all() {
		found := Surveyed{NetNS: s.name, Err: s.err}
		for _, d := range s.devices {
			if _, ok := wanted[d.place]; ok {
				found.Interfaces = append(found.Interfaces, printable(d.name, maxSpaceName))
			}
		}
		list = append(list, found)
	}
	return list, refused, nil
}
