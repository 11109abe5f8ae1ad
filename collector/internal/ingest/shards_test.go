package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// site is a database and the collectors that fill it from one NATS.
type site struct {
	t       *testing.T
	ch      *chtest.Server
	conn    chconn.Config
	js      jetstream.JetStream
	streams consume.Config
}

func newSite(t *testing.T, js jetstream.JetStream, shards int) *site {
	t.Helper()
	s := &site{t: t, ch: chtest.Start(t), js: js, streams: consume.DefaultConfig()}
	s.conn = chconn.Config{
		Address: s.ch.Addr, Database: s.ch.NewDatabase(t), User: chtest.Collector,
		Password: config.Secret(s.ch.CollectorPassword), Compression: "none",
		InsertUser: chtest.Writer, InsertPassword: config.Secret(s.ch.WriterPassword),
	}
	migrate(t, s.conn, js)
	s.streams.FlowMaxBytes, s.streams.DeadLetterMaxBytes, s.streams.Standby, s.streams.AckWait = 64<<20, 16<<20, time.Second, 3*time.Second
	s.streams.Shards = shards
	return s
}

// member is a collector.
type member struct {
	*Ingester
	stop context.CancelFunc
	done chan error
}

func (s *site) start(js jetstream.JetStream, streams consume.Config) *member {
	s.t.Helper()
	cfg := DefaultConfig()
	cfg.BlockMessages, cfg.BlockAge = 300, 200*time.Millisecond
	pool := sink.NewWriter(sink.DefaultConfig(), s.conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Pool(s.conn)
	s.t.Cleanup(pool.Close)
	record := stored.NewPool(s.conn)
	s.t.Cleanup(record.Close)
	m := &member{done: make(chan error, 1), Ingester: &Ingester{
		Config: cfg, Streams: streams, JS: js, Metrics: NewMetrics(prometheus.NewRegistry()),
		Connect: func(consume.Shard) Backend {
			return Backend{Store: pool, Record: record}
		},
		Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)),
	}}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(s.t.Context())
	go func() { m.done <- m.Run(ctx) }()
	s.t.Cleanup(m.end)
	return m
}

func (m *member) end() {
	m.stop()
	for range m.done {
		close(m.done)
	}
}

// stored returns how many batches it has stored.
func (m *member) stored() float64 { return testutil.ToFloat64(m.Metrics.batches) }

// held returns how many shards each has.
func held(members ...*member) string {
	var n []string
	for _, m := range members {
		n = append(n, fmt.Sprint(testutil.ToFloat64(m.Metrics.shards)))
	}
	return strings.Join(n, " ")
}

func eventually(t *testing.T, what string, within time.Duration, ready func() bool) {
	t.Helper()
	for began := time.Now(); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("after %s not: %s", within, what)
		}
	}
}

// traffic publishes the batches of 30 agents, some of them twice.
type traffic struct {
	t       *testing.T
	js      jetstream.JetStream
	fleet   *flowgen.Fleet
	encoder ebbwatch.Encoder
	end     chan struct{}
	ended   sync.WaitGroup

	batches, flows, bytes uint64
	forge                 bool // every second message has the header of the server's choice
	recent                []sent
}

func newTraffic(t *testing.T, js jetstream.JetStream) *traffic {
	return &traffic{t: t, js: js, fleet: flowgen.New(11, 30, time.Now().Add(-time.Hour), 5*time.Second)}
}

// send publishes so many batches, every fifth of them a second time without an id.
func (f *traffic) send(batches int) {
	var b ebbwatch.Batch
	for range batches {
		f.fleet.Next(&b, 20)
		f.batches++
		f.flows += uint64(b.Len())
		for i := range b.Start {
			f.bytes += b.SrcBytes[i] + b.DstBytes[i]
		}
		message, err := f.encoder.Encode(nil, &b)
		if err != nil {
			f.t.Error(err)
			return
		}
		m := sent{ebbwatch.FlowSubject(b.Agent), message, b.Len()}
		f.publish(m, jetstream.WithMsgID(b.MessageID()))
		if f.batches%5 == 0 {
			f.publish(m)
		}
		f.recent = append(f.recent[max(0, len(f.recent)-199):], m)
	}
}

