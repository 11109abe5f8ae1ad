package llm

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/verify"
)

// asked is a worder that remembers what passed between the report and the model.
type asked struct {
	*Client
	req    report.Request
	answer report.Answer
	err    error
}

func (a *asked) Word(ctx context.Context, req report.Request) (report.Answer, error) {
	a.req = req
	a.answer, a.err = a.Client.Word(ctx, req)
	return a.answer, a.err
}

// A real model, asked to word real reports. It needs one, which is an optional extra:
//
//	$(scripts/setup-llm.sh) scripts/llm-server.py --model gemma3 --port 8491 --threads 2 &
//	cd analyzer && EBBWATCH_TEST_LLM_BASE_URL=http://127.0.0.1:8491/v1 EBBWATCH_TEST_LLM_RUNS=10 go test ./internal/llm -run TestARealModel -v
//
// EBBWATCH_TEST_LLM_FORMAT=json_object takes the enforced schema away from it.
// Whatever the model invents, the delivered sentences must hold. How many of its
// claims survive is logged, with those that do not.
func TestARealModel(t *testing.T) {
	base := os.Getenv("EBBWATCH_TEST_LLM_BASE_URL")
	if base == "" {
		t.Skip("EBBWATCH_TEST_LLM_BASE_URL is not set")
	}
	runs, _ := strconv.Atoi(os.Getenv("EBBWATCH_TEST_LLM_RUNS"))
	cfg := DefaultConfig()
	cfg.BaseURL, cfg.Timeout, cfg.MaxPerHour = base, 2*time.Minute, 10_000
	if model := os.Getenv("EBBWATCH_TEST_LLM_MODEL"); model != "" {
		cfg.Model = model
	}
	if format := os.Getenv("EBBWATCH_TEST_LLM_FORMAT"); format != "" {
		cfg.ResponseFormat = format
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.limiter.SetBurst(10_000)
	for _, kind := range []string{"syn_flood", "port_scan", "exfiltration"} {
		t.Run(kind, func(t *testing.T) {
			var claims, held, worded int
			var took time.Duration
			random := rand.New(rand.NewPCG(1, 2))
			for range max(runs, 1) {
				w := &asked{Client: client}
				started := time.Now()
				r := wordedBy(t, w, kind, 0.5+random.Float64())
				took += time.Since(started)
				claims, held = claims+len(w.answer.Claims), held+len(r.Claims)
				if len(r.Claims) > 0 {
					worded++
				} else if r.Note == "" {
					t.Error("the report does not say why the model's words were not used")
				}
				if w.err != nil {
					t.Logf("failed: %v", w.err)
				}
				for _, c := range w.answer.Claims {
					s, err := verify.Check(w.req.Facts, c, func(p string) string { return p })
					if err != nil {
						t.Logf("refused: %+v: %v", c, err)
						continue
					}
					t.Logf("held: %s", s.Text)
					onlyItsNumbers(t, w.req.Facts, s)
				}
			}
			t.Logf("RESULT %s %s: %d of %d claims held, %d of %d reports worded, %v each", cfg.Model, kind, held, claims, worded, max(runs, 1),
				(took / time.Duration(max(runs, 1))).Round(10*time.Millisecond))
		})
	}
}

var number = regexp.MustCompile(`[0-9][0-9,.]*`)

// onlyItsNumbers fails a delivered sentence with a number that its evidence does not hold.
func onlyItsNumbers(t *testing.T, facts []verify.Fact, s verify.Sentence) {
	t.Helper()
	for _, f := range facts {
		if f.ID != s.Evidence {
			continue
		}
		text := s.Text
		for _, name := range []string{f.Src, f.Dst, f.Host} {
			text = strings.ReplaceAll(text, name, "")
		}
		own := f.Amount() + " " + f.Usual() + " " + f.Times()
		for _, n := range number.FindAllString(text, -1) {
			if !strings.Contains(own, strings.TrimRight(n, ".,")) {
				t.Errorf("the number %s in %q is in no evidence", n, s.Text)
			}
		}
	}
}

// wordedBy makes a report about an incident as the detectors would find it, with
// values around the usual ones of such an incident.
func wordedBy(t *testing.T, w report.Worder, kind string, size float64) report.Report {
	t.Helper()
	names, err := report.NewPseudonyms(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := report.New(report.DefaultConfig(), w, names, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	findings := findingsOf(kind, size)
	in := incident.Incident{ID: "i-1", Status: incident.Open, Severity: detect.High, Title: kind, Entities: []string{"10.9.0.2"},
		Findings: len(findings), Started: at.Add(-time.Minute), Ended: at, Opened: at}
	for i := range findings {
		f := &findings[i]
		f.ID, f.Detector, f.Severity, f.Score, f.PValue = "f-"+strconv.Itoa(i), "detector", detect.High, 1, 1
		f.WindowStart, f.WindowEnd, f.Summary = at.Add(-time.Minute), at, "Something was measured."
		in.Kinds = append(in.Kinds, f.Kind)
	}
	r, err := b.Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatalf("the report did not go out: %v", err)
	}
	return r
}

func findingsOf(kind string, size float64) []detect.Finding {
	row := func(metric, unit string, value float64, baseline ...float64) detect.Evidence {
		e := detect.Evidence{ID: metric, Metric: metric, Unit: unit, Value: value, Query: "SELECT 1"}
		if len(baseline) > 0 {
			e.Baseline = &baseline[0]
		}
		return e
	}
	whole := func(v float64) float64 { return float64(int(v * size)) }
	switch kind {
	case "syn_flood":
		return []detect.Finding{{Kind: kind, Entity: detect.Entity{Dst: "10.9.0.2", Port: 80, Host: "web-1"}, Evidence: []detect.Evidence{
			row("half_open_connections_per_second", "connections/s", 6650*size, 0.4), row("half_open_connections", "connections", whole(99750)),
			row("connections_started", "connections", whole(99990)), row("half_open_share", "ratio", 0.66*size), row("distinct_sources", "hosts", whole(40100))}}}
	case "port_scan":
		return []detect.Finding{{Kind: kind, Entity: detect.Entity{Src: "10.9.0.3", Dst: "10.9.0.2"}, Evidence: []detect.Evidence{
			row("distinct_ports_tried", "ports", whole(900)), row("targets_failed", "ports", whole(880), 90), row("failed_share", "ratio", 0.6*size, 0.1),
			row("connections_started", "connections", whole(910)), row("duration", "s", 41*size)}}}
	default:
		return []detect.Finding{
			{Kind: kind, Entity: detect.Entity{Src: "10.9.0.4", Dst: "203.0.113.7"}, Evidence: []detect.Evidence{
				row("bytes_out", "bytes", whole(734_003_200)), row("bytes_in", "bytes", whole(9_120_000)), row("bytes_out_per_second", "bytes/s", 1.2e7*size, 2.1e5),
				row("pair_bytes_out_per_second", "bytes/s", 1.2e7*size, 900), row("producer_consumer_ratio", "ratio", 0.64*size)}},
			{Kind: "beacon", Entity: detect.Entity{Src: "10.9.0.4", Dst: "203.0.113.9"}, Evidence: []detect.Evidence{
				row("median_interval", "s", 30*size), row("interval_dispersion", "ratio", 0.02*size, 0.5), row("regular_connections", "connections", whole(60)),
				row("duration", "s", 1770*size), row("bytes_per_connection", "bytes", whole(840))}}}
	}
}
