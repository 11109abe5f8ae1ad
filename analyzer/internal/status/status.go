// Package status tells the state of every part of Ebbwatch: the agents by what
// they proved last, the stream and the collector, the store, and the analyzer's
// own detectors, webhooks and model.
package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// State is how a part does.
type State string

// States, from best to worst; Off is for a part that is not configured.
const (
	OK   State = "ok"
	Off  State = "off"
	Warn State = "warn"
	Down State = "down"
)

// worst orders the states.
func worst(a, b State) State {
	rank := map[State]int{OK: 0, Off: 0, Warn: 1, Down: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// Part is one part in one line.
type Part struct {
	Name   string `json:"name"` // agents, stream, collector, store, detectors, webhooks or model
	State  State  `json:"state"`
	Detail string `json:"detail"` // one sentence without a full stop
}

// Status is the state of everything at one moment.
type Status struct {
	Time      time.Time      `json:"time"`
	Version   string         `json:"version"`
	State     State          `json:"state"` // the worst of the parts
	Parts     []Part         `json:"parts"`
	Agents    []Agent        `json:"agents"`
	Stream    Stream         `json:"stream"`
	Ingest    Ingest         `json:"ingest"`
	Detectors []Detector     `json:"detectors"`
	Webhooks  []notify.State `json:"webhooks"`
	Model     string         `json:"model"` // "" if none is configured
}

// Stream is the way between the agents and the collector.
type Stream struct {
	Messages    uint64 `json:"messages"`     // batches that no collector has stored yet
	Bytes       uint64 `json:"bytes"`        //
	MaxBytes    int64  `json:"max_bytes"`    // at which agents are refused and spool; -1 for no limit
	Pending     uint64 `json:"pending"`      // of these, not yet handed to a collector
	Unacked     int    `json:"unacked"`      // batches that a collector works on
	Collectors  int    `json:"collectors"`   // requests for batches that wait at the moment
	DeadLetters uint64 `json:"dead_letters"` // refused batches
}

// Ingest says how far the store is behind the agents.
type Ingest struct {
	Newest time.Time `json:"newest,omitzero"` // end of the newest interval of any agent that is stored
	// LagSeconds is how long the oldest batch waits in NATS that is not stored
	// yet, by the clock of the analyzer: 0 if none waits, nil if NATS does not tell.
	LagSeconds *float64 `json:"lag_seconds"`
}

// Lag is LagSeconds, 0 if it is unknown. What agents sent up to so long ago is stored.
func (i Ingest) Lag() time.Duration {
	if i.LagSeconds == nil {
		return 0
	}
	return time.Duration(*i.LagSeconds * float64(time.Second))
}

// Late reports whether a batch waits so long that what is stored does not tell
// how the agents are now.
func (i Ingest) Late() bool { return i.Lag() > lateIngest }

// Detector is how far one detector has come.
type Detector struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until,omitzero"` // end of the last window that it has looked at
}

// Store is what the status needs of ClickHouse.
type Store interface {
	Agents(ctx context.Context, now time.Time) ([]store.Agent, error)
	Ingest(ctx context.Context, now time.Time) (store.Ingest, error)
	Ping(ctx context.Context) error
}

// Collector gathers the status. Its fields must be set before its first use and
// not be changed then. It is safe for concurrent use; what several ask for
// within two seconds is gathered once.
type Collector struct {
	Store     Store
	JetStream jetstream.JetStream
	Detectors func(ctx context.Context) ([]Detector, error)
	Webhooks  func() []notify.State
	Model     string
	Log       *slog.Logger

	mu    sync.Mutex
	last  Status
	asked time.Time
}

const (
	freshFor    = 2 * time.Second
	gatherLimit = 4 * time.Second
	streamLimit = gatherLimit / 2  // the store is asked after NATS, and has the rest
	lateAgent   = 30 * time.Second // several drain intervals
	deadAgent   = 5 * time.Minute
	lateIngest  = 15 * time.Second // many times ingest.block_age and an insert
	longIngest  = time.Minute      // that of oldest_batch_seconds in docs/collector.md
	lateWindow  = time.Minute
)

// Status returns the state of everything. It always returns: a part that does
// not answer is down, and that is what the status says.
func (c *Collector) Status(ctx context.Context) Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asked) < freshFor {
		return c.last
	}
	// Whoever asked first may go away; the others still wait for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherLimit)
	defer cancel()
	c.last, c.asked = c.gather(ctx, time.Now().UTC()), time.Now()
	return c.last
}

