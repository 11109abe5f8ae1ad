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
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// sent is a batch with its message.
type sent struct {
	subject string
	data    []byte
	flows   int
}

func TestABatchThatIsSentAgainIsStoredOnce(t *testing.T) {
	ch := chtest.Start(t)
	server := natstest.Start(t)
	conn := chconn.Config{
		Address: ch.Addr, Database: ch.NewDatabase(t), User: chtest.Collector,
		Password: config.Secret(ch.CollectorPassword), Compression: "none",
	}
	js := server.JetStream(t)
	migrate(t, conn, js)
	streams := consume.DefaultConfig()
	streams.FlowMaxBytes, streams.DeadLetterMaxBytes, streams.Standby = 64<<20, 16<<20, time.Second
	if _, err := consume.Ensure(t.Context(), js, streams); err != nil {
		t.Fatal(err)
	}
	fleet := flowgen.New(7, 5, time.Now().Add(-time.Minute), time.Second)
	var encoder ebbwatch.Encoder
	var batches []sent
	for range 100 {
		var b ebbwatch.Batch
		fleet.Next(&b, 10)
		message, err := encoder.Encode(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, sent{ebbwatch.FlowSubject(b.Agent), message, b.Len()})
	}
	metrics := NewMetrics(prometheus.NewRegistry())
	session := func(t *testing.T, messages []sent) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.BlockMessages, cfg.BlockAge = 11, 20*time.Millisecond
		table := stored.NewTable(conn)
		defer table.Close()
		g := &Ingester{
			Config: cfg, Streams: streams, JS: server.JetStream(t), Metrics: metrics, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Connect: backend(sink.NewWriter(sink.DefaultConfig(), conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry()), table),
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		for _, m := range messages { // without an id, JetStream takes each copy for a message of its own
			if _, err := js.Publish(t.Context(), m.subject, m.data); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-empty(t, js):
		case <-time.After(30 * time.Second):
			t.Error("after 30 s not every message is settled")
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	// 10 to 29 are missing at first, so that they come below what is stored.
	want, copies := 0, 0
	for _, step := range []struct {
		name     string
		messages [][]sent
		fresh    []sent
	}{
		{"new ones with a gap, each twice in a row", [][]sent{twice(batches[:10]), twice(batches[30:50])}, append(batches[:10:10], batches[30:50]...)},
		{"all of them again in the same order, in another session", [][]sent{batches[:10], batches[30:50]}, nil},
		{"what was missing, among copies", [][]sent{batches[5:40], batches[20:30]}, batches[10:30]},
		{"new ones before, after and between copies", [][]sent{batches[70:80], batches[:70], batches[60:100]}, batches[50:100]},
	} {
		t.Run(step.name, func(t *testing.T) {
			var messages []sent
			for _, part := range step.messages {
				messages = append(messages, part...)
			}
			session(t, messages)
			copies += len(messages) - len(step.fresh)
			for _, m := range step.fresh {
				want += m.flows
			}
			for _, q := range []string{"SELECT count() FROM %s.flows", "SELECT sum(records) FROM %s.flows_1m", "SELECT sum(flows) FROM %s.coverage"} {
				if got := ch.Query(t, fmt.Sprintf(q, conn.Database)); got != fmt.Sprint(want) {
					t.Errorf("%s gives %s, want %d", q, got, want)
				}
			}
			if got := testutil.ToFloat64(metrics.copies); got != float64(copies) {
				t.Errorf("%g copies were recognized, %d were sent", got, copies)
			}
		})
	}
}

func twice(messages []sent) []sent {
	var all []sent
	for _, m := range messages {
		all = append(all, m, m)
	}
	return all
}
