package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/api"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/periodic"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/publish"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/web"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

const secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

var discard = slog.New(slog.DiscardHandler)

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// client asks the API and holds every answer against the description.
type client struct {
	t      *testing.T
	url    string
	router routers.Router
}

func newClient(t *testing.T, url string) *client {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Description())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, url, router}
}

// get asks for path, checks the answer's shape, and decodes it into answer.
func (c *client) get(path string, want int, answer any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != want {
		c.t.Fatalf("%s answered %d, want %d: %s", path, resp.StatusCode, want, body)
	}
	route, params, err := c.router.FindRoute(httptest.NewRequest(http.MethodGet, path, nil))
	if err != nil {
		c.t.Fatalf("%s is not described: %v", path, err)
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	out.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(c.t.Context(), out); err != nil {
		c.t.Errorf("%s is not as described: %v\n%.2000s", path, err, body)
	}
	if answer != nil {
		if err := json.Unmarshal(body, answer); err != nil {
			c.t.Fatalf("%s: %v", path, err)
		}
	}
}

type list struct {
	Total, Returned int
	Items           []map[string]any
}

func (c *client) list(path string) list {
	c.t.Helper()
	var l list
	c.get(path, http.StatusOK, &l)
	if l.Returned != len(l.Items) {
		c.t.Errorf("%s says %d items and has %d", path, l.Returned, len(l.Items))
	}
	return l
}

func TestAPI(t *testing.T) {
	server := chtest.Start(t)
	t.Run("without a store", func(t *testing.T) { testWithoutStore(t, server) })
	t.Run("over a store", func(t *testing.T) { testOverStore(t, server) })
}

// testOverStore runs the API over a real ClickHouse and a real NATS, with the
// reports on their real way to a receiver.
func testOverStore(t *testing.T, server *chtest.Server) {
	db := storetest.New(t, server)
	s := db.Open(t)
	js := jetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	bodies := make(chan []byte, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- body
	}))
	t.Cleanup(receiver.Close)
	cfg := notify.DefaultConfig()
	cfg.Webhooks = []notify.Webhook{{Name: "pager", URL: config.Secret(receiver.URL), Secrets: []config.Secret{secret}, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	notifier, err := notify.New(cfg, js, s, nil, discard)
	if err != nil {
		t.Fatal(err)
	}
	builder, err := report.New(report.DefaultConfig(), nil, nil, nil, discard)
	if err != nil {
		t.Fatal(err)
	}
	pipeline := &publish.Pipeline{Builder: builder, Reports: s, History: s, Period: s, Sender: notifier, PageURL: "http://page", Log: discard}
	run(t, notifier.Run)

	now := time.Now().UTC().Truncate(time.Millisecond)
	open, closed, findings := fill(t, db, s, now)
	run(t, pipeline.Run) // finds the incidents that have no report
	for range 2 {
		if err := pipeline.Changed(t.Context(), open, findings[:1]); err != nil {
			t.Fatal(err)
		}
	}
	window := periodic.Window{Schedule: "daily", Start: now.Add(-24 * time.Hour), End: now.Add(time.Minute)}
	for range 2 {
		if err := pipeline.Periodic(t.Context(), window); err != nil {
			t.Fatal(err)
		}
	}

	state := &status.Collector{Store: s, JetStream: js, Webhooks: notifier.States, Model: "tiny", Log: discard,
		Detectors: func(context.Context) ([]status.Detector, error) {
			return []status.Detector{{Name: "volume", Until: now}, {Name: "scan"}}, nil
		}}
	hs := httptest.NewServer(web.Guard(web.DefaultConfig(), api.New(s, s, state, discard).Handler()))
	t.Cleanup(hs.Close)
	c := newClient(t, hs.URL)

	t.Run("each incident and the period are reported and delivered once", func(t *testing.T) {
		testDelivered(t, newClient(t, hs.URL), bodies, open, closed)
	})
	t.Run("findings are filtered and paged", func(t *testing.T) { testFindings(t, newClient(t, hs.URL), now, open) })
	t.Run("incidents are filtered", func(t *testing.T) { testIncidents(t, newClient(t, hs.URL), now, open, closed) })
	t.Run("wrong parameters are refused", func(t *testing.T) { testRefused(t, newClient(t, hs.URL)) })
	t.Run("the status covers every part", func(t *testing.T) {
		var st status.Status
		c.get("/api/v1/status", http.StatusOK, &st)
		if st.Model != "tiny" || len(st.Agents) != 1 || st.Agents[0].Name != "web-1" || st.Agents[0].OverflowPackets != 10 || st.Agents[0].State != status.Warn || len(st.Detectors) != 2 {
			t.Errorf("status is %+v", st)
		}
		for _, p := range st.Parts {
			want := map[string]status.State{"agents": status.Warn, "stream": status.OK, "collector": status.Down, "store": status.OK, "detectors": status.OK, "webhooks": status.OK, "model": status.OK}[p.Name]
			if p.State != want {
				t.Errorf("%s is %s (%s), want %s", p.Name, p.State, p.Detail, want)
			}
		}
	})
}

// Without tables, and without a server, the answers are errors of the described shape.
func testWithoutStore(t *testing.T, server *chtest.Server) {
	db := storetest.NewEmpty(t, server)
	unreachable := db.Config()
	unreachable.Address = "127.0.0.1:1"
	gone, err := store.Open(unreachable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gone.Close() })
	for name, s := range map[string]*store.Store{"no tables": db.Open(t), "no server": gone} {
		t.Run(name, func(t *testing.T) {
			state := &status.Collector{Store: s, JetStream: jetStream(t), Log: discard, Detectors: func(context.Context) ([]status.Detector, error) { return nil, nil }}
			hs := httptest.NewServer(api.New(s, s, state, discard).Handler())
			t.Cleanup(hs.Close)
			c := newClient(t, hs.URL)
			for _, path := range []string{"/api/v1/findings", "/api/v1/incidents", "/api/v1/incidents/i-1", "/api/v1/reports", "/api/v1/reports/r-1", "/api/v1/deliveries"} {
				var answer struct {
					Error struct{ Code, Message string }
				}
				c.get(path, http.StatusServiceUnavailable, &answer)
				if answer.Error.Code != "unavailable" || strings.Contains(answer.Error.Message, "127.0.0.1") {
					t.Errorf("%s answered %+v", path, answer)
				}
			}
			var st status.Status
			c.get("/api/v1/status", http.StatusOK, &st)
			store := st.Parts[slices.IndexFunc(st.Parts, func(p status.Part) bool { return p.Name == "store" })]
			if want := map[string]status.State{"no tables": status.Warn, "no server": status.Down}[name]; store.State != want {
				t.Errorf("the store is %+v, want %s", store, want)
			}
		})
	}
}

