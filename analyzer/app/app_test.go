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
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs an analyzer until stop is called.
func start(t *testing.T, cfg Config, log io.Writer) (stop func()) {
	t.Helper()
	a, err := New(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the analyzer ended with: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the analyzer did not end within 10 s")
		}
	})
}

// eventually waits for ok.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// TestFromFlowsToADeliveredReport runs an analyzer that was there first, then
// the servers, then the tables, then the flows of an attack; and then a second
// analyzer over the same state.
func TestFromFlowsToADeliveredReport(t *testing.T) {
	engine := chtest.Start(t)
	db := storetest.NewEmpty(t, engine)
	hooks := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hooks <- string(body)
	}))
	t.Cleanup(receiver.Close)

	natsPort, page := free(t), free(t)
	cfg := DefaultConfig()
	cfg.NATS.URL, cfg.Listen, cfg.ClickHouse = "nats://"+natsPort, page, db.Config()
	cfg.Notify.Webhooks = []notify.Webhook{{
		Name: "test", URL: config.Secret(receiver.URL), Secrets: []config.Secret{"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="},
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}}
	var log buffer
	stop := start(t, cfg, &log)
	defer stop()
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	eventually(t, 10*time.Second, "the page is served before anything else is there", func() bool { return get(page, "/") != "" })

	_, port, _ := net.SplitHostPort(natsPort)
	natsServer(t, port)
	time.Sleep(3 * time.Second)
	if n := strings.Count(log.String(), "level=WARN"); n > 2 {
		t.Errorf("%d warnings while the tables are absent, want 2 at most:\n%s", n, log.String())
	}
	db.Migrate(t)

	// Beats every second, as from an agent; and in the middle of them a scan.
	var stopBeats sync.WaitGroup
	beating, endBeats := context.WithCancel(t.Context())
	stopBeats.Go(func() {
		for n := uint64(1); beating.Err() == nil; n++ {
			now := time.Now().UTC()
			db.Beats(t, storetest.Beat{Agent: "watched-1", Time: now, Received: now, Boot: "b", Sequence: n, Interface: "eth0", Seen: 100})
			time.Sleep(time.Second)
		}
	})
	defer func() { endBeats(); stopBeats.Wait() }()
	time.Sleep(2 * time.Second)
	attack := time.Now().UTC()
	db.Insert(t, "watched-1", storetest.Repeat(attack, 500, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
		return storetest.Refused(at, attacker, watched, uint16(i+1))
	}))

	var hook string
	select {
	case hook = <-hooks:
	case <-time.After(30 * time.Second):
		t.Fatal("no report was delivered within 30 s")
	}
	t.Logf("report delivered %v after the attack", time.Since(attack).Round(time.Millisecond))
	if !strings.Contains(hook, "port_scan") || !strings.Contains(hook, attacker) || !strings.Contains(hook, `"incident.report"`) {
		t.Errorf("delivered: %s", hook)
	}
	findings := findingIDs(t, page)
	if len(findings) != 1 {
		t.Fatalf("findings: %v, want the one scan", findings)
	}
	eventually(t, 10*time.Second, "the delivery is recorded", func() bool { return strings.Contains(get(page, "/api/v1/deliveries"), `"delivered"`) })
	metrics := get(page, "/metrics")
	for _, want := range []string{
		`ebbwatch_analyzer_findings_total{kind="port_scan"} 1`, `ebbwatch_analyzer_windows_total{detector="scan"}`,
		`ebbwatch_analyzer_lag_seconds{detector="volume"}`, `ebbwatch_analyzer_leader 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if health := get(page, "/healthz"); !strings.Contains(health, `"clickhouse":"ok"`) || !strings.Contains(health, `"nats":"ok"`) {
		t.Errorf("health: %s", health)
	}

	// Another run over the same state finds nothing new and tells nobody again.
	stop()
	stop = start(t, cfg, &log)
	defer stop()
	eventually(t, 20*time.Second, "the second run goes on", func() bool {
		return strings.Contains(get(page, "/metrics"), `ebbwatch_analyzer_windows_total{detector="scan"}`)
	})
	time.Sleep(3 * time.Second)
	if again := findingIDs(t, page); len(again) != 1 || again[0] != findings[0] {
		t.Errorf("after a restart the findings are %v, before %v", again, findings)
	}
	select {
	case hook := <-hooks:
		t.Errorf("after a restart the report was delivered again: %s", hook)
	default:
	}
	if incidents := db.Value(t, "SELECT count() FROM "+db.Name+".incidents FINAL"); incidents != 1 {
		t.Errorf("%v incidents", incidents)
	}
}

func TestATakenPortIsAClearError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := DefaultConfig()
	cfg.Listen, cfg.NATS.URL = ln.Addr().String(), "nats://127.0.0.1:1"
	a, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("Run: %v", err)
	}
}

func TestABrokenConfigurationNamesItsKey(t *testing.T) {
	tests := []struct {
		env, want string
	}{
		{"EBBWATCH_NATS_URL=", "nats.url"},
		{"EBBWATCH_LISTEN=8460", "listen"},
		{"EBBWATCH_CLICKHOUSE_ADDRESS=here", "clickhouse.address"},
		{"EBBWATCH_CLICKHOUSE_DATABASE=a`b", "clickhouse.database"},
		{"EBBWATCH_SCHEDULER_LEASE=1ms", "scheduler.lease"},
		{"EBBWATCH_DETECTORS_SCAN_CADENCE_STEP=1500ms", "detectors.scan.cadence.step"},
		{"EBBWATCH_DETECTORS_SCAN_MIN_TARGETS=0", "detectors.scan.min_targets"},
		{"EBBWATCH_DETECTORS_VOLUME_MIN_RATIO=0.5", "detectors.volume.min_ratio"},
		{"EBBWATCH_DETECTORS_BEACON_SLOW_MAX_PEERS=1", "detectors.beacon_slow.max_peers"},
		{"EBBWATCH_DETECTORS_EXFILTRATION_COLD_BYTES=1", "detectors.exfiltration.cold_bytes"},
		{"EBBWATCH_INCIDENTS_QUIET_AFTER=1s", "incidents.quiet_after"},
		{"EBBWATCH_NOTIFY_TIMEOUT=0s", "notify.timeout"},
		{"EBBWATCH_LLM_BASE_URL=ftp://x", "llm.base_url"},
		{"EBBWATCH_WEB_PUBLIC_URL=example", "web.public_url"},
		{"EBBWATCH_REPORT_MAX_FINDINGS=0", "report.max_findings"},
	}
	for _, test := range tests {
		cfg := DefaultConfig()
		if err := config.Load(&cfg, "", []string{test.env}); err == nil || !strings.Contains(err.Error(), ": "+test.want+": ") {
			t.Errorf("%s: %v, want an error about %s", test.env, err, test.want)
		}
	}
	cfg := DefaultConfig()
	if err := config.Load(&cfg, "", nil); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

