package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/internal/ops"
)

func TestHealthNamesWhatIsBroken(t *testing.T) {
	broken := false
	s := ops.Server{Registry: ops.NewRegistry(), Checks: map[string]ops.Check{
		"nats": func(context.Context) error { return nil },
		"clickhouse": func(context.Context) error {
			if broken {
				return errors.New("connection refused")
			}
			return nil
		},
	}}
	server := httptest.NewServer(s.Handler())
	defer server.Close()

	for _, want := range []struct {
		broken bool
		status int
		answer string
	}{{false, http.StatusOK, "ok"}, {true, http.StatusServiceUnavailable, "connection refused"}} {
		broken = want.broken
		status, body := get(t, server.URL+"/healthz")
		var answer map[string]string
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		if status != want.status || answer["clickhouse"] != want.answer || answer["nats"] != "ok" {
			t.Errorf("broken %v: got %d %v", broken, status, answer)
		}
	}
	if status, body := get(t, server.URL+"/metrics"); status != http.StatusOK || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: got %d", status)
	}
}

func TestWhatIsTolerableIsToldButHealthy(t *testing.T) {
	reason := errors.New("no interface is up")
	s := ops.Server{Registry: ops.NewRegistry(), Checks: map[string]ops.Check{
		"interfaces": func(context.Context) error { return fmt.Errorf("look around: %w", ops.Tolerable(reason)) },
	}}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	if status, body := get(t, server.URL+"/healthz"); status != http.StatusOK || !strings.Contains(body, "look around: no interface is up") {
		t.Errorf("got %d %s", status, body)
	}
	if !errors.Is(ops.Tolerable(reason), reason) {
		t.Error("the reason is hidden")
	}
}

func TestRunEndsWithItsContextAndNamesATakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	log := slog.New(slog.DiscardHandler)
	taken := ops.Server{Listen: ln.Addr().String(), Registry: ops.NewRegistry(), Log: log}
	if err := taken.Run(t.Context()); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("a taken port must be named, got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	free := ops.Server{Listen: "127.0.0.1:0", Registry: ops.NewRegistry(), Log: log}
	go func() { done <- free.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run after cancel: %v", err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestCheckListen(t *testing.T) {
	for address, valid := range map[string]bool{
		"": true, "127.0.0.1:8461": true, "[::1]:0": true, ":80": true,
		"127.0.0.1": false, "127.0.0.1:99999": false, "127.0.0.1:http": false, "127.0.0.1:-1": false,
	} {
		if err := ops.CheckListen(address); (err == nil) != valid {
			t.Errorf("%q: got %v", address, err)
		}
	}
}
