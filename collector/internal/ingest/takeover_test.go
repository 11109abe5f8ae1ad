package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

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
)

// watchful is a store that calls after when an insert is made.
type watchful struct {
	Store
	after func()
}

func (w *watchful) Write(ctx context.Context, b *sink.Block, token string) error {
	err := w.Store.Write(ctx, b, token)
	w.after()
	return err
}

func TestASessionTakesBackWhatADeadOneHadReceivedBeforeItStoresNewerBatches(t *testing.T) {
	ch := chtest.Start(t)
	for name, standby := range map[string]bool{
		"by a collector that starts later": false,
		"by a collector that has stood by": true,
	} {
		t.Run(name, func(t *testing.T) { takeBack(t, ch, standby) })
	}
}

func takeBack(t *testing.T, ch *chtest.Server, standby bool) {
	const old, newer = 40, 10
	server := natstest.Start(t)
	conn := chconn.Config{
		Address: ch.Addr, Database: ch.NewDatabase(t), User: chtest.Collector,
		Password: config.Secret(ch.CollectorPassword), Compression: "none",
		InsertUser: chtest.Writer, InsertPassword: config.Secret(ch.WriterPassword),
	}
	js := server.JetStream(t)
	migrate(t, conn, js)
	cfg := consume.DefaultConfig() // with an AckWait of a minute, longer than this test waits
	cfg.FlowMaxBytes, cfg.DeadLetterMaxBytes, cfg.Standby = 64<<20, 16<<20, 2*time.Second
	dying := server.JetStream(t)
	streams, err := consume.Ensure(t.Context(), dying, cfg)
	if err != nil {
		t.Fatal(err)
	}
	// A session receives the old batches and dies without a word.
	queue, err := streams.Queue(t.Context(), consume.Shards(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	messages, err := queue.Messages()
	if err != nil {
		t.Fatal(err)
	}
	records, bytes := publish(t, js, 7, old, 20)
	for range old {
		if _, err := messages.Next(); err != nil {
			t.Fatal(err)
		}
	}

	metrics := NewMetrics(prometheus.NewRegistry())
	settings := DefaultConfig()
	settings.BlockMessages, settings.BlockAge = 7, 20*time.Millisecond
	var cut time.Time
	store := &watchful{
		Store: sink.NewWriter(sink.DefaultConfig(), conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
		after: func() {
			got := ch.Query(t, fmt.Sprintf("SELECT countIf(received >= fromUnixTimestamp64Milli(%[2]d)) > 0 AND countIf(received < fromUnixTimestamp64Milli(%[2]d)) < %[3]d FROM %[1]s.coverage", conn.Database, cut.UnixMilli(), old))
			if got != "0" && got != "false" {
				t.Error("newer batches are stored before the old ones")
			}
		},
	}
	g := &Ingester{Config: settings, Streams: cfg, JS: server.JetStream(t), Connect: backend(store, stored.NewTable(conn)), Metrics: metrics, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	start := func() { go func() { done <- g.Run(ctx) }() }
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(20 * time.Millisecond)
	cut = time.Now()
	time.Sleep(20 * time.Millisecond)
	if standby {
		start()
		time.Sleep(time.Second) // it waits beside the one that is about to die
	}
	dying.Conn().Close()
	time.Sleep(500 * time.Millisecond) // until the server noticed: what it sends to the dead it sends to nobody else
	moreRecords, moreBytes := publish(t, js, 8, newer, 20)
	if !standby {
		start()
	}
	want := fmt.Sprintf("%d\t%d", records+moreRecords, bytes+moreBytes)
	began := time.Now()
	for {
		got := ch.Query(t, "SELECT count(), sum(src_bytes + dst_bytes) FROM "+conn.Database+".flows")
		if got == want {
			break
		}
		if time.Since(began) > 15*time.Second {
			t.Fatalf("after 15 s flows holds %q, sent were %q", got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
	const soon = 5 * time.Second // AckWait is a minute
	eventually(t, "nothing counts as lag any more", soon, func() bool {
		metrics.observe(t.Context(), js)
		return testutil.ToFloat64(metrics.lag) == 0 && testutil.ToFloat64(metrics.lagBytes) == 0 && testutil.ToFloat64(metrics.oldest) == 0
	})
	consumer, err := js.Consumer(t.Context(), ebbwatch.FlowStream, ebbwatch.FlowConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if n := consumer.CachedInfo().NumAckPending; n != 0 {
		t.Errorf("the consumer waits for %d acknowledgements", n)
	}
	if n := testutil.ToFloat64(metrics.takenBack); n != old {
		t.Errorf("%g batches were taken back, want %d", n, old)
	}
}

// Each would have the whole stream read again.
func TestAMessageThatClaimsToBeOfAnotherChoiceMakesNobodyTakeOver(t *testing.T) {
	server := natstest.Start(t)
	s := newSite(t, server.JetStream(t), 1)
	if _, err := consume.Ensure(t.Context(), s.js, s.streams); err != nil {
		t.Fatal(err)
	}
	f := newTraffic(t, s.js)
	f.forge = true
	f.send(30)
	m := s.start(server.JetStream(t), s.streams)
	s.check(f)
	if taken := testutil.ToFloat64(m.Metrics.takenBack); taken > 0 {
		t.Errorf("%v batches were taken back from nobody", taken)
	}
}