func TestBacktestWritesOneFindingALine(t *testing.T) {
	db := storetest.New(t, chtest.Start(t))
	at := time.Now().UTC().Truncate(time.Minute).Add(-time.Hour)
	db.Insert(t, "watched-1", storetest.Repeat(at, 100, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
		return storetest.Refused(at, attacker, watched, uint16(i+1))
	}))
	cfg := DefaultConfig()
	cfg.ClickHouse = db.Config()
	for entity, want := range map[string]int{"": 1, attacker: 1, "::ffff:" + watched: 1, outside: 0} {
		var out bytes.Buffer
		o := backtestOptions{from: at.Add(-time.Minute).Format(time.RFC3339), to: at.Add(2 * time.Minute).Format(time.RFC3339), entity: entity, out: "-"}
		if err := o.run(t.Context(), cfg, slog.New(slog.DiscardHandler), &out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(out.String(), "\n")
		if lines != want {
			t.Errorf("entity %q: %d lines, want %d:\n%s", entity, lines, want, out.String())
		}
		for line := range strings.Lines(out.String()) {
			var f map[string]any
			if err := json.Unmarshal([]byte(line), &f); err != nil || f["kind"] != "port_scan" || f["severity"] == nil || f["evidence"] == nil {
				t.Errorf("line %q: %v", line, err)
			}
		}
	}
	for _, o := range []backtestOptions{{from: "x", to: "y"}, {from: "2026-01-02T00:00:00Z", to: "2026-01-01T00:00:00Z"}, {from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z", entity: "me"}} {
		if err := o.run(t.Context(), cfg, slog.New(slog.DiscardHandler), io.Discard); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func natsServer(t *testing.T, port string) {
	t.Helper()
	var n int
	fmt.Sscan(port, &n)
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: n, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
}

func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// get returns the body of an answer, "" if there is none.
func get(host, path string) string {
	resp, err := http.Get("http://" + host + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func findingIDs(t *testing.T, page string) []string {
	t.Helper()
	var list struct {
		Items []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(get(page, "/api/v1/findings")), &list); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(list.Items))
	for i, item := range list.Items {
		ids[i] = item.ID
	}
	return ids
}
