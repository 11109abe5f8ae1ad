package app_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebbwatch/ebbwatch/agent/app"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), message)
}

// A server that refuses each batch tells so each time. Interfaces that come and
// go by the dozen are told of one by one.
func TestLogStaysBoundedWhateverDrivesIt(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	user := &server.User{Username: "agent", Password: "secret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"ebbwatch.>"}}}}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, Users: []*server.User{user}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS is not ready")
	}
	var log lines
	r := runAgent(t, func(cfg *app.Config) {
		cfg.NATS.URL, cfg.NATS.User, cfg.NATS.Password, cfg.DrainInterval, cfg.FlushTimeout = s.ClientURL(), "agent", "secret", 100*time.Millisecond, 0
	}, slog.New(slog.NewTextHandler(&log, nil)))
	peer := newHost(t)
	for i := range 30 {
		peer.connect(fmt.Sprint("w", i), fmt.Sprint("p", i), i+1)
	}
	r.watches(30)
	const refused = "nats reports an error"
	for deadline := time.Now().Add(patience); r.metric("ebbwatch_agent_log_suppressed_total") < 20; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d suppressed", r.metric("ebbwatch_agent_log_suppressed_total"))
		}
	}
	if n := log.count("watching interface"); n < 20 || n > 24 {
		t.Errorf("30 interfaces were told %d times", n)
	}
	if n := log.count(refused); n < 16 || n > 24 {
		t.Errorf("%q: %d times", refused, n)
	}
	r.stop()
	<-r.done
}
