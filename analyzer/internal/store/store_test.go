package store_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// Tables keep rows by their time to live, so tests use times of today.
var now = time.Now().UTC().Truncate(time.Minute)

func TestStore(t *testing.T) {
	server := chtest.Start(t)
	tests := []struct {
		name string
		run  func(t *testing.T, db *storetest.DB, s *store.Store)
	}{
		{"findings come back as they were saved and later versions replace earlier ones", testFindings},
		{"incidents are filtered, paged and found by id", testIncidents},
		{"reports are listed without their texts and read with them", testReports},
		{"deliveries show their latest state", testDeliveries},
		{"agents show beat, coverage, gaps and losses", testAgents},
		{"throughput has a point for every minute", testThroughput},
		{"top talkers count traffic that two agents saw once", testTopTalkers},
		{"exchanges tell both sides, names, round trips and losses", testExchanges},
		{"the watermark is that of the slowest live agent", testWatermark},
		{"next data passes over a pause", testNextData},
		{"one query shows a flood and what found no room", testEvidenceOfOverflow},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := storetest.New(t, server)
			test.run(t, db, db.Open(t))
		})
	}
	t.Run("without tables every error says that it waits for the migrations", func(t *testing.T) {
		db := storetest.NewEmpty(t, server)
		s := db.Open(t)
		if err := s.Ping(t.Context()); !errors.Is(err, store.ErrNotReady) {
			t.Errorf("Ping: %v, want ErrNotReady", err)
		}
		if err := s.SaveFindings(t.Context(), finding("f-1", now)); !errors.Is(err, store.ErrNotReady) {
			t.Errorf("SaveFindings: %v, want ErrNotReady", err)
		}
		if _, err := s.Watermark(t.Context(), store.DefaultWatermark(now)); !errors.Is(err, store.ErrNotReady) {
			t.Errorf("Watermark: %v, want ErrNotReady", err)
		}
		db.Migrate(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("Ping after the migrations: %v", err)
		}
	})
}

func finding(id string, start time.Time) detect.Finding {
	usual := 1.5
	return detect.Finding{
		ID: id, Detector: "scan", Kind: "port_scan", Entity: detect.Entity{Src: "10.0.0.9", Dst: "fd00::1", Port: 22, Host: "web-1"},
		WindowStart: start, WindowEnd: start.Add(1500 * time.Millisecond), Score: 0.75, PValue: 1e-30, Severity: detect.High,
		Summary: "It's a 'scan' of\nµ ports\\", Incident: "i-1",
		Evidence: []detect.Evidence{
			{ID: "a", Metric: "distinct_ports_tried", Value: 100, Unit: "ports", Query: "SELECT 1 WHERE '?' = '{a:String}'"},
			{ID: "b", Metric: "failed_share", Value: 0.9, Unit: "ratio", Baseline: &usual},
		},
	}
}

func testFindings(t *testing.T, _ *storetest.DB, s *store.Store) {
	first, second := finding("f-1", now), finding("f-2", now.Add(time.Minute))
	second.Incident, second.Kind, second.Severity, second.Entity = "i-2", "beacon", detect.Low, detect.Entity{Src: "10.0.0.1"}
	second.Evidence = []detect.Evidence{}
	if err := s.SaveFindings(t.Context(), first, second); err != nil {
		t.Fatal(err)
	}
	first.WindowEnd, first.Severity = first.WindowEnd.Add(time.Minute), detect.Critical
	if err := s.SaveFindings(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter store.FindingFilter
		want   []detect.Finding
		total  int
	}{
		{"everything, the newest first", store.FindingFilter{}, []detect.Finding{second, first}, 2},
		{"one incident", store.FindingFilter{Incident: "i-1"}, []detect.Finding{first}, 1},
		{"one kind", store.FindingFilter{Kind: "beacon"}, []detect.Finding{second}, 1},
		{"an address at either end", store.FindingFilter{Address: "fd00::1"}, []detect.Finding{first}, 1},
		{"severity at least high", store.FindingFilter{MinSeverity: detect.High}, []detect.Finding{first}, 1},
		{"overlap with a time", store.FindingFilter{From: now, To: now.Add(time.Second)}, []detect.Finding{first}, 1},
		{"after everything", store.FindingFilter{From: now.Add(time.Hour)}, nil, 0},
		{"a page of one", store.FindingFilter{Page: store.Page{Limit: 1, Offset: 1}}, []detect.Finding{first}, 2},
		{"a hostile incident id is only text", store.FindingFilter{Incident: "' OR 1=1 --"}, nil, 0},
	}
	for _, test := range tests {
		got, total, err := s.Findings(t.Context(), test.filter)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" || total != test.total {
			t.Errorf("%s: total %d, want %d; diff:\n%s", test.name, total, test.total, diff)
		}
	}
}

