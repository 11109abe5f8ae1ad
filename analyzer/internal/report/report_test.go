package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"golang.org/x/net/html"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/verify"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func ptr(v float64) *float64 { return &v }

func flood() (incident.Incident, []detect.Finding) {
	in := incident.Incident{
		ID: "i-0001", Status: incident.Open, Severity: detect.Critical, Title: "SYN flood against 10.9.0.2:80",
		Kinds: []string{"syn_flood", "port_scan"}, Entities: []string{"10.9.0.2", "10.9.0.3"}, Findings: 2,
		Started: at.Add(-90 * time.Second), Ended: at, Opened: at.Add(-60 * time.Second),
	}
	query := "SELECT sum(src_packets)\nFROM ebbwatch.flows\nWHERE dst_ip = toIPv6('10.9.0.2')"
	return in, []detect.Finding{
		{ID: "f-2", Detector: "scan", Kind: "port_scan", Entity: detect.Entity{Src: "10.9.0.3", Dst: "10.9.0.2"}, WindowStart: at.Add(-90 * time.Second),
			WindowEnd: at.Add(-30 * time.Second), Score: 0.8, PValue: 1, Severity: detect.Medium, Summary: "10.9.0.3 tried 101 ports of 10.9.0.2.",
			Evidence: []detect.Evidence{{ID: "a", Metric: "distinct_ports", Value: 101, Unit: "ports", Query: "SELECT uniqExact(dst_port) FROM ebbwatch.flows"}}},
		{ID: "f-1", Detector: "volume", Kind: "syn_flood", Entity: detect.Entity{Dst: "10.9.0.2", Port: 80, Host: "web-1"}, WindowStart: at.Add(-60 * time.Second),
			WindowEnd: at, Score: 0.99, PValue: 1e-9, Severity: detect.Critical, Summary: "10.9.0.2:80 got 40,213 connection attempts in 1 min, 98.5 % unanswered.",
			Evidence: []detect.Evidence{
				{ID: "a", Metric: "syn_packets", Value: 40213, Unit: "packets", Baseline: ptr(120), Query: query},
				{ID: "b", Metric: "bytes_in", Value: 2_412_780, Unit: "bytes", Baseline: ptr(9000), Query: query},
				{ID: "c", Metric: "unanswered_share", Value: 98.5, Unit: "percent", Query: "SELECT 1"},
			}},
	}
}

func builder(t *testing.T, w Worder) *Builder {
	t.Helper()
	names, err := NewPseudonyms([]byte("a key of the tests, 32 bytes ..."))
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(DefaultConfig(), w, names, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, r Report) {
	t.Helper()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join("testdata", strings.ToLower(t.Name()))
	for ext, got := range map[string]string{".md": r.Markdown, ".html": r.HTML, ".json": string(data) + "\n"} {
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(base+ext, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(base + ext)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from the golden file (go test -update writes it anew); got:\n%s", base+ext, got)
		}
	}
}

func TestIncident(t *testing.T) {
	in, findings := flood()
	r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, r)
}

func TestPeriodic(t *testing.T) {
	in, findings := flood()
	p := Period{Schedule: "daily", Start: at.Add(-24 * time.Hour), End: at, Total: 1, Incidents: []incident.Incident{in}, Flows: 1_234_567, Bytes: 9_876_543_210,
		Counts: []KindCount{{"syn_flood", detect.Critical, 1}, {"port_scan", detect.Medium, 1}},
		Agents: []Agent{{Name: "web-1", SeenPackets: 1_000_000, RecordedPackets: 999_990, OverflowPackets: 1, LostBatches: 2}, {Name: "quiet"}}}
	r, err := builder(t, nil).Periodic(p, findings[:1], 2, at)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, r)
}

type wordsOf struct {
	answer Answer
	err    error
	got    Request
}

func (w *wordsOf) Name() string { return "test-model" }
func (w *wordsOf) Word(_ context.Context, req Request) (Answer, error) {
	w.got = req
	return w.answer, w.err
}

func TestWorded(t *testing.T) {
	in, findings := flood()
	w := &wordsOf{answer: Answer{NextSteps: []string{"own_scanner", "rm -rf /"}, Claims: []verify.Claim{
		{Evidence: "e1", Relation: verify.Above, Text: "{dst} received {value}, {ratio} times the usual."},
		{Evidence: "e2", Relation: verify.Is, Text: "The data is not available."},
	}}}
	r, err := builder(t, w).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	if r.Author != "test-model" || len(r.Claims) != 1 || r.Claims[0].Text != "10.9.0.2 received 40,213 packets, 335 times the usual." {
		t.Fatalf("author %q, claims %+v, note %q", r.Author, r.Claims, r.Note)
	}
	if !strings.Contains(r.Note, "1 claim of the model could not be verified") {
		t.Errorf("note is %q", r.Note)
	}
	if r.Next[0] != stepOwnScanner.Text || len(r.Next) != len(Steps(in.Kinds)) {
		t.Errorf("next steps are %q", r.Next)
	}
	golden(t, r)
	sent, _ := json.Marshal(w.got)
	for _, secret := range []string{"10.9.0.2", "10.9.0.3", "web-1", "SELECT", "attempts in"} {
		if bytes.Contains(sent, []byte(secret)) {
			t.Errorf("the model was told %q: %s", secret, sent)
		}
	}
}

type noted struct{ error }

func (noted) Note() string { return "gateway refused" }

