package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
)

// lockedBuffer is written by a service while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestARefusedLoginIsToldAndTriedAgain(t *testing.T) {
	const advice = "check nats.user and nats.password"
	login := func(password string, port int) func(*server.Options) {
		return func(o *server.Options) { o.Username, o.Password, o.Port = "collector", password, port }
	}
	strict := natstest.Start(t, login("another", server.RANDOM_PORT))
	for _, args := range [][]string{{"migrate"}, {"dlq", "list"}} {
		t.Setenv("EBBWATCH_NATS_URL", strict.URL)
		t.Setenv("EBBWATCH_NATS_USER", "collector")
		t.Setenv("EBBWATCH_NATS_PASSWORD", "known")
		root := Command()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(strings.ToLower(err.Error()), "authorization violation: "+advice) {
			t.Errorf("%v: the error is %v", args, err)
		}
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Listen = free.Addr().String()
	free.Close()
	cfg.ClickHouse.Address = "127.0.0.1:1" // nobody is there
	cfg.NATS.URL, cfg.NATS.User, cfg.NATS.Password = strict.URL, "collector", "known"
	var log lockedBuffer
	a, err := New(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the collector ended with %v", err)
		}
	}()
	health := func(want string) {
		t.Helper()
		eventually(t, 20*time.Second, "healthz says "+want, func() error {
			resp, err := http.Get("http://" + cfg.Listen + "/healthz")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var answer map[string]string
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
				return err
			}
			if !strings.Contains(answer["nats"], want) {
				return fmt.Errorf("nats is %q", answer["nats"])
			}
			return nil
		})
	}
	health(advice)
	eventually(t, 20*time.Second, "the log says it", func() error {
		if said := log.String(); !strings.Contains(said, "nats refuses the login") || !strings.Contains(said, "cannot migrate yet") {
			return fmt.Errorf("the log is\n%s", said)
		}
		return nil
	})
	time.Sleep(4 * time.Second) // more than two attempts, after which the client would give up
	health(advice)
	if said := log.String(); strings.Count(said, "nats refuses the login") != 1 || strings.Count(said, "reports an error") != 0 {
		t.Errorf("the log repeats itself:\n%s", said)
	}
	if said := log.String(); strings.Contains(said, "outbound buffer limit") {
		t.Errorf("the log names a consequence, not the cause:\n%s", said)
	}

	strict.Stop()
	at, err := url.Parse(strict.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	natstest.Start(t, login("known", port))
	health("ok")
}
