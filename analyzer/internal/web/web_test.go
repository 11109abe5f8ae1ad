package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// get asks the page over s for path.
func get(t *testing.T, s *source, path string) (*http.Response, string) {
	t.Helper()
	w, err := New(s, s, s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(Guard(DefaultConfig(), w.Handler()))
	defer server.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestThePageShowsWhatIsWrong(t *testing.T) {
	_, page := get(t, busy(at), "/")
	for _, want := range []string{
		"2 incidents open", "SYN flood and port scan against 10.77.0.2", "40,213 connection attempts", "402 connections/s", "120 connections/s", "3.35×",
		"dst_ip = toIPv6(&#39;10.77.0.2&#39;)", "99.99 %", "1,204 packets", "worded by qwen3-8b", "pager retrying (2×)", "pager ✓", `href="/reports/r-1119"`,
		"rsync · backup.service · container c0ffee001122<", "[2001:db8::20]:443/tcp", "tls files.example", "nginx · pod 8d1f", "2.1 GB, 12 MB", "12 connections, 3 failed",
		"41.5 ms", `bad" data-label="Sent again">28,000<span class="who">2 %</span>`, "17<span class=\"who\">below 0.1 % QDISC_DROP</span>", "10.77.0.2 icmp", "Who talks, last 15 minutes", `10.77.0.2</span> rsync · backup.service <span class="dim">calls, 2.11 GB`, `10.77.0.2</span> nginx <span class="dim">serves, 40 kB`, `none<span class="who">only its drops were seen</span>`, `bad" data-label="Dropped">9<`, "of the last 10 minutes",
		"Nothing was sent again by TCP or dropped by a kernel.",
		"1 waiting, 24.1 kB", "answered 503 Service Unavailable; 1 report waits", "Closed in the last day", `class="line" d="M0.0 `,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for query, want := range map[string]int{"<summary>Query</summary>": 2, "<summary>Query for half open connections per second, half open share</summary>": 1, "<summary>Query for distinct sources</summary>": 1} {
		if n := strings.Count(page, query); n != want {
			t.Errorf("%s stands on the page %d times, want %d", query, n, want)
		}
	}
	if critical, high := strings.Index(page, "SYN flood and port scan"), strings.Index(page, "Exfiltration from"); critical > high {
		t.Error("the most severe incident does not come first")
	}
}

func TestTheEmptyPageAndTheBrokenOne(t *testing.T) {
	_, page := get(t, quiet(at), "/")
	for _, want := range []string{"All quiet", "Nothing is wrong", "No report yet", "none configured: reports stay here"} {
		if !strings.Contains(page, want) {
			t.Errorf("the quiet page lacks %q", want)
		}
	}
	resp, page := get(t, down(at), "/")
	if resp.StatusCode != http.StatusOK {
		t.Errorf("without ClickHouse the page answers %d", resp.StatusCode)
	}
	for _, want := range []string{"Not working: collector, store", "what is open is not known", "connection refused"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page without ClickHouse lacks %q", want)
		}
	}
	if strings.Contains(page, "Nothing is wrong") {
		t.Error("the page without ClickHouse says that nothing is wrong")
	}
	early := down(at)
	early.err = store.ErrNotReady
	if _, page = get(t, early, "/"); !strings.Contains(page, "has not created the tables yet") {
		t.Error("the page does not say that it waits for the tables")
	}
}

func TestThePageSaysThatNothingIsStored(t *testing.T) {
	for _, c := range []struct {
		lag  *float64
		says string
		calm bool
	}{
		{new(.4), `<dd class="" title="how long the oldest batch waits that is not stored yet">0.4 s<`, true},
		{new(40.04), `bad" title="how long the oldest batch waits that is not stored yet">40.0 s<`, false},
		{new(88.2), "What came in the last 1 min 28 s is not stored yet", false},
		{nil, "not stored yet\">unknown<", true},
	} {
		s := quiet(at)
		s.state.Ingest.LagSeconds = c.lag
		_, page := get(t, s, "/")
		if !strings.Contains(page, c.says) || strings.Contains(page, "Nothing is wrong") != c.calm {
			t.Errorf("the page lacks %q, or is wrongly calm", c.says)
		}
	}
}

const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>' onmouseover=alert(1) javascript:alert(1) {{.}} </code></pre></details>` + "\u202e\x00"

func TestHostileNamesStayText(t *testing.T) {
	s := busy(at)
	for i := range s.open {
		s.open[i].Title, s.open[i].Kinds, s.open[i].Entities = evil, []string{evil}, []string{evil}
	}
	s.open[0].ID, s.findings[2].Incident = evil, evil
	for i := range s.findings {
		f := &s.findings[i]
		f.Kind, f.Summary, f.Detector, f.Entity = evil, evil, evil, detect.Entity{Src: evil, Dst: evil, Host: evil}
		for j := range f.Evidence {
			f.Evidence[j].Metric, f.Evidence[j].Unit, f.Evidence[j].Query = evil, evil, evil
		}
	}
	for i := range s.reports {
		s.reports[i].Title, s.reports[i].Author, s.reports[i].Note = evil, evil, evil
	}
	s.deliveries[0].Endpoint, s.deliveries[0].Error, s.deliveries[0].State = evil, evil, evil
	s.state.Agents[0].Interfaces[0] = evil
	s.state.Agents[0].Name, s.state.Parts[0].Detail, s.state.Model, s.state.Version = evil, evil, evil, evil
	s.exchanges[0] = store.Exchange{
		Src: store.Side{Address: evil, Process: evil, Unit: evil, Container: evil, Pod: evil}, Dst: store.Side{Address: evil, Process: evil, Unit: evil, Container: evil, Pod: evil},
		App: evil, ServerName: evil, DropReason: evil, Drops: 1,
	}
	s.programs = map[string][]store.Program{evil: {{Side: s.exchanges[0].Src}}}
	s.state.Webhooks = []notify.State{{Name: evil, LastError: evil}}
	s.state.Detectors = []status.Detector{{Name: evil}}
	_, page := get(t, s, "/")
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	scripts, images := 0, 0
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script":
			scripts++
		case "img":
			images++
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "href" && strings.Contains(a.Val, "javascript:") && !strings.HasPrefix(a.Val, "/") {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	if scripts != 1 || images != 1 {
		t.Errorf("%d scripts and %d images, the page has one of each", scripts, images)
	}
	if strings.ContainsAny(page, "\u202e\x00") {
		t.Error("characters that reorder text survive")
	}
}

func TestOnlyAllowedNamesAndReadingMethods(t *testing.T) {
	handler := Guard(Config{AllowedHosts: []string{"Watch.example"}, PublicURL: "https://ebb.example.com/x"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") }))
	for host, want := range map[string]int{
		"127.0.0.1:8460": 200, "localhost": 200, "LOCALHOST:8460": 200, "[::1]:8460": 200, "192.168.3.4": 200, "watch.example:80": 200, "ebb.example.com": 200, "ebb.example.com.:8460": 200,
		"evil.example": 421, "127.0.0.1.evil.example:8460": 421, "localhost.evil.example": 421, "": 421, "evil.example:127.0.0.1": 421,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			req := httptest.NewRequest(method, "/", nil)
			req.Host = host
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, req)
			expect := want
			if want == 200 && method != http.MethodGet {
				expect = http.StatusMethodNotAllowed
			}
			if rec.Code != expect {
				t.Errorf("%s for host %q answered %d, want %d", method, host, rec.Code, expect)
			}
			if rec.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(rec.Header().Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("security headers are missing: %v", rec.Header())
			}
		}
	}
	for _, c := range []Config{{AllowedHosts: []string{"a:1"}}, {AllowedHosts: []string{""}}, {PublicURL: "ftp://x"}, {PublicURL: "https://u:p@x"}, {PublicURL: "x"}} {
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestReportsAreShutIn(t *testing.T) {
	resp, page := get(t, busy(at), "/reports/r-1119")
	if policy := resp.Header.Get("Content-Security-Policy"); page != "<h1>report</h1>" || !strings.HasSuffix(policy, "; sandbox") || strings.Contains(policy, "script") {
		t.Errorf("policy %q, page %q", policy, page)
	}
	resp, page = get(t, busy(at), "/reports/r-ce92958b0d25e52f23ae.md")
	if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || page != "# report" {
		t.Errorf("%s: %q", resp.Header.Get("Content-Type"), page)
	}
	for path, want := range map[string]int{"/reports/none": 404, "/reports/": 404, "/static/": 404, "/static/page.js": 200, "/static/../web.go": 404, "/nothing": 404, "/now": 200, "/favicon.ico": 302} {
		if resp, _ := get(t, busy(at), path); resp.StatusCode != want && !(path == "/static/../web.go" && resp.StatusCode == http.StatusTemporaryRedirect) {
			t.Errorf("%s answered %d, want %d", path, resp.StatusCode, want)
		}
	}
	if resp, _ := get(t, down(at), "/reports/r-1119"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without ClickHouse a report answers %d", resp.StatusCode)
	}
}

func TestIncidentsAreShownWhereWhoTalksCannotBeRead(t *testing.T) {
	s := busy(at)
	s.talkErr = context.DeadlineExceeded
	_, page := get(t, s, "/")
	for _, want := range []string{"SYN flood and port scan against 10.77.0.2", "ClickHouse did not tell it in time"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTheLivePartIsThatOfThePage(t *testing.T) {
	s := busy(at)
	_, page := get(t, s, "/")
	_, live := get(t, s, "/now")
	if strings.Contains(live, "<html") || !strings.Contains(page, strings.TrimSpace(live)) {
		t.Error("/now is not what stands in the page")
	}
}

func TestTheChart(t *testing.T) {
	if c := newChart(nil, nil, at); !c.Empty {
		t.Error("a chart of nothing is drawn")
	}
	points := []store.ThroughputPoint{{Minute: at.Add(-2 * time.Minute), Bytes: 7.5e6}, {Minute: at.Add(-time.Minute), Bytes: 15e6}, {Minute: at, Bytes: 99e9}}
	c := newChart(points, busy(at).open, at)
	if c.Empty || c.Line != "M0.0 60.0L600.0 20.0" || c.Top != "2.5 Mbit/s" || c.Peak != "2 Mbit/s" || len(c.Bars) != 2 || len(c.Marks) != 0 {
		t.Errorf("chart is %+v", c)
	}
	for v, want := range map[float64]float64{0: 1, 1: 1, 1.1: 2, 2.2: 2.5, 3: 5, 7: 10, 1234: 2000} {
		if got := niceCeil(v); got != want {
			t.Errorf("niceCeil(%v) = %v, want %v", v, got, want)
		}
	}
}

func TestThePageTellsWhatEachAgentWatches(t *testing.T) {
	s := quiet(at)
	six := []string{"eth0", "eth1", "eth2", "eth3", "eth4", "eth5"}
	s.state.Agents = []status.Agent{
		{Name: "two", State: status.OK, CoveragePercent: new(100.0), Interfaces: six[:2], InterfaceCount: 2},
		{Name: "many", State: status.OK, CoveragePercent: new(100.0), Interfaces: six, InterfaceCount: 31},
		{Name: "blind", State: status.Warn},
		{Name: "gone", State: status.Down},
	}
	s.state.State, s.state.Parts[0] = status.Warn, status.Part{Name: "agents", State: status.Warn, Detail: "3 agents report, agent blind watches no interface, 1 silent"}
	_, page := get(t, s, "/")
	for _, want := range []string{
		`<p class="dim">watches eth0, eth1</p>`, `<p class="dim">watches eth0, eth1, eth2, eth3, eth4 and 26 more</p>`,
		`<p class="bad">watches no interface</p>`, `<p class="dim">silent</p>`, "agent blind watches no interface", "Quiet, with a warning",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(page, `<dd class="bad">unknown</dd>`); n != 2 {
		t.Errorf("the coverage of %d agents is unknown, want 2", n)
	}
}

// A list that is cut says how long it is.
func TestListsThatAreCutTellTheirLength(t *testing.T) {
	s := busy(at)
	_, whole := get(t, s, "/")
	if strings.Contains(whole, "The newest") {
		t.Error("lists that are shown whole are said to be cut")
	}
	for len(s.past) < maxPast+5 {
		s.past = append(s.past, s.past[0])
	}
	for len(s.reports) < maxReports+7 {
		s.reports = append(s.reports, s.reports[0])
	}
	_, page := get(t, s, "/")
	for _, want := range []string{
		fmt.Sprintf(`Closed in the last day <span class="n">%d</span>`, maxPast+5), fmt.Sprintf("The newest %d are shown", maxPast),
		fmt.Sprintf(`Reports <span class="n">%d</span>`, maxReports+7), fmt.Sprintf("The newest %d are shown", maxReports),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