func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// fill stores an open incident with one finding and a closed one with two, and
// the beats of an agent.
func fill(t *testing.T, db *storetest.DB, s *store.Store, now time.Time) (open, closed incident.Incident, findings []detect.Finding) {
	t.Helper()
	usual := 100.0
	finding := func(id, kind, in string, severity detect.Severity, at time.Time) detect.Finding {
		return detect.Finding{ID: id, Detector: "volume", Kind: kind, Entity: detect.Entity{Src: "10.9.0.1", Dst: "10.9.0.2", Port: 80, Host: "web-1"}, WindowStart: at, WindowEnd: at.Add(time.Minute),
			Score: .9, PValue: .001, Severity: severity, Summary: "<b>a finding</b>", Incident: in,
			Evidence: []detect.Evidence{{ID: "a", Metric: "syn_packets", Value: 5000, Unit: "packets", Baseline: &usual, Query: "SELECT 1"}, {ID: "b", Metric: "share", Value: .5, Unit: "ratio", Query: "SELECT 2"}}}
	}
	findings = []detect.Finding{finding("f-1", "syn_flood", "i-open", detect.Critical, now.Add(-5*time.Minute)),
		finding("f-2", "beacon", "i-closed", detect.Medium, now.Add(-2*time.Hour)), finding("f-3", "beacon", "i-closed", detect.Low, now.Add(-2*time.Hour))}
	open = incident.Incident{ID: "i-open", Status: incident.Open, Severity: detect.Critical, Title: "SYN flood", Kinds: []string{"syn_flood"}, Entities: []string{"10.9.0.1", "10.9.0.2"}, Findings: 1,
		Started: now.Add(-5 * time.Minute), Ended: now.Add(-4 * time.Minute), Opened: now.Add(-5 * time.Minute)}
	closed = incident.Incident{ID: "i-closed", Status: incident.Closed, Severity: detect.Medium, Title: "Beacon", Kinds: []string{"beacon"}, Entities: []string{"10.9.0.1"}, Findings: 2,
		Started: now.Add(-2 * time.Hour), Ended: now.Add(-119 * time.Minute), Opened: now.Add(-2 * time.Hour)}
	if err := s.SaveIncidents(t.Context(), open, closed); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveFindings(t.Context(), findings...); err != nil {
		t.Fatal(err)
	}
	beats(t, db, now)
	return open, closed, findings
}

