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

func TestLoopbackAnswersToNoForeignName(t *testing.T) {
	s := ops.Server{Registry: ops.NewRegistry(), Hosts: map[string]bool{"ebb.example.com": true}}
	for local, hosts := range map[string]map[string]int{
		"127.0.0.1": {"127.0.0.1:8461": 200, "[::1]:8461": 200, "localhost": 200, "LOCALHOST.:8461": 200, "10.0.0.7": 200, "Ebb.example.com:8461": 200,
			"evil.example": 421, "127.0.0.1.evil.example:8461": 421, "localhost.evil.example": 421, "": 421},
		"::1":      {"evil.example": 421, "localhost:8461": 200},
		"10.0.0.7": {"web-1:8461": 200, "10.0.0.7:8461": 200}, // a scraper
	} {
		for host, want := range hosts {
			for _, path := range []string{"/metrics", "/healthz"} {
				req := httptest.NewRequest(http.MethodGet, path, nil)
				req.Host = host
				req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(local), Port: 8461}))
				rec := httptest.NewRecorder()
				s.Handler().ServeHTTP(rec, req)
				if rec.Code != want {
					t.Errorf("%s for host %q at %s answered %d, want %d", path, host, local, rec.Code, want)
				}
			}
		}
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a real server on loopback answers %d for a foreign name", resp.StatusCode)
	}
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
