package status

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// stored is a store that answers, with one agent that reported at the time beat.
type stored struct {
	beat time.Time
	none bool // that agent has not reported yet
}

func (stored) Ping(context.Context) error { return nil }

func (s stored) Ingest(context.Context, time.Time) (store.Ingest, error) {
	return store.Ingest{Newest: s.beat, Batches: 1}, nil
}

// Agents knows the interfaces of ten minutes, as the real one.
func (s stored) Agents(_ context.Context, now time.Time) ([]store.Agent, error) {
	if s.none {
		return nil, nil
	}
	a := store.Agent{Name: "web-1", LastBeat: s.beat, Coverage: 1}
	if now.Sub(s.beat) < 10*time.Minute {
		a.Interfaces, a.InterfaceCount = []string{"eth0"}, 1
	}
	return []store.Agent{a}, nil
}

// flowStream makes a stream of flows with a consumer, on a server of its own.
func flowStream(t *testing.T) (jetstream.JetStream, jetstream.Consumer) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: ebbwatch.FlowConsumer, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return js, consumer
}

// A collector that waits for room on a full disk asks NATS for batches and stores
// none. The only sign of it here is a batch that waits.
func TestACollectorThatStoresNothingIsBehindAndNobodyElseIsBlamed(t *testing.T) {
	js, consumer := flowStream(t)
	if _, err := js.Publish(t.Context(), ebbwatch.FlowSubjectPrefix+"web-1", []byte("a batch")); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	batch, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	beat := sent.Add(-5 * time.Second) // of the batch before, which is stored
	gather := func(after time.Duration, s stored) Status {
		c := &Collector{Store: s, JetStream: js, Detectors: func(context.Context) ([]Detector, error) {
			return []Detector{{Name: "scan", Until: beat}}, nil
		}}
		return c.gather(t.Context(), sent.Add(after))
	}
	check := func(s Status, after time.Duration, want map[string]Part) {
		t.Helper()
		if got := s.Ingest.LagSeconds; got == nil || *got < (after-5*time.Second).Seconds() || *got > (after+5*time.Second).Seconds() {
			t.Errorf("after %s the lag is %v", after, got)
		}
		for _, p := range s.Parts {
			if w, ok := want[p.Name]; ok && (p.State != w.State || !strings.Contains(p.Detail, w.Detail)) {
				t.Errorf("after %s: %+v, want %+v", after, p, w)
			}
		}
	}
	for _, c := range []struct {
		after time.Duration
		store stored
		want  map[string]Part
	}{
		{time.Second, stored{beat: beat}, map[string]Part{"collector": {State: OK, Detail: "keeps up"}, "detectors": {State: OK, Detail: "keeps up"},
			"stream": {State: OK, Detail: "1 batch waits"}, "agents": {State: OK, Detail: "1 agent reports"}}},
		{40 * time.Second, stored{beat: beat}, map[string]Part{"collector": {State: Warn, Detail: "40 s behind"}, "detectors": {State: Warn, Detail: "wait for the collector"},
			"stream": {State: OK, Detail: "1 batch waits, the oldest for 40 s"}, "agents": {State: OK, Detail: "1 agent reports, as of 40 s ago"}}},
		{90 * time.Second, stored{beat: beat}, map[string]Part{"collector": {State: Down, Detail: "insert_paused"}, "detectors": {State: Warn, Detail: "1 min 30 s behind"},
			"stream": {State: OK, Detail: "the oldest for 1 min 30 s"}, "agents": {State: OK, Detail: "as of 1 min 30 s ago"}}},
		{time.Hour, stored{beat: beat}, map[string]Part{"collector": {State: Down, Detail: "1 h behind"}, "agents": {State: OK, Detail: "as of 1 h ago"}}},
		{90 * time.Second, stored{none: true}, map[string]Part{"collector": {State: Down, Detail: "behind"}, "agents": {State: Off, Detail: "while the collector is behind"}}},
		// An agent that was silent before the batch came is late all the same.
		{40 * time.Second, stored{beat: beat.Add(-time.Minute)}, map[string]Part{"collector": {State: Warn, Detail: "behind"}, "agents": {State: Warn, Detail: "1 late"}}},
	} {
		check(gather(c.after, c.store), c.after, c.want)
	}

	if err := batch.DoubleAck(t.Context()); err != nil { // it is stored
		t.Fatal(err)
	}
	s := gather(90*time.Second, stored{beat: sent.Add(85 * time.Second)})
	if s.Ingest.LagSeconds == nil || *s.Ingest.LagSeconds != 0 || s.Parts[0].Detail != "1 agent reports" || s.Parts[4].State != Warn {
		t.Errorf("without a batch that waits: %+v", s)
	}
	// Now an agent that does not report is at fault.
	if s := gather(90*time.Second, stored{beat: beat}); s.Parts[0].State != Warn {
		t.Errorf("an agent that is silent: %+v", s.Parts[0])
	}
	js.Conn().Close()
	if s := gather(90*time.Second, stored{beat: beat}); s.Ingest.LagSeconds != nil {
		t.Errorf("without NATS the lag is %v", *s.Ingest.LagSeconds)
	}
}