func (c *Collector) gather(ctx context.Context, now time.Time) Status {
	s := Status{Time: now.Truncate(time.Second), Version: cli.Version(), State: OK, Model: c.Model,
		Agents: []Agent{}, Detectors: []Detector{}, Webhooks: []notify.State{}}
	var agents, stream, collector, database, detectors Part
	var wg sync.WaitGroup
	wg.Go(func() {
		stream, collector = c.fromJetStream(ctx, now, &s)
		agents, database = c.fromStore(ctx, now, &s)
	})
	wg.Go(func() { detectors = c.fromDetectors(ctx, &s) })
	wg.Wait()
	if collector.State == OK {
		collector = judgeCollector(s.Stream, s.Ingest, now)
	}
	if detectors.State == OK {
		detectors = judgeDetectors(s, database.State)
	}
	s.Parts = []Part{agents, stream, collector, database, detectors, c.fromWebhooks(&s), c.model()}
	for _, p := range s.Parts {
		s.State = worst(s.State, p.State)
	}
	return s
}

// fromStore judges the agents as of the time at which the oldest batch came that
// waits: what they sent since is not stored, which is no fault of theirs.
func (c *Collector) fromStore(ctx context.Context, now time.Time, s *Status) (agents, database Part) {
	agents, database = Part{"agents", Off, "unknown while ClickHouse does not answer"}, Part{"store", OK, "ClickHouse answers"}
	if err := c.Store.Ping(ctx); err != nil {
		database.State, database.Detail = Down, reason(err)
		if errors.Is(err, store.ErrNotReady) {
			database.State, database.Detail = Warn, "waiting for the collector to create the tables"
		}
		return agents, database
	}
	ingest, err := c.Store.Ingest(ctx, now)
	if err != nil {
		database.State, database.Detail = Down, reason(err)
		return agents, database
	}
	s.Ingest.Newest = ingest.Newest
	asOf := now.Add(-s.Ingest.Lag())
	rows, err := c.Store.Agents(ctx, asOf)
	if err != nil {
		database.State, database.Detail = Down, reason(err)
		return agents, database
	}
	for _, a := range rows {
		s.Agents = append(s.Agents, agentOf(a, asOf))
	}
	return judgeAgents(s.Agents, s.Ingest), database
}

func (c *Collector) fromJetStream(ctx context.Context, now time.Time, s *Status) (stream, collector Part) {
	ctx, cancel := context.WithTimeout(ctx, streamLimit)
	defer cancel()
	stream, collector = Part{"stream", Down, ""}, Part{"collector", Off, "unknown while NATS does not answer"}
	flows, err := c.JetStream.Stream(ctx, ebbwatch.FlowStream)
	if err != nil {
		stream.Detail = reason(err)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream.State, stream.Detail = Warn, "waiting for the collector to create the stream"
		}
		return stream, collector
	}
	info := flows.CachedInfo()
	s.Stream.Messages, s.Stream.Bytes, s.Stream.MaxBytes = info.State.Msgs, info.State.Bytes, info.Config.MaxBytes
	stream.State, stream.Detail = OK, human.Plural(int(s.Stream.Messages), "batch waits", "batches wait")
	var lag float64
	if info.State.Msgs > 0 { // a batch that is stored is acknowledged, and leaves the stream
		lag = max(0, now.Sub(info.State.FirstTime).Seconds())
	}
	s.Ingest.LagSeconds = &lag
	if s.Ingest.Late() {
		stream.Detail += ", the oldest for " + roughly(s.Ingest.Lag())
	}
	if limit := s.Stream.MaxBytes; limit > 0 && s.Stream.Bytes > uint64(limit)/2 {
		stream.State, stream.Detail = Warn, fmt.Sprintf("%d %% full", 100*s.Stream.Bytes/uint64(limit))
	}
	if dead, err := c.JetStream.Stream(ctx, ebbwatch.DeadLetterStream); err == nil {
		s.Stream.DeadLetters = dead.CachedInfo().State.Msgs
	}
	consumers := flows.ListConsumers(ctx) // one for each shard
	there := false
	for ci := range consumers.Info() {
		if !strings.HasPrefix(ci.Name, ebbwatch.FlowConsumer) {
			continue
		}
		there = true
		s.Stream.Pending += ci.NumPending
		s.Stream.Unacked += ci.NumAckPending
		s.Stream.Collectors += ci.NumWaiting
	}
	if err := consumers.Err(); err != nil {
		return stream, Part{"collector", Down, reason(err)}
	}
	if !there {
		return stream, Part{"collector", Down, "no collector has run yet"}
	}
	return stream, Part{"collector", OK, ""}
}

