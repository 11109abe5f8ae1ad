package ingest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

// Without a sync of each write a NATS server finds files like this after a power
// cut, and then neither has the consumers nor makes them (`make chaos ARGS="-power
// -durability default -victims nats"`).
func TestConsumersWhoseFilesAPowerCutLeftEmptyAreMadeAgain(t *testing.T) {
	folder := t.TempDir()
	server, err := natstest.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := newSite(t, server.JetStream(t), 2)
	m := s.start(server.JetStream(t), s.streams)
	f := newTraffic(t, s.js)
	eventually(t, "it has both shards", 20*time.Second, func() bool { return held(m) == "2" })
	for range 2 { // what was made in memory is gone after the next start of the server
		stored := m.stored()
		f.send(50)
		eventually(t, "batches are stored", 30*time.Second, func() bool { return m.stored() > stored })
		server.Stop()
		files, err := filepath.Glob(filepath.Join(folder, "jetstream", "*", "streams", "EBBWATCH_FLOWS", "obs", "*", "*"))
		if err != nil || len(files) < 6 {
			t.Fatalf("the consumers have the files %q, %v", files, err)
		}
		for _, file := range files {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	f.send(50)
	s.check(f)
}

// gate is a store whose inserts wait until it is opened.
type gate struct {
	Store
	reached chan struct{}
	open    chan struct{}
}

func (g *gate) Write(ctx context.Context, b *sink.Block, token string) error {
	select {
	case g.reached <- struct{}{}:
	default:
	}
	select {
	case <-g.open:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return g.Store.Write(ctx, b, token)
}

// While an insert lasts, batches wait in memory. A power cut of the NATS server makes
// it give their sequences to others, which must not be acknowledged in their place.
func TestWhatWaitedInMemoryOverAPowerCutTakesNoOtherBatchAway(t *testing.T) {
	const before, lost = 5, 30
	folder := t.TempDir()
	server, err := natstest.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := newSite(t, server.JetStream(t), 1)
	s.streams.MaxAckPending, s.streams.PrefetchMessages = 100, (before+lost)*6/5 // as many as wait: what comes again finds no room
	writer := sink.NewWriter(sink.DefaultConfig(), s.conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	store := &gate{Store: writer, reached: make(chan struct{}, 1), open: make(chan struct{})}
	cfg := DefaultConfig()
	cfg.BlockMessages, cfg.BlockAge = 1, 10*time.Millisecond
	g := &Ingester{
		Config: cfg, Streams: s.streams, JS: server.JetStream(t), Connect: backend(store, stored.NewTable(s.conn)),
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if _, err := consume.Ensure(t.Context(), s.js, s.streams); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- g.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	f := newTraffic(t, s.js)
	f.send(before)
	<-store.reached
	time.Sleep(500 * time.Millisecond) // until the disk has it
	synced := filepath.Join(t.TempDir(), "jetstream")
	if err := os.CopyFS(synced, os.DirFS(filepath.Join(folder, "jetstream"))); err != nil {
		t.Fatal(err)
	}
	f.send(lost)
	time.Sleep(500 * time.Millisecond) // until the collector has them
	server.Stop()
	if err := os.RemoveAll(filepath.Join(folder, "jetstream")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "jetstream"), os.DirFS(synced)); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	f.send(lost) // under the same sequences
	time.Sleep(time.Second)
	close(store.open)
	s.check(f)
}
