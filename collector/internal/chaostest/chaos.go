package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

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
}

func newPlay(c *cast) *play {
	p := &play{
		cast: c, schedule: rand.New(rand.NewPCG(c.seed, 0)), fates: make(map[string]*rand.Rand),
		killed: make(map[string]int), again: make(map[string]time.Time),
	}
	p.first = p.schedule.Perm(3)
	victims := []string{"clickhouse"}
	for _, s := range c.nats {
		victims = append(victims, s.name)
	}
	for i := range c.collectors {
		victims = append(victims, name(i))
	}
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
	defer func() { c.end() }()
	fleet, err := proctest.Start(o.fleetBin, o.verbose, nil, "-nats", c.natsURL("agent"), "-dir", filepath.Join(dir, "fleet"),
		"-agents", fmt.Sprint(o.agents), "-seed", fmt.Sprint(o.seed), "-out", filepath.Join(dir, "sent.json"))
	if err != nil {
		return nil, err
	}
	defer func() { fleet.Kill() }()
	p := newPlay(c)
	if err := p.act(ctx, fleet); err != nil {
		return nil, err
	}
	sent, err := p.collectSent(ctx, fleet, filepath.Join(dir, "sent.json"))
	if err != nil {
		return nil, err
	}
	r, err := p.verify(ctx, sent)
	if err != nil {
		return nil, err
	}
	wrong = r.Lost != 0 || r.Doubled != 0 || r.RollupDifference != 0
	return r, nil
}

// act kills until there were enough, and then starts everything again.
func (p *play) act(ctx context.Context, fleet *proctest.Process) error {
	next := time.Now().Add(2 * p.pause) // let something flow first
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-fleet.Done():
			return fmt.Errorf("the fleet ended: %s", fleet.Output())
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
			p.kill()
			next = time.Now().Add(p.pause/4 + time.Duration(p.schedule.Int64N(int64(p.pause*3/2))))
		}
	}
}

// notice counts the collectors that died at their place.
func (p *play) notice() error {
	if err := p.unexpected(); err != nil {
		return err
	}
	for i, k := range p.collectors {
		if _, known := p.again[name(i)]; !known && !alive(k.Process) {
			p.count("collector "+k.place, name(i))
		}
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("collector %d", i+1) }

// count notes a death and when its victim starts again.
func (p *play) count(how, victim string) {
	p.kills++
	p.killed[how]++
	rest := time.Duration(p.fates[victim].Int64N(int64(1500 * time.Millisecond)))
	p.again[victim] = time.Now().Add(rest)
	progress("kill %d of %d: %s (%s), again in %s", p.kills, p.options.kills, victim, how, rest.Round(time.Millisecond))
}

// Kinds of victims, and how often each is chosen in ten times.
const (
	ofCollectors = iota
	ofNATS
	ofClickHouse
)

var kinds = []int{ofCollectors, ofCollectors, ofCollectors, ofCollectors, ofNATS, ofNATS, ofNATS, ofClickHouse, ofClickHouse, ofClickHouse}

// kill ends one of those that live, or two at once in one of five times.
func (p *play) kill() {
	for victims := 1 + p.schedule.IntN(5)/4; victims > 0; victims-- {
		kind, i := kinds[p.schedule.IntN(len(kinds))], p.schedule.IntN(len(p.collectors))
		if len(p.first) > 0 {
			kind, p.first = p.first[0], p.first[1:]
		}
		switch kind {
		case ofCollectors:
			if alive(p.collectors[i].Process) {
				p.collectors[i].Kill()
				p.count("collector anywhere", name(i))
			}
		case ofNATS:
			if s := p.nats[p.schedule.IntN(len(p.nats))]; alive(s.Process) {
				s.Kill()
				p.count(s.name, s.name)
			}
		case ofClickHouse:
			if alive(p.clickhouse.Process) {
				p.clickhouse.Kill()
				p.count("clickhouse", "clickhouse")
			}
		}
	}
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
		case "clickhouse":
			if err := p.clickhouse.Start(ctx); err != nil {
				return fmt.Errorf("start ClickHouse again: %w", err)
			}
		default:
			for _, s := range p.nats {
				if s.name != victim {
					continue
				}
				p.strict = p.durability == "strict" || p.durability == "both" && p.kills > p.options.kills/2
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

// sent is what the fleet says about itself.
type sent struct {
	Runs []struct {
		Agent, Boot                   string
		Batches, Flows, Bytes, Copies uint64
	}
	Lost map[string]uint64
}

// collectSent ends the fleet, which delivers everything first.
func (p *play) collectSent(ctx context.Context, fleet *proctest.Process, file string) (*sent, error) {
	progress("waiting for the agents to deliver everything")
	fleet.CloseInput()
	select {
	case <-fleet.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, errors.Join(err, errors.New(fleet.Output()))
	}
	var s sent
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read what was sent: %w", err)
	}
	if len(s.Lost) > 0 {
		return nil, fmt.Errorf("agents gave up batches, so that nothing can be compared: %v", s.Lost)
	}
	return &s, nil
}