func testIncidents(t *testing.T, _ *storetest.DB, s *store.Store) {
	open := incident.Incident{ID: "i-1", Status: incident.Open, Severity: detect.High, Title: "SYN flood", Kinds: []string{"syn_flood"},
		Entities: []string{"10.0.0.1"}, Findings: 1, Started: now, Ended: now.Add(time.Minute), Opened: now.Add(time.Second)}
	closed := open
	closed.ID, closed.Status, closed.Started = "i-2", incident.Open, now.Add(-time.Hour)
	if err := s.SaveIncidents(t.Context(), open, closed); err != nil {
		t.Fatal(err)
	}
	closed.Status = incident.Closed
	if err := s.SaveIncidents(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	got, total, err := s.Incidents(t.Context(), store.IncidentFilter{Status: incident.Open})
	if diff := cmp.Diff([]incident.Incident{open}, got); err != nil || diff != "" || total != 1 {
		t.Errorf("open incidents: %v, total %d, diff:\n%s", err, total, diff)
	}
	if got, err := s.Incident(t.Context(), "i-2"); err != nil || cmp.Diff(closed, got) != "" {
		t.Errorf("incident i-2: %v, diff:\n%s", err, cmp.Diff(closed, got))
	}
	if _, err := s.Incident(t.Context(), "i-3"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("incident i-3: %v, want ErrNotFound", err)
	}
}

func testReports(t *testing.T, _ *storetest.DB, s *store.Store) {
	report := store.Report{ID: "r-1", Kind: store.ReportIncident, Subject: "i-1", WindowStart: now, WindowEnd: now.Add(time.Minute),
		Severity: detect.High, Title: "SYN flood", Author: "template", Note: "no model", Markdown: "# SYN", HTML: "<h1>SYN</h1>", JSON: "{}", Created: now}
	if err := s.SaveReport(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	got, err := s.Report(t.Context(), "r-1")
	if err != nil || cmp.Diff(report, got) != "" {
		t.Errorf("report: %v, diff:\n%s", err, cmp.Diff(report, got))
	}
	listed := report
	listed.Markdown, listed.HTML, listed.JSON = "", "", ""
	all, total, err := s.Reports(t.Context(), store.ReportFilter{Kind: store.ReportIncident, Subject: "i-1"})
	if err != nil || total != 1 || cmp.Diff([]store.Report{listed}, all) != "" {
		t.Errorf("reports: %v, total %d, diff:\n%s", err, total, cmp.Diff([]store.Report{listed}, all))
	}
	if _, err := s.Report(t.Context(), "r-2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("report r-2: %v, want ErrNotFound", err)
	}
}

func testDeliveries(t *testing.T, _ *storetest.DB, s *store.Store) {
	d := store.Delivery{Report: "r-1", Endpoint: "pager", State: store.DeliveryRetrying, Attempts: 1, HTTPStatus: 503, Error: "unavailable",
		NextAttempt: now.Add(5 * time.Second), Updated: now}
	if err := s.SaveDelivery(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.State, d.Attempts, d.HTTPStatus, d.Error, d.NextAttempt = store.DeliveryDelivered, 2, 200, "", time.Time{}
	if err := s.SaveDelivery(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got, total, err := s.Deliveries(t.Context(), store.DeliveryFilter{Report: "r-1"})
	if err != nil || total != 1 || cmp.Diff([]store.Delivery{d}, got) != "" {
		t.Errorf("deliveries: %v, total %d, diff:\n%s", err, total, cmp.Diff([]store.Delivery{d}, got))
	}
}

func testAgents(t *testing.T, db *storetest.DB, s *store.Store) {
	const boot = "11111111-1111-1111-1111-111111111111"
	var beats []storetest.Beat
	for _, sequence := range []uint64{1, 2, 5} { // two batches are missing
		at := now.Add(time.Duration(sequence) * 5 * time.Second)
		for _, iface := range []string{"eth0", "eth1"} {
			beats = append(beats, storetest.Beat{Agent: "a", Time: at, Received: at.Add(time.Second), Boot: boot, Sequence: sequence, Interface: iface, Flows: 30, Seen: 100, Overflow: 20})
		}
	}
	// A restarted agent watches nothing; one of many interfaces lost one, and sends
	// batches that tell of none in between.
	for i := range 10 {
		at := now.Add(time.Duration(i-5) * 5 * time.Second)
		beats = append(beats, storetest.Beat{Agent: "many", Time: at, Received: at, Boot: boot, Sequence: uint64(2*i + 2)})
		for n := range 25 {
			if iface := fmt.Sprintf("veth%02d", n); n > 0 || i < 5 {
				beats = append(beats, storetest.Beat{Agent: "many", Time: at, Received: at, Boot: boot, Sequence: uint64(2*i + 1), Interface: iface})
			}
		}
		blind := storetest.Beat{Agent: "none", Time: at, Received: at, Boot: boot, Sequence: uint64(i + 1)}
		if i < 5 {
			blind.Interface = "eth0"
		}
		beats = append(beats, blind)
	}
	// Batches of early warnings prove nothing of a drain; a sampled share is one of what was taken.
	for i := range 4 {
		at := now.Add(time.Duration(21+i) * time.Second)
		beats = append(beats, storetest.Beat{Agent: "none", Time: at, Received: at, Boot: boot, Sequence: uint64(i + 11), Warning: true},
			storetest.Beat{Agent: "warns", Time: at, Received: at, Boot: boot, Sequence: uint64(i + 1), Warning: true})
	}
	beats = append(beats,
		storetest.Beat{Agent: "sampled", Time: now, Received: now, Boot: boot, Sequence: 1, Interface: "eth0", Seen: 1000, Skipped: 900, Overflow: 25},
		storetest.Beat{Agent: "sampled", Time: now, Received: now, Boot: boot, Sequence: 1, Interface: "eth0", NetNS: "blue"})
	db.Beats(t, beats...)
	agents, err := s.Agents(t.Context(), now.Add(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Agent{{
		Name: "a", Version: "v1", LastBeat: now.Add(25 * time.Second), Received: now.Add(26 * time.Second),
		FlowsPerS: 6, BitsPerS: 8 * 600 * 100 / 15.0, Coverage: 0.8, Overflow: 120, Gaps: 2, Losses: 2,
		Interfaces: []string{"eth0", "eth1"}, InterfaceCount: 2,
	}, {
		Name: "many", Version: "v1", LastBeat: now.Add(20 * time.Second), Received: now.Add(20 * time.Second), Coverage: 1, Losses: 2, InterfaceCount: 24,
	}, {
		Name: "none", Version: "v1", LastBeat: now.Add(20 * time.Second), Received: now.Add(20 * time.Second), Coverage: 1, Losses: 2,
	}, {
		Name: "sampled", Version: "v1", LastBeat: now, Received: now, BitsPerS: 8 * 1000 * 100 / 5.0, Coverage: 0.75, Overflow: 25, Losses: 2,
		Interfaces: []string{"eth0", "eth0@blue"}, InterfaceCount: 2,
	}}
	for n := range store.MaxInterfaces {
		want[1].Interfaces = append(want[1].Interfaces, fmt.Sprintf("veth%02d", n+1))
	}
	if diff := cmp.Diff(want, agents); diff != "" {
		t.Error(diff)
	}
	totals, err := s.AgentTotals(t.Context(), now.Add(-time.Minute), now.Add(time.Minute))
	if err != nil || len(totals) != 5 {
		t.Fatalf("totals %+v: %v", totals, err)
	}
	if want := (store.AgentTotal{Name: "sampled", SeenPackets: 1000, RecordedPackets: 75, OverflowPackets: 25, SkippedPackets: 900}); totals[3] != want {
		t.Errorf("got %+v, want %+v", totals[3], want)
	}
}

func testThroughput(t *testing.T, db *storetest.DB, s *store.Store) {
	db.Insert(t, "a", []ebbwatch.Flow{
		storetest.Conn(now, "10.0.0.1", "10.0.0.2", 80, 1000, 2000),
		storetest.Conn(now.Add(2*time.Minute), "10.0.0.1", "10.0.0.2", 80, 0, 0),
	})
	got, err := s.Throughput(t.Context(), now, now.Add(3*time.Minute))
	want := []store.ThroughputPoint{
		{Minute: now, Bytes: 3560, Packets: 9, Records: 1, Flows: 1},
		{Minute: now.Add(time.Minute)},
		{Minute: now.Add(2 * time.Minute), Bytes: 560, Packets: 8, Records: 1, Flows: 1},
	}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, diff:\n%s", err, cmp.Diff(want, got))
	}
}

func testTopTalkers(t *testing.T, db *storetest.DB, s *store.Store) {
	big := storetest.Conn(now, "10.0.0.1", "10.0.0.2", 443, 1000, 5000)
	db.Insert(t, "a", []ebbwatch.Flow{big, storetest.Conn(now, "fd00::1", "fd00::2", 80, 10, 10)})
	db.Insert(t, "b", []ebbwatch.Flow{big})
	got, err := s.TopTalkers(t.Context(), now, now.Add(time.Minute), 10)
	want := []store.Talker{
		{Src: "10.0.0.1", Dst: "10.0.0.2", Port: 443, Proto: 6, SrcBytes: 1280, DstBytes: 5280, Flows: 1},
		{Src: "fd00::1", Dst: "fd00::2", Port: 80, Proto: 6, SrcBytes: 290, DstBytes: 290, Flows: 1},
	}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, diff:\n%s", err, cmp.Diff(want, got))
	}
}

func testExchanges(t *testing.T, db *storetest.DB, s *store.Store) {
	// Two agents see an upload: that of the client knows its process, that of the
	// server its container, and more of the packets. A second connection of another
	// process is smaller. A pair beside it loses packets; a third does nothing else.
	from := now.Truncate(time.Minute).Add(-time.Minute)
	second := func(n int) time.Time { return from.Add(time.Duration(n) * time.Second) }
	insert := `INSERT INTO flows (agent, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, conn_state, src_packets, src_bytes, dst_packets, dst_bytes,
    app, server_name, rtt_us, src_retransmits, src_drops, dst_drops, drop_reason, src_pid, src_process, src_unit, dst_pid, dst_process, dst_container, dst_pod) VALUES
    ('a', @10, '::ffff:10.0.0.1', '::ffff:10.0.0.2', 4000, 443, 6, 'syn', 'SF', 10, 9000, 5, 500, 'tls', 'files.example', 20000, 3, 0, 0, '', 7, 'rsync', 'backup.service', 0, '', '', ''),
    ('a', @20, '::ffff:10.0.0.1', '::ffff:10.0.0.2', 4001, 443, 6, 'syn', 'S0', 1, 60, 0, 0, '', '', 0, 0, 0, 0, '', 8, 'curl', '', 0, '', '', ''),
    ('b', @10, '::ffff:10.0.0.1', '::ffff:10.0.0.2', 4000, 443, 6, 'syn', 'SF', 12, 9500, 5, 500, '', '', 30000, 4, 0, 0, '', 0, '', '', 9, 'nginx', 'c0ffee', 'pod-1'),
    ('a', @30, '::ffff:10.0.0.1', '::ffff:10.0.0.3', 4002, 53, 17, 'first', 'OTH', 4, 400, 0, 0, 'dns', 'x.example', 0, 0, 3, 2, 'NO_SOCKET', 0, '', '', 0, '', '', ''),
    ('a', @30, '::ffff:10.0.0.4', '::ffff:10.0.0.3', 4002, 80, 6, 'syn', 'SF', 4, 900, 1, 100, '', '', 0, 0, 0, 0, '', 0, '', '', 0, '', '', ''),
    ('a', @-240, '::ffff:10.0.0.9', '::ffff:10.0.0.3', 4002, 80, 6, 'syn', 'SF', 4, 90000, 1, 100, '', '', 0, 9, 0, 0, '', 0, '', '', 0, '', '', '')`
	db.Exec(t, regexp.MustCompile(`@-?\d+`).ReplaceAllStringFunc(insert, func(n string) string {
		seconds, err := strconv.Atoi(n[1:])
		if err != nil {
			t.Fatal(err)
		}
		return second(seconds).Format("'2006-01-02 15:04:05'")
	}))
	upload := store.Exchange{
		Src:  store.Side{Address: "10.0.0.1", Process: "rsync", Unit: "backup.service"},
		Dst:  store.Side{Address: "10.0.0.2", Process: "nginx", Container: "c0ffee", Pod: "pod-1"},
		Port: 443, Proto: 6, App: "tls", ServerName: "files.example", SrcBytes: 9500, DstBytes: 500, Packets: 17, Connections: 1, Retransmits: 4,
		RTT: 30 * time.Millisecond, Last: second(20),
	}
	lossy := store.Exchange{
		Src: store.Side{Address: "10.0.0.1"}, Dst: store.Side{Address: "10.0.0.3"}, Port: 53, Proto: 17, App: "dns", ServerName: "x.example",
		SrcBytes: 400, Packets: 4, Connections: 1, Failed: 1, Drops: 5, DropReason: "NO_SOCKET", Last: second(30),
	}
	plain := store.Exchange{
		Src: store.Side{Address: "10.0.0.4"}, Dst: store.Side{Address: "10.0.0.3"}, Port: 80, Proto: 6, SrcBytes: 900, DstBytes: 100, Packets: 5, Connections: 1, Last: second(30),
	}
	for _, test := range []struct {
		by    store.Order
		limit int
		want  []store.Exchange
	}{
		{store.ByBytes, 10, []store.Exchange{upload, plain, lossy}},
		{store.ByBytes, 1, []store.Exchange{upload}},
		{store.ByLosses, 10, []store.Exchange{lossy, upload}},
		{store.ByLosses, 1, []store.Exchange{lossy}},
	} {
		got, err := s.Exchanges(t.Context(), from, from.Add(time.Minute), test.by, test.limit)
		if err != nil || cmp.Diff(test.want, got) != "" {
			t.Errorf("order %d, at most %d: %v, diff:\n%s", test.by, test.limit, err, cmp.Diff(test.want, got))
		}
	}
	programs, err := s.Programs(t.Context(), from, from.Add(time.Minute), []string{"10.0.0.1", "10.0.0.2", "10.0.0.4", "no address", "'"}, 1)
	want := map[string][]store.Program{"10.0.0.1": {{Side: upload.Src, Bytes: 9500}}, "10.0.0.2": {{Side: upload.Dst, Server: true, Bytes: 10000}}}
	if err != nil || cmp.Diff(want, programs) != "" {
		t.Errorf("programs: %v, diff:\n%s", err, cmp.Diff(want, programs))
	}
	if both, err := s.Programs(t.Context(), from, from.Add(time.Minute), []string{"10.0.0.1"}, 5); err != nil || len(both["10.0.0.1"]) != 2 || both["10.0.0.1"][1].Process != "curl" {
		t.Errorf("programs of one address: %+v %v", both, err)
	}
}

func testWatermark(t *testing.T, db *storetest.DB, s *store.Store) {
	beat := func(agent string, at, received time.Time) storetest.Beat {
		return storetest.Beat{Agent: agent, Time: at, Received: received, Boot: agent, Interface: "eth0"}
	}
	second := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }
	tests := []struct {
		name string
		add  []storetest.Beat
		at   time.Time
		want time.Time
	}{
		{"no agent, no watermark", nil, second(0), time.Time{}},
		{"one agent", []storetest.Beat{beat("a", second(5), second(6))}, second(10), second(5)},
		{"what has just been received does not count yet", []storetest.Beat{beat("a", second(10), second(11))}, second(11), second(5)},
		{"the slower agent decides", []storetest.Beat{beat("b", second(8), second(10))}, second(15), second(8)},
		{"an agent that fell silent holds nobody", []storetest.Beat{beat("a", second(60), second(61))}, second(65), second(60)},
		{"a clock that is far ahead excludes nobody", []storetest.Beat{beat("c", second(3600), second(62)), beat("b", second(61), second(62))}, second(65), second(60)},
	}
	for _, test := range tests {
		if len(test.add) > 0 {
			db.Beats(t, test.add...)
		}
		got, err := s.Watermark(t.Context(), store.DefaultWatermark(test.at))
		if err != nil || !got.Equal(test.want) {
			t.Errorf("%s: %v, %v; want %v", test.name, got, err, test.want)
		}
	}
	db.Beats(t, storetest.Beat{Agent: "a", Time: second(64), Received: second(64), Warning: true})
	ingest, err := s.Ingest(t.Context(), second(65))
	if err != nil || !ingest.Watermark.Equal(second(60)) || !ingest.Newest.Equal(second(3600)) || ingest.Batches != 3 {
		t.Errorf("Ingest: %+v, %v", ingest, err)
	}
}

func testNextData(t *testing.T, db *storetest.DB, s *store.Store) {
	db.Beats(t, storetest.Beat{Agent: "a", Time: now.Add(-30 * time.Minute), Received: now, Warning: true},
		storetest.Beat{Agent: "a", Time: now.Add(-time.Hour), Received: now}, storetest.Beat{Agent: "a", Time: now, Received: now})
	for after, want := range map[time.Time]time.Time{
		now.Add(-2 * time.Hour): now.Add(-time.Hour), now.Add(-time.Hour): now, now: {},
	} {
		if got, err := s.NextData(t.Context(), after); err != nil || !got.Equal(want) {
			t.Errorf("after %v: %v, %v; want %v", after, got, err, want)
		}
	}
}

func testEvidenceOfOverflow(t *testing.T, db *storetest.DB, s *store.Store) {
	w := detect.Window{Start: now, End: now.Add(10 * time.Second)}
	db.Beats(t, storetest.Beat{Agent: "it's", Time: w.Start, Overflow: 7, Seen: 7}, // of the drain before
		storetest.Beat{Agent: "it's", Time: w.End, Overflow: 300, Seen: 500}, storetest.Beat{Agent: "b", Time: w.End, Overflow: 9, Seen: 9})
	visit := storetest.Conn(now, "10.0.0.1", "10.0.0.2", 80, 10, 10)
	db.Insert(t, "it's", append(storetest.Repeat(now.Add(time.Second), 40, time.Millisecond, func(at time.Time, _ int) ebbwatch.Flow {
		return storetest.Unanswered(at, "10.0.0.9", "10.0.0.2", 80)
	}), visit))
	db.Insert(t, "b", []ebbwatch.Flow{visit}) // saw less of it
	metrics := func(names ...string) (list []detect.Evidence) {
		for _, name := range names {
			list = append(list, detect.Evidence{Metric: name})
		}
		return list
	}
	for _, test := range []struct {
		finding detect.Finding
		want    map[string]float64
	}{
		{
			detect.Finding{Kind: "syn_flood", Entity: detect.Entity{Dst: "10.0.0.2", Port: 80, Host: "it's"},
				Evidence: metrics("half_open_connections", "overflow_packets_per_second", "what_nobody_measures")},
			map[string]float64{"half_open_connections_per_second": 4, "half_open_connections": 40, "connections_started": 41,
				"half_open_share": 40.0 / 41, "distinct_sources": 1, "overflow_packets_per_second": 30},
		},
		{
			detect.Finding{Kind: "volume", Entity: detect.Entity{Host: "it's"}, Evidence: metrics("overflow_packets_per_second", "seen_packets_per_second")},
			map[string]float64{"overflow_packets_per_second": 30, "seen_packets_per_second": 50},
		},
	} {
		f := test.finding
		s.Explain(w, &f)
		if diff := cmp.Diff(test.want, db.Row(t, f.Evidence[0].Query)); diff != "" || f.Evidence[1].Query != f.Evidence[0].Query {
			t.Errorf("%s: %s\n%s", f.Kind, diff, f.Evidence[0].Query)
		}
		if len(f.Evidence) > 2 && f.Evidence[2].Query != "" {
			t.Errorf("a metric without a column has a query:\n%s", f.Evidence[2].Query)
		}
	}
}