// publish repeats until the stream has the message.
func (f *traffic) publish(m sent, opts ...jetstream.PublishOpt) {
	msg := nats.NewMsg(m.subject)
	msg.Data = m.data
	if f.forge && f.batches%2 == 0 {
		msg.Header.Set(pinHeader, "forged")
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
		_, err := f.js.PublishMsg(ctx, msg, opts...)
		cancel()
		if err == nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			f.t.Errorf("publish: %v", err)
			return
		}
	}
}

// start sends a batch every few milliseconds until stop.
func (f *traffic) start() {
	f.end = make(chan struct{})
	f.ended.Go(func() {
		for {
			f.send(3)
			select {
			case <-f.end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

func (f *traffic) stop() {
	close(f.end)
	f.ended.Wait()
}

// check waits until the stream is empty and holds the tables against what was sent.
func (s *site) check(f *traffic) {
	s.t.Helper()
	select {
	case <-empty(s.t, s.js):
	case <-time.After(60 * time.Second):
		s.t.Fatal("after 60 s not every batch is settled")
	}
	for q, want := range map[string]string{
		"SELECT count(), sum(src_bytes + dst_bytes) FROM %s.flows":                 fmt.Sprintf("%d\t%d", f.flows, f.bytes),
		"SELECT sum(records), sum(src_bytes + dst_bytes) FROM %s.flows_1m":         fmt.Sprintf("%d\t%d", f.flows, f.bytes),
		"SELECT count(), uniqExact(agent, boot, sequence) FROM %s.coverage":        fmt.Sprintf("%d\t%d", f.batches, f.batches),
		"SELECT count() FROM %s.refused_batches":                                   "0",
		"SELECT count() FROM (SELECT agent FROM %s.coverage GROUP BY agent, boot)": "30",
	} {
		if got := s.ch.Query(s.t, fmt.Sprintf(q, s.conn.Database)); got != want {
			s.t.Errorf("%s gives %q, want %q", q, got, want)
		}
	}
}

func (s *site) connect(url string) jetstream.JetStream {
	s.t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

func TestCollectorsShareTheStreamAndTakeOverFromOneThatIsGone(t *testing.T) {
	server := natstest.Start(t)
	s := newSite(t, server.JetStream(t), 6)
	first := s.start(server.JetStream(t), s.streams)
	f := newTraffic(t, s.js)
	eventually(t, "the first has all shards", 20*time.Second, func() bool { return held(first) == "6" })
	f.start()
	second := s.start(server.JetStream(t), s.streams)
	eventually(t, "two have three each", 20*time.Second, func() bool { return held(first, second) == "3 3" })
	doomed := server.JetStream(t)
	third := s.start(doomed, s.streams)
	eventually(t, "three have two each", 20*time.Second, func() bool { return held(first, second, third) == "2 2 2" })
	eventually(t, "each stores batches", 20*time.Second, func() bool { return min(first.stored(), second.stored(), third.stored()) > 20 })

	doomed.Conn().Close() // without a word; it goes on inserting what it has
	gone := time.Now()
	eventually(t, "the others have its shards", 20*time.Second, func() bool { return held(first, second) == "3 3" })
	t.Logf("its shards are taken over %s after the end of one", time.Since(gone).Round(time.Millisecond))
	time.Sleep(time.Second)
	second.end() // in good order
	eventually(t, "the last has all", 20*time.Second, func() bool { return held(first) == "6" })
	time.Sleep(500 * time.Millisecond)
	f.stop()
	s.check(f)
	if err := first.Health(); err != nil {
		t.Errorf("the last says %v", err)
	}
}

func TestAnotherNumberOfShardsLosesAndDoublesNothing(t *testing.T) {
	server := natstest.Start(t)
	s := newSite(t, server.JetStream(t), 1)
	f := newTraffic(t, s.js)
	for i, shards := range []int{1, 4, 6, 1} {
		cfg := s.streams
		cfg.Shards = shards
		if i == 0 {
			if _, err := consume.Ensure(t.Context(), s.js, cfg); err != nil {
				t.Fatal(err)
			}
		} else {
			f.send(200) // nobody reads: they wait in the shards of before
		}
		m := s.start(server.JetStream(t), cfg)
		eventually(t, "the stream is divided", 20*time.Second, func() bool {
			streams, err := consume.Open(t.Context(), s.js, cfg)
			if err != nil {
				return false
			}
			divided, err := streams.Divided()
			return err == nil && divided == shards
		})
		for _, m := range f.recent { // copies, in the shards of now
			f.publish(m)
		}
		f.start()
		eventually(t, fmt.Sprintf("all of %d shards are read", shards), 20*time.Second, func() bool { return held(m) == fmt.Sprint(shards) })
		other := cfg
		other.Shards = shards + 1
		wrong := s.start(server.JetStream(t), other)
		eventually(t, "a collector with another number waits and says so", 20*time.Second, func() bool {
			err := wrong.Health()
			return err != nil && strings.Contains(err.Error(), fmt.Sprintf("streams.shards is %d here and %d at other collectors", shards+1, shards))
		})
		if held(m, wrong) != fmt.Sprintf("%d 0", shards) || m.Health() != nil {
			t.Errorf("with one of another number they have %s shards; the first says %v", held(m, wrong), m.Health())
		}
		wrong.end()
		f.stop()
		m.end()
	}
	s.streams.Shards = 1
	s.start(server.JetStream(t), s.streams)
	s.check(f)
	flow, err := s.js.Stream(t.Context(), ebbwatch.FlowStream)
	if err != nil {
		t.Fatal(err)
	}
	for name := range flow.ConsumerNames(t.Context()).Name() {
		if name != ebbwatch.FlowConsumer {
			t.Errorf("consumer %s is left", name)
		}
	}
}

func TestAnInsertThatWasLeftInAnotherClickHouseIsNotRepeatedHere(t *testing.T) {
	server := natstest.Start(t)
	one := newSite(t, server.JetStream(t), 1)
	two := *one
	two.conn.Database = one.ch.NewDatabase(t)
	migrate(t, two.conn, one.js)
	if _, err := consume.Ensure(t.Context(), one.js, one.streams); err != nil {
		t.Fatal(err)
	}
	f := newTraffic(t, one.js)
	f.send(60)
	store := &mortal{
		Store: sink.NewWriter(sink.DefaultConfig(), one.conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
		dieAt: 1, after: true, died: make(chan struct{}),
	}
	ctx, kill := context.WithCancel(t.Context())
	dying := &Ingester{
		Config: DefaultConfig(), Streams: one.streams, JS: server.JetStream(t), Connect: backend(store, stored.NewTable(one.conn)),
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	}
	done := make(chan error, 1)
	go func() { done <- dying.Run(ctx) }()
	<-store.died
	kill()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wrong := two.start(server.JetStream(t), two.streams)
	eventually(t, "a collector of another database refuses", 20*time.Second, func() bool {
		err := wrong.Health()
		return err != nil && strings.Contains(err.Error(), "left unfinished in another ClickHouse") && strings.Contains(err.Error(), one.conn.Database) && strings.Contains(err.Error(), "remove key ledger.0 of bucket EBBWATCH_COLLECTOR")
	})
	time.Sleep(2 * time.Second)
	if got := two.ch.Query(t, "SELECT count() FROM "+two.conn.Database+".flows"); got != "0" {
		t.Errorf("the other database has %s flows", got)
	}
	wrong.end()
	right := one.start(server.JetStream(t), one.streams)
	one.check(f)
	right.end() // nothing is left now
	f.send(60)
	two.start(server.JetStream(t), two.streams)
	select {
	case <-empty(t, two.js):
	case <-time.After(20 * time.Second):
		t.Fatal("after 20 s the other database has not taken over")
	}
	if got := two.ch.Query(t, "SELECT count() FROM "+two.conn.Database+".coverage"); got != "60" {
		t.Errorf("the other database has %s batches, want 60", got)
	}
}
