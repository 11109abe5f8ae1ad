// Package natstest runs a real NATS server with JetStream inside a test.
package natstest

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server is a NATS server that can be stopped and started again with its data.
type Server struct {
	URL    string
	opts   server.Options
	server *server.Server
}

// Start starts a server on a free port that ends with the test. change adapts its
// options.
func Start(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	s, err := New(t.TempDir(), change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// New starts a server on a free port with its data in folder. The caller stops it.
func New(folder string, change ...func(*server.Options)) (*Server, error) {
	opts := server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: folder, NoSigs: true, NoLog: true,
		SyncInterval: time.Second,
	}
	for _, c := range change {
		c(&opts)
	}
	return start(opts)
}

func start(opts server.Options) (*Server, error) {
	s := &Server{opts: opts}
	if err := s.Start(); err != nil {
		return nil, err
	}
	addr := s.server.Addr().(*net.TCPAddr)
	s.opts.Port = addr.Port // the same after a restart
	s.URL = "nats://127.0.0.1:" + strconv.Itoa(addr.Port)
	return s, nil
}

// Start starts the server again after Stop.
func (s *Server) Start() error {
	opts := s.opts // the server changes its copy
	started, err := server.NewServer(&opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	started.Start()
	if !started.ReadyForConnections(20 * time.Second) {
		started.Shutdown()
		return fmt.Errorf("start NATS: not ready for connections on port %d", s.opts.Port)
	}
	s.server = started
	return nil
}

// Stop stops the server; its data stays.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// JetStream returns a connection of the test's own.
func (s *Server) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(s.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
