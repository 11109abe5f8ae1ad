package main

import (
	"slices"
	"strings"
	"time"
)

// outages is when what was dead, and when power was cut: with the time at which a
// batch was made they tell whether it may be lost.
type outages struct {
	down []outage
	cuts []powerCut
}

// outage is the time in which a victim was dead, and after it until what waited
// for it had its turn.
type outage struct {
	victim   string
	from, to time.Time // zero while it lasts
}

// powerCut is a cut before which a window of time may be lost.
type powerCut struct {
	at     time.Time
	window time.Duration
	// waits reports whether what the victim would get had to wait while another was
	// dead: such time is not part of the window.
	waits func(other string) bool
}

// What a power cut may lose, by its age when everything works: what is claimed in
// docs/exactly-once.md and docs/agent.md.
const (
	agentWindow      = 1500 * time.Millisecond // 1 s in the spool until it is synced, and what the sync itself takes
	answerWindow     = 5 * time.Second         // more where NATS died meanwhile, and its answer is waited for, in memory
	natsWindow       = 1500 * time.Millisecond // sync_interval, and what the sync itself takes
	clickhouseWindow = 40 * time.Second        // Linux writes what is 30 s old, looking every 5 s
	catchUp          = 2500 * time.Millisecond // longest pause of an agent that tries again, and some more
	election         = 10 * time.Second        // until the servers of a cluster that all died have leaders
)

// powerCut returns what a power cut of the victim at this moment may take.
func (p *play) powerCut(victim string) powerCut {
	c := powerCut{at: time.Now(), waits: func(string) bool { return false }} // an agent notes all at once
	switch {
	case victim == agentsName:
		c.window = agentWindow
		if p.mayWait(c.at) {
			c.window += answerWindow
		}
	case p.durability == strict:
	case victim == clickhouseName:
		c.window, c.waits = clickhouseWindow, func(string) bool { return true }
	default:
		c.window, c.waits = natsWindow, func(other string) bool { return isNATS(other) || other == agentsName }
	}
	return c
}

// mayWait reports whether an agent may wait for the answer of a server that died.
func (o *outages) mayWait(now time.Time) bool {
	return slices.ContainsFunc(o.down, func(d outage) bool {
		return isNATS(d.victim) && (d.to.IsZero() || d.to.After(now) || now.Sub(d.from) < answerWindow+agentWindow)
	})
}

func isNATS(victim string) bool { return strings.HasPrefix(victim, "nats") }

func (o *outages) began(victim string) {
	o.down = append(o.down, outage{victim: victim, from: time.Now()})
}

func (o *outages) ended(victim string, cluster bool) {
	for i := range o.down {
		if d := &o.down[i]; d.victim == victim && d.to.IsZero() {
			d.to = time.Now().Add(catchUp)
			if cluster && isNATS(victim) {
				d.to = d.to.Add(election)
			}
		}
	}
}

// age returns how old what was made at a moment was at the cut, but for the time in
// which it had to wait.
func (o *outages) age(made time.Time, c *powerCut) time.Duration {
	var age time.Duration
	const step = 10 * time.Millisecond
	for t := made; t.Before(c.at) && age < c.window; t = t.Add(step) {
		if !slices.ContainsFunc(o.down, func(d outage) bool {
			return c.waits(d.victim) && !t.Before(d.from) && (d.to.IsZero() || t.Before(d.to))
		}) {
			age += step
		}
	}
	return age
}

// excuse returns the age of a batch at the power cut that may have taken it, and
// whether there is one.
func (o *outages) excuse(made time.Time) (age time.Duration, ok bool) {
	for i := range o.cuts {
		c := &o.cuts[i]
		if made.After(c.at) {
			continue
		}
		if a := o.age(made, c); a < c.window && (!ok || a < age) {
			age, ok = a, true
		}
	}
	return age, ok
}