func TestWithoutUsableWordsTheTemplateWrites(t *testing.T) {
	in, findings := flood()
	lie := verify.Claim{Evidence: "e1", Relation: verify.Is, Text: "host-0000 received {value}."}
	for _, c := range []struct {
		name, note string
		words      *wordsOf
	}{
		{"a failure with a note", "gateway refused", &wordsOf{err: noted{errors.New("403")}}},
		{"a failure without one", "the model could not be used", &wordsOf{err: errors.New("boom")}},
		{"only lies", "the model's words were not used: all 2 claims could not be verified (wrong role 2)", &wordsOf{answer: Answer{Claims: []verify.Claim{lie, lie}}}},
		{"silence", "the model made no claims", &wordsOf{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := builder(t, c.words).Incident(t.Context(), in, findings, at)
			if err != nil {
				t.Fatal(err)
			}
			if r.Author != Template || r.Note != c.note || len(r.Claims) != 0 {
				t.Errorf("author %q, note %q, claims %v", r.Author, r.Note, r.Claims)
			}
			if !strings.Contains(r.Markdown, "Written by the template") || !strings.Contains(r.HTML, "Written by the template") {
				t.Error("the report does not say who wrote it")
			}
		})
	}
}

const evil = "</script><img src=x onerror=alert(1)>[a](javascript:alert(1)) ![b](http://evil/) `c` | **d** \x1b[31m\u202e http://evil.example @everyone\n# e\n<b>"

// hostile is an incident in which everything that can come from outside is hostile.
func hostile() (incident.Incident, []detect.Finding) {
	in, findings := flood()
	in.Title, in.Entities, in.Kinds = evil, []string{evil}, []string{evil, "syn_flood"}
	for i := range findings {
		f := &findings[i]
		f.Entity, f.Summary, f.Kind, f.Detector = detect.Entity{Src: evil, Dst: evil, Host: evil}, evil, evil, evil
		for j := range f.Evidence {
			f.Evidence[j].Metric, f.Evidence[j].Unit, f.Evidence[j].Query = evil, evil, evil+"\n```\n"+evil+strings.Repeat("`", 9)
		}
		f.Evidence = append(f.Evidence, detect.Evidence{Metric: "nan", Value: math.NaN()})
	}
	return in, findings
}

func TestHostileNamesStayText(t *testing.T) {
	in, findings := hostile()
	w := &wordsOf{}
	r, err := builder(t, w).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.got.Facts) != 0 {
		t.Errorf("a model was told %+v", w.got.Facts)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("JSON: %v", err)
	}
	var rendered bytes.Buffer
	if err := goldmark.New(goldmark.WithExtensions(extension.GFM)).Convert([]byte(r.Markdown), &rendered); err != nil {
		t.Fatal(err)
	}
	for format, page := range map[string]string{"Markdown": rendered.String(), "HTML": r.HTML} {
		if elements := foreign(t, page); len(elements) > 0 {
			t.Errorf("%s holds elements of the attacker: %q", format, elements)
		}
	}
	if control := regexp.MustCompile("[\x00-\x08\x0b-\x1f\u202e]").FindString(r.Markdown + r.HTML); control != "" {
		t.Errorf("the control character %q survives", control)
	}
}

// foreign returns the elements of a page that no report of ours has.
func foreign(t *testing.T, page string) []string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "img", "script", "b", "strong", "em", "iframe", "object", "del":
			found = append(found, n.Data)
		case "a":
			if href := n.Attr[0].Val; n.Attr[0].Key != "class" && !strings.HasPrefix(href, "#") {
				found = append(found, "a "+href)
			}
		case "h1":
			if n.FirstChild != nil && strings.TrimSpace(n.FirstChild.Data) == "e" {
				found = append(found, "h1")
			}
		}
	}
	return found
}

func TestReportIDChangesOnlyMaterially(t *testing.T) {
	in, _ := flood()
	id := IncidentReportID(in)
	in.Findings, in.Ended, in.Kinds = 99, at.Add(time.Hour), []string{"port_scan", "syn_flood"}
	if IncidentReportID(in) != id {
		t.Error("more findings of the same kinds made a new report")
	}
	in.Kinds = append(in.Kinds, "beacon")
	if IncidentReportID(in) == id {
		t.Error("a new kind made no new report")
	}
}

func TestPseudonymsAreStableAndUnique(t *testing.T) {
	p, err := NewPseudonyms([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	one, two := p.scope(), p.scope()
	seen := map[string]bool{}
	for i := range 5000 {
		name := strings.Repeat("x", i)
		got := one.hide(name)
		if i > 0 && (seen[got] || one.reveal(got) != name || !regexp.MustCompile(`^host(-[0-9a-f]{4})+$`).MatchString(got)) {
			t.Fatalf("pseudonym %d is %q", i, got)
		}
		seen[got] = true
	}
	if two.hide("x") != one.hide("x") {
		t.Error("a second report names the host otherwise")
	}
	if _, err := NewPseudonyms([]byte("short")); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestCoverage(t *testing.T) {
	for name, test := range map[string]struct {
		agent Agent
		want  float64
	}{
		"nothing was seen":   {Agent{}, 100},
		"some found no room": {Agent{SeenPackets: 100, RecordedPackets: 75, OverflowPackets: 25}, 75},
		"of what was sampled as many as of what was not": {Agent{SeenPackets: 1000, RecordedPackets: 75, OverflowPackets: 25, SkippedPackets: 900}, 75},
		"everything was left out":                        {Agent{SeenPackets: 10, SkippedPackets: 10}, 100},
	} {
		if got := test.agent.Coverage(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
