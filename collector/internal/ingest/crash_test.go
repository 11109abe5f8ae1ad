package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
	"github.com/ebbwatch/ebbwatch/migrations"
)

var errCrash = errors.New("the process died here")

// mortal is a store that dies at its nth insert: before it, or after it
// committed and before anybody hears of it. From then on nothing works, as in a
// dead process.
type mortal struct {
	Store
	dieAt    int
	after    bool // the insert is made
	inserts  int
	dead     bool
	died     chan struct{}
	inserted []string // tokens
}

func (m *mortal) Write(ctx context.Context, b *sink.Block, token string) error {
	if m.dead {
		return errCrash
	}
	m.inserts++
	if m.inserts != m.dieAt {
		m.inserted = append(m.inserted, token)
		return m.Store.Write(ctx, b, token)
	}
	m.dead = true
	defer close(m.died)
	if m.after {
		if err := m.Store.Write(ctx, b, token); err != nil {
			return err
		}
	}
	return errCrash
}

// nats cut off at the moment of death would hide bugs of the next life, so the
// dead process simply does nothing more: no acknowledgement, no ledger.
func TestNoFlowIsLostOrDoubledWhenTheCollectorDies(t *testing.T) {
	ch := chtest.Start(t)
	for name, after := range map[string]bool{
		"between intent and insert":          false,
		"between insert and acknowledgement": true,
	} {
		t.Run(name, func(t *testing.T) {
			nats := natstest.Start(t)
			conn := chconn.Config{
				Address: ch.Addr, Database: ch.NewDatabase(t), User: chtest.Collector,
				Password: config.Secret(ch.CollectorPassword), Compression: "none",
				InsertUser: chtest.Writer, InsertPassword: config.Secret(ch.WriterPassword),
			}
			js := nats.JetStream(t)
			migrate(t, conn, js)
			streams := consume.DefaultConfig()
			streams.FlowMaxBytes, streams.DeadLetterMaxBytes, streams.AckWait, streams.Standby = 64<<20, 16<<20, time.Second, time.Second
			if _, err := consume.Ensure(t.Context(), js, streams); err != nil {
				t.Fatal(err)
			}
			records, bytes := publish(t, js, 7, 150, 20)
			cfg := DefaultConfig()
			cfg.BlockMessages, cfg.BlockAge = 11, 20*time.Millisecond
			for life := 1; ; life++ {
				store := &mortal{
					Store: sink.NewWriter(sink.DefaultConfig(), conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
					dieAt: 3, after: after, died: make(chan struct{}),
				}
				ctx, kill := context.WithCancel(t.Context())
				g := &Ingester{
					Config: cfg, Streams: streams, JS: nats.JetStream(t), Connect: backend(store, stored.NewTable(conn)),
					Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
				}
				done := make(chan error, 1)
				go func() { done <- g.Run(ctx) }()
				select {
				case <-store.died:
				case <-empty(t, js):
				}
				kill()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !store.dead {
					if life < 5 {
						t.Fatalf("only %d lives: the test kills too little", life)
					}
					break
				}
				if life > 100 {
					t.Fatal("no progress from life to life")
				}
			}
			for _, q := range []string{
				"SELECT count(), sum(src_bytes + dst_bytes) FROM %s.flows",
				"SELECT sum(records), sum(src_bytes + dst_bytes) FROM %s.flows_1m",
			} {
				got := ch.Query(t, fmt.Sprintf(q, conn.Database))
				if want := fmt.Sprintf("%d\t%d", records, bytes); got != want {
					t.Errorf("%s gives %s, sent were %s", q, strings.ReplaceAll(got, "\t", " "), want)
				}
			}
			if got := ch.Query(t, "SELECT count(), uniqExact(agent, boot, sequence) FROM "+conn.Database+".coverage"); got != "150\t150" {
				t.Errorf("coverage holds %q rows and batches, want 150 of each", got)
			}
		})
	}
}

// backend gives every shard the same store.
func backend(s Store, r Record) func(consume.Shard) Backend {
	return func(consume.Shard) Backend { return Backend{Store: s, Record: r} }
}

func migrate(t *testing.T, conn chconn.Config, js jetstream.JetStream) {
	t.Helper()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m := &schema.Migrator{ClickHouse: conn, Migrations: all, Log: log, Lock: &schema.KVLock{JS: js, Holder: "test", TTL: 5 * time.Second, Log: log}}
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, js jetstream.JetStream, seed uint64, batches, flows int) (records, bytes uint64) {
	t.Helper()
	fleet := flowgen.New(seed, 5, time.Now().Add(-time.Minute), 5*time.Second)
	var encoder ebbwatch.Encoder
	var b ebbwatch.Batch
	for range batches {
		fleet.Next(&b, flows)
		records += uint64(b.Len())
		for i := range b.Start {
			bytes += b.SrcBytes[i] + b.DstBytes[i]
		}
		message, err := encoder.Encode(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), ebbwatch.FlowSubject(b.Agent), message, jetstream.WithMsgID(b.MessageID())); err != nil {
			t.Fatal(err)
		}
	}
	return records, bytes
}

// empty is closed when the stream holds no message.
func empty(t *testing.T, js jetstream.JetStream) <-chan struct{} {
	done := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if stream, err := js.Stream(ctx, ebbwatch.FlowStream); err == nil && stream.CachedInfo().State.Msgs == 0 {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return done
}
