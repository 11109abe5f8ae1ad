package app

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
)

func TestTheLogTellsHowManyBatchesStayQueued(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := natsd.DefaultConfig()
	cfg.Listen = ln.Addr().String()
	ln.Close()
	server := natsd.New(cfg, dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-server.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready within 20 s")
	}
	var log bytes.Buffer
	wait := func() string {
		log.Reset()
		if err := queueStored(server.Client(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))(t.Context()); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	if said := wait(); !strings.Contains(said, "cannot tell") || strings.Contains(said, "nil") {
		t.Errorf("without a stream the log is %q", said)
	}
	password, err := server.Client().Password.Value()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect("nats://"+cfg.Listen, nats.UserInfo(natsd.User, password))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := js.Publish(t.Context(), ebbwatch.FlowSubject("a"), []byte("batch")); err != nil {
			t.Fatal(err)
		}
	}
	if said := wait(); !strings.Contains(said, "batches=3") || strings.Contains(said, "nil") {
		t.Errorf("with three batches the log is %q", said)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := wait(); said != "" {
		t.Errorf("with all batches stored the log is %q", said)
	}
}
