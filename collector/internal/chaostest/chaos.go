package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
)

// play is one run. Chance comes from the seed, in a row for the schedule of
// kills and another for each victim, so that the order in which processes die of
// themselves does not change the rest.
type play struct {
	*cast
	schedule *rand.Rand
	fates    map[string]*rand.Rand // of each victim
	first    []int                 // kinds of victims to be killed first: each once
	killed   map[string]int
	kills    int
	again    map[string]time.Time // what is dead, and when it starts again
	left     uint64               // messages that are left in the stream at the end
	outages
}

func newPlay(c *cast) *play {
	p := &play{
		cast: c, schedule: rand.New(rand.NewPCG(c.seed, 0)), fates: make(map[string]*rand.Rand),
		killed: make(map[string]int), again: make(map[string]time.Time),
	}
	p.first = p.schedule.Perm(len(c.victims))
	victims := []string{clickhouseName}
	for _, s := range c.nats {
		victims = append(victims, s.name)
	}
	for i := range c.collectors {
		victims = append(victims, name(i))
	}
	victims = append(victims, agentsName)
	for i, victim := range victims {
		p.fates[victim] = rand.New(rand.NewPCG(c.seed, uint64(i+1)))
	}
	return p
}

// chaos plays and counts.
func chaos(ctx context.Context, o *options) (*result, error) {
	dir, err := workFolder()
	if err != nil {
		return nil, err
	}
	wrong := true
	defer func() {
		if wrong && o.keep {
			progress("the data is kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	}()
	c, err := newCast(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	defer c.end()
	p := newPlay(c)
	if err := p.act(ctx); err != nil {
		return nil, err
	}
	sent, err := p.collectSent(ctx)
	if err != nil {
		return nil, err
	}
	r, err := p.verify(ctx, sent)
	if err != nil {
		return nil, err
	}
	wrong = !r.right(o)
	return r, nil
}

// act kills until there were enough, and then starts everything again.
func (p *play) act(ctx context.Context) error {
	next := time.Now().Add(2 * p.pause) // let something flow first
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := p.notice(); err != nil {
			return err
		}
		if err := p.revive(ctx); err != nil {
			return err
		}
		if p.kills >= p.options.kills && len(p.again) == 0 {
			return nil
		}
		if p.kills < p.options.kills && time.Now().After(next) {
			if err := p.kill(); err != nil {
				return err
			}
			next = time.Now().Add(p.pause/4 + time.Duration(p.schedule.Int64N(int64(p.pause*3/2))))
		}
	}
}

// notice counts the collectors that died at their place.
func (p *play) notice() error {
	if err := p.unexpected(); err != nil {
		return err
	}
	if !alive(p.fleet) && !p.fleet.Killed() {
		return fmt.Errorf("the fleet ended: %s", p.fleet.Output())
	}
	for i, k := range p.collectors {
		if _, known := p.again[name(i)]; !known && !alive(k.Process) {
			p.count("collector "+k.place, name(i))
		}
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("collector %d", i+1) }

// count notes a death and when its victims start again.
func (p *play) count(how string, victims ...string) {
	p.kills++
	p.killed[how]++
	for _, victim := range victims {
		rest := time.Duration(p.fates[victim].Int64N(int64(1500 * time.Millisecond)))
		p.again[victim] = time.Now().Add(rest)
		p.began(victim)
		progress("kill %d of %d: %s (%s), again in %s", p.kills, p.options.kills, victim, how, rest.Round(time.Millisecond))
	}
}

// kinds are the kinds of victims, and how often each is chosen.
var kinds = []struct {
	name      string
	weight    int
	powerOnly bool // what is lost without a power cut is not told
}{
	{"collectors", 4, false}, {"nats", 3, false}, {"clickhouse", 3, false}, {"agents", 3, true}, {"host", 2, true},
}

// choose returns a kind of those that may be killed.
func (p *play) choose() string {
	var all []string
	for _, kind := range kinds {
		if slices.Contains(p.victims, kind.name) {
			all = append(all, slices.Repeat([]string{kind.name}, kind.weight)...)
		}
	}
	kind := all[p.schedule.IntN(len(all))]
	if len(p.first) > 0 {
		kind, p.first = p.victims[p.first[0]], p.first[1:]
	}
	return kind
}

// kill ends one of those that live, or two at once in one of five times.
func (p *play) kill() error {
	for victims := 1 + p.schedule.IntN(5)/4; victims > 0; victims-- {
		kind, i := p.choose(), p.schedule.IntN(len(p.collectors))
		switch kind {
		case "collectors":
			if alive(p.collectors[i].Process) {
				p.collectors[i].Kill()
				p.count("collector anywhere", name(i))
			}
		case "nats":
			if err := p.cut(p.nats[p.schedule.IntN(len(p.nats))].name); err != nil {
				return err
			}
		case "clickhouse":
			if err := p.cut(clickhouseName); err != nil {
				return err
			}
		case "agents":
			if err := p.cut(agentsName); err != nil {
				return err
			}
		case "host":
			if err := p.cutHost(); err != nil {
				return err
			}
		}
	}
	return nil
}

// process returns the process of a victim that is no collector.
func (p *play) process(victim string) *proctest.Process {
	switch victim {
	case clickhouseName:
		return p.clickhouse.Process
	case agentsName:
		return p.fleet
	}
	for _, s := range p.nats {
		if s.name == victim {
			return s.Process
		}
	}
	return nil
}

// cut kills a victim that is alive, and cuts the power of its disk if it has one.
func (p *play) cut(victim string) error {
	if !alive(p.process(victim)) {
		return nil
	}
	how := victim
	if p.power {
		how = "power of " + victim
	}
	p.process(victim).Kill()
	if err := p.dark(victim); err != nil {
		return err
	}
	p.count(how, victim)
	return nil
}

// cutHost cuts the power of everything at once, as where all is on one host.
func (p *play) cutHost() error {
	all := []string{agentsName, clickhouseName}
	for _, s := range p.nats {
		all = append(all, s.name)
	}
	all = slices.DeleteFunc(all, func(victim string) bool { return !alive(p.process(victim)) })
	var collectors []string
	var group errgroup.Group
	for i, k := range p.collectors {
		if alive(k.Process) {
			group.Go(func() error { k.Kill(); return nil })
			collectors = append(collectors, name(i))
		}
	}
	for _, victim := range all {
		group.Go(func() error { p.process(victim).Kill(); return nil })
	}
	_ = group.Wait() // of Kill, which cannot fail
	for _, victim := range all {
		if err := p.dark(victim); err != nil {
			return err
		}
	}
	p.count("power of the host", append(all, collectors...)...)
	return nil
}

// dark cuts the power of the disk of a victim that was just killed.
func (p *play) dark(victim string) error {
	d := p.disks[victim]
	if d == nil {
		return nil
	}
	p.cuts = append(p.cuts, p.powerCut(victim))
	return d.Cut()
}

// revive starts what has been dead for long enough. Half of the collectors are
// to die at a place in their code, until there were enough kills.
func (p *play) revive(ctx context.Context) error {
	enough := p.kills >= p.options.kills
	for victim, at := range p.again {
		if time.Now().Before(at) {
			continue
		}
		delete(p.again, victim)
		switch victim {
		case agentsName:
			if err := p.startFleet(); err != nil {
				return err
			}
		case clickhouseName:
			if err := p.clickhouse.Start(ctx); err != nil {
				return fmt.Errorf("start ClickHouse again: %w", err)
			}
		default:
			for _, s := range p.nats {
				if s.name != victim {
					continue
				}
				p.strict = p.durability == strict || p.durability == "both" && p.kills > p.options.kills/2
				if err := p.startNATS(ctx, s); err != nil {
					return err
				}
			}
			for i := range p.collectors {
				if name(i) != victim {
					continue
				}
				place := ""
				if fate := p.fates[victim]; !enough && fate.IntN(2) == 0 {
					place = fmt.Sprintf("%s:%d", places[fate.IntN(len(places))], 1+fate.IntN(5))
				}
				if err := p.startCollector(i, place); err != nil {
					return err
				}
			}
		}
		p.ended(victim, p.nodes > 1)
	}
	if enough { // who is still to die at a place must not do so while we count
		for i, k := range p.collectors {
			if k.place != "" && alive(k.Process) {
				k.Kill()
				p.count("collector anywhere", name(i))
			}
		}
	}
	return nil
}