// judgeCollector takes a collector for gone only if nothing came from it either:
// between two requests for batches none waits at the server. One that asks for
// batches and stores none is told by the age of the oldest that waits.
func judgeCollector(s Stream, ingest Ingest, now time.Time) Part {
	p := Part{"collector", OK, "keeps up"}
	idle := s.Collectors == 0 && s.Unacked == 0
	switch {
	case idle && now.Sub(ingest.Newest) > lateAgent:
		p = Part{"collector", Down, "no collector asks for batches"}
	case ingest.Late():
		p = Part{"collector", Warn, "is " + roughly(ingest.Lag()) + " behind: look at its /healthz and log, at insert_paused of its metrics, and at the disk of ClickHouse"}
		if ingest.Lag() > longIngest {
			p.State = Down
		}
	case s.Pending > 1000:
		p = Part{"collector", Warn, human.Plural(int(s.Pending), "batch", "batches") + " behind"}
	}
	if s.DeadLetters > 0 {
		p.State = worst(p.State, Warn)
		p.Detail += ", " + human.Plural(int(s.DeadLetters), "batch refused", "batches refused")
	}
	return p
}

func (c *Collector) fromDetectors(ctx context.Context, s *Status) Part {
	list, err := c.Detectors(ctx)
	if err != nil {
		return Part{"detectors", Down, reason(err)}
	}
	s.Detectors = append(s.Detectors, list...)
	return Part{"detectors", OK, ""}
}

// judgeDetectors compares the detectors with the newest data there is: without
// data nobody is late. But they all wait for a collector that is.
func judgeDetectors(s Status, database State) Part {
	if database != OK {
		return Part{"detectors", Warn, "wait for ClickHouse"}
	}
	if s.Ingest.Late() {
		return Part{"detectors", Warn, "wait for the collector, which is " + roughly(s.Ingest.Lag()) + " behind"}
	}
	if s.Ingest.Newest.IsZero() {
		return Part{"detectors", OK, "wait for data"}
	}
	var behind time.Duration
	for _, d := range s.Detectors {
		if d.Until.IsZero() {
			continue // has not looked at its first window
		}
		behind = max(behind, s.Ingest.Newest.Sub(d.Until))
	}
	if behind > lateWindow+lateIngest {
		return Part{"detectors", Warn, roughly(behind) + " behind the data"}
	}
	return Part{"detectors", OK, human.Plural(len(s.Detectors), "detector keeps up", "detectors keep up")}
}

func (c *Collector) fromWebhooks(s *Status) Part {
	if c.Webhooks != nil {
		s.Webhooks = append(s.Webhooks, c.Webhooks()...)
	}
	if len(s.Webhooks) == 0 {
		return Part{"webhooks", Off, "none configured: reports stay here"}
	}
	p := Part{"webhooks", OK, human.Plural(len(s.Webhooks), "endpoint", "endpoints")}
	retrying, disabled := 0, 0
	for _, w := range s.Webhooks {
		retrying += w.Retrying
		if w.Disabled {
			disabled++
		}
	}
	if retrying > 0 {
		p.State, p.Detail = Warn, human.Plural(retrying, "report is", "reports are")+" tried again"
	}
	if disabled > 0 {
		p.State, p.Detail = Down, human.Plural(disabled, "endpoint answers", "endpoints answer")+" 410 Gone"
	}
	return p
}

func (c *Collector) model() Part {
	if c.Model == "" {
		return Part{"model", Off, "none: the template writes the reports"}
	}
	return Part{"model", OK, human.Clean(c.Model, 60) + " words the reports"}
}

// roughly writes d to the second.
func roughly(d time.Duration) string { return human.Duration(d.Round(time.Second)) }

// reason writes an error for a line on the page.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "does not answer in time"
	}
	return human.Clean(err.Error(), 200)
}