func testDelivered(t *testing.T, c *client, bodies <-chan []byte, open, closed incident.Incident) {
	subjects := map[string]int{}
	deadline := time.After(20 * time.Second)
	for len(subjects) < 3 {
		select {
		case body := <-bodies:
			var event struct {
				Type string
				Data struct{ ID, Subject, Link, Markdown string }
			}
			if err := json.Unmarshal(body, &event); err != nil {
				t.Fatal(err)
			}
			if event.Data.Link != "http://page/reports/"+event.Data.ID || event.Data.Markdown == "" || bytes.Contains(body, []byte("<b>")) {
				t.Errorf("body is %s", body)
			}
			subjects[event.Type+" "+event.Data.Subject]++
		case <-deadline:
			t.Fatalf("delivered only %v", subjects)
		}
	}
	for _, want := range []string{"incident.report " + open.ID, "incident.report " + closed.ID, "periodic.report daily"} {
		if subjects[want] != 1 {
			t.Errorf("delivered %v", subjects)
		}
	}
	var deliveries list
	for range 100 { // the state is recorded after the delivery
		if deliveries = c.list("/api/v1/deliveries?state=delivered&endpoint=pager"); deliveries.Total == 3 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if deliveries.Total != 3 || deliveries.Items[0]["http_status"] != 200.0 {
		t.Errorf("deliveries are %+v", deliveries)
	}
	if l := c.list("/api/v1/deliveries?state=failed"); l.Total != 0 {
		t.Errorf("failed deliveries are %+v", l)
	}
	reports := c.list("/api/v1/reports?kind=incident&subject=" + open.ID)
	if reports.Total != 1 {
		t.Fatalf("reports about the incident are %+v", reports)
	}
	var one struct {
		ID, Author, Markdown, HTML string
		Report                     report.Report
		Deliveries                 []struct{ Endpoint string }
	}
	c.get("/api/v1/reports/"+reports.Items[0]["id"].(string), http.StatusOK, &one)
	if one.Author != report.Template || !strings.Contains(one.Markdown, "5,000 packets") || !strings.Contains(one.HTML, "&lt;b&gt;a finding") || len(one.Report.Findings) != 1 || len(one.Deliveries) != 1 {
		t.Errorf("report is %+v", one)
	}
	c.get("/api/v1/reports/"+c.list("/api/v1/reports?kind=periodic").Items[0]["id"].(string), http.StatusOK, &one)
	if p := one.Report.Period; p == nil || p.Total != 2 || len(p.Counts) != 3 || len(p.Agents) != 1 || p.Agents[0].OverflowPackets != 10 || p.Agents[0].LostBatches != 1 {
		t.Errorf("period is %+v", p)
	}
	c.get("/api/v1/reports/none", http.StatusNotFound, nil)
}

func testFindings(t *testing.T, c *client, now time.Time, open incident.Incident) {
	since := now.Add(-time.Hour).Format(time.RFC3339)
	for query, want := range map[string]int{
		"": 3, "?kind=beacon": 2, "?kind=beacon&min_severity=medium": 1, "?since=" + since: 1, "?until=" + since: 2, "?incident=" + open.ID: 1, "?address=10.9.0.2": 3,
		"?address=::ffff:10.9.0.2": 3, "?address=10.0.0.0": 0, "?kind=nothing": 0,
	} {
		if l := c.list("/api/v1/findings" + query); l.Total != want || l.Returned != want {
			t.Errorf("%s gave %d of %d, want %d", query, l.Returned, l.Total, want)
		}
	}
	first, rest := c.list("/api/v1/findings?limit=1"), c.list("/api/v1/findings?limit=2&offset=1")
	if first.Total != 3 || first.Returned != 1 || rest.Returned != 2 || first.Items[0]["id"] != "f-1" || rest.Items[0]["id"] == "f-1" {
		t.Errorf("pages are %+v and %+v", first, rest)
	}
	if l := c.list("/api/v1/findings?offset=3"); l.Total != 3 || l.Returned != 0 {
		t.Errorf("past the end stands %+v", l)
	}
}

func testIncidents(t *testing.T, c *client, now time.Time, open, closed incident.Incident) {
	for query, want := range map[string]string{
		"status=open": open.ID, "status=closed": closed.ID, "kind=beacon": closed.ID, "min_severity=high": open.ID, "since=" + now.Add(-time.Hour).Format(time.RFC3339): open.ID,
	} {
		if l := c.list("/api/v1/incidents?" + query); l.Total != 1 || l.Items[0]["id"] != want {
			t.Errorf("%s gave %+v, want %s", query, l, want)
		}
	}
	if l := c.list("/api/v1/incidents"); l.Total != 2 {
		t.Errorf("all incidents are %+v", l)
	}
	var one struct {
		ID       string
		Evidence []detect.Finding
		Reports  []struct{ Subject string }
	}
	c.get("/api/v1/incidents/"+closed.ID, http.StatusOK, &one)
	if one.ID != closed.ID || len(one.Evidence) != 2 || len(one.Evidence[0].Evidence) != 2 || len(one.Reports) != 1 || one.Reports[0].Subject != closed.ID {
		t.Errorf("incident is %+v", one)
	}
	c.get("/api/v1/incidents/none", http.StatusNotFound, nil)
}

func testRefused(t *testing.T, c *client) {
	for _, path := range []string{
		"findings?limit=0", "findings?limit=1001", "findings?limit=x", "findings?offset=-1", "findings?offset=100001", "findings?since=yesterday", "findings?since=0001-01-01T00:00:00Z",
		"findings?kind=a'b", "findings?address=10.0.0", "findings?address=fe80::1%25eth0", "findings?min_severity=huge", "findings?kinds=beacon", "findings?limit=1&limit=2", "findings?%zz",
		"incidents?status=half", "incidents/a%27b", "reports?kind=x", "reports?subject=%00", "reports/a.b", "deliveries?state=lost", "deliveries?endpoint=a%20b", "status?x=1",
	} {
		var answer struct {
			Error struct{ Code, Message string }
		}
		c.get("/api/v1/"+path, http.StatusBadRequest, &answer)
		if answer.Error.Code != "invalid_parameter" || answer.Error.Message == "" {
			t.Errorf("%s answered %+v", path, answer)
		}
	}
	for method, want := range map[string]int{http.MethodPost: 405, http.MethodDelete: 405, http.MethodGet: 404} {
		req, err := http.NewRequestWithContext(t.Context(), method, c.url+"/api/v1/nothing", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Error struct{ Code string } }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != want || answer.Error.Code == "" {
			t.Errorf("%s answered %d %+v, %v", method, resp.StatusCode, answer, err)
		}
		resp.Body.Close()
	}
}

// beats stores three intervals of one agent, of which one lost packets and the
// batch before the last never arrived.
func beats(t *testing.T, db *storetest.DB, now time.Time) {
	t.Helper()
	const boot = "01234567-89ab-cdef-0123-456789abcdef"
	for i, sequence := range []uint64{1, 2, 4} {
		at := now.Add(-time.Minute).Add(time.Duration(sequence) * 5 * time.Second)
		db.Beats(t, storetest.Beat{Agent: "web-1", Time: at, Received: at.Add(time.Second), Boot: boot, Sequence: sequence, Interface: "eth0", Flows: 3, Seen: 1000, Overflow: uint64(10 * (i % 2))})
	}
}
