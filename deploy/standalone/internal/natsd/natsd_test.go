package natsd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// run starts a server on dir and returns it with what stops it.
func run(t *testing.T, cfg Config, dir *datadir.Dir) (*Server, func()) {
	t.Helper()
	return runLogging(t, cfg, dir, slog.New(slog.DiscardHandler))
}

func runLogging(t *testing.T, cfg Config, dir *datadir.Dir, log *slog.Logger) (*Server, func()) {
	t.Helper()
	s := New(cfg, dir, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("Run: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready within 20 s")
	}
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func freeConfig(t *testing.T) Config {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := DefaultConfig()
	cfg.Listen = ln.Addr().String()
	return cfg
}

func openDir(t *testing.T) *datadir.Dir {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func connect(t *testing.T, s *Server) (jetstream.JetStream, *nats.Conn) {
	t.Helper()
	conn, err := natsconn.Connect("test", s.Client(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js, conn
}

func TestAMessageSurvivesTheServer(t *testing.T) {
	cfg, dir := freeConfig(t), openDir(t)
	s, stop := run(t, cfg, dir)
	js, conn := connect(t, s)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage, MaxBytes: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	stop()

	s, stop = run(t, cfg, dir)
	defer stop()
	js, conn = connect(t, s)
	defer conn.Close()
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(msg.Data) != "kept" {
		t.Errorf("message %q, want kept", msg.Data)
	}
}

func TestAStrangerIsRefused(t *testing.T) {
	s, stop := run(t, freeConfig(t), openDir(t))
	defer stop()
	for name, opts := range map[string][]nats.Option{
		"without a password":    nil,
		"with a wrong password": {nats.UserInfo(User, "wrong")},
	} {
		if conn, err := nats.Connect(s.Client().URL, opts...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: error %v, want an authorization violation", name, err)
			if err == nil {
				conn.Close()
			}
		}
	}
}

func TestATakenPortIsAnErrorAndNotTheEndOfTheProcess(t *testing.T) {
	cfg := freeConfig(t)
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = New(cfg, openDir(t), slog.New(slog.DiscardHandler)).Run(t.Context())
	if !errors.Is(err, port.ErrTaken) {
		t.Errorf("Run: %v, want ErrTaken", err)
	}
}
