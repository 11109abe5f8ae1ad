package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// source is a fixed store for tests of what the page makes of it; what the store
// itself returns is tested against ClickHouse where the store and the API are.
type source struct {
	open, past []incident.Incident
	findings   []detect.Finding
	reports    []store.Report
	deliveries []store.Delivery
	points     []store.ThroughputPoint
	exchanges  []store.Exchange
	programs   map[string][]store.Program
	talkErr    error
	state      status.Status
	err        error
}

func (s *source) Status(context.Context) status.Status { return s.state }

func (s *source) Incidents(_ context.Context, f store.IncidentFilter) ([]incident.Incident, int, error) {
	if f.Status == incident.Closed {
		return s.past[:min(len(s.past), f.Limit)], len(s.past), s.err
	}
	return s.open, len(s.open), s.err
}

func (s *source) Findings(context.Context, store.FindingFilter) ([]detect.Finding, int, error) {
	return s.findings, len(s.findings), s.err
}

func (s *source) Throughput(context.Context, time.Time, time.Time) ([]store.ThroughputPoint, error) {
	return s.points, s.err
}

func (s *source) Exchanges(_ context.Context, _, _ time.Time, by store.Order, _ int) ([]store.Exchange, error) {
	if by == store.ByLosses {
		return nil, s.err
	}
	return s.exchanges, errors.Join(s.err, s.talkErr)
}

func (s *source) Programs(_ context.Context, _, _ time.Time, addresses []string, _ int) (map[string][]store.Program, error) {
	found := make(map[string][]store.Program)
	for _, a := range addresses {
		found[a] = s.programs[a]
	}
	return found, s.err
}

func (s *source) Reports(_ context.Context, f store.ReportFilter) ([]store.Report, int, error) {
	return s.reports[:min(len(s.reports), f.Limit)], len(s.reports), s.err
}

func (s *source) Report(_ context.Context, id string) (store.Report, error) {
	for _, r := range s.reports {
		if r.ID == id {
			return r, s.err
		}
	}
	return store.Report{}, errors.Join(s.err, fmt.Errorf("report: %w", store.ErrNotFound))
}

func (s *source) Deliveries(context.Context, store.DeliveryFilter) ([]store.Delivery, int, error) {
	return s.deliveries, len(s.deliveries), s.err
}

func parts(states ...status.State) []status.Part {
	names := []string{"agents", "stream", "collector", "store", "detectors", "webhooks", "model"}
	details := []string{"2 agents report", "0 batches wait", "keeps up", "ClickHouse answers", "4 detectors keep up", "1 endpoint", "none: the template writes the reports"}
	var list []status.Part
	for i, name := range names {
		list = append(list, status.Part{Name: name, State: states[i], Detail: details[i]})
	}
	return list
}

// busy is a page with everything on it.
func busy(at time.Time) *source {
	usual := 120.0
	sql := "SELECT toStartOfMinute(start) AS minute, sum(src_packets)\nFROM ebbwatch.flows\nWHERE dst_ip = toIPv6('10.77.0.2') AND dst_port = 80\nGROUP BY minute ORDER BY minute"
	s := &source{
		open: []incident.Incident{
			{ID: "i-5c1f20ab77de4410", Status: incident.Open, Severity: detect.High, Title: "Exfiltration from 10.77.0.2 to 198.51.100.20", Kinds: []string{"exfiltration"},
				Entities: []string{"10.77.0.2", "198.51.100.20"}, Findings: 1, Started: at.Add(-26 * time.Minute), Ended: at.Add(-4 * time.Minute), Opened: at.Add(-25 * time.Minute)},
			{ID: "i-0b64c1d0a97a3f21", Status: incident.Open, Severity: detect.Critical, Title: "SYN flood and port scan against 10.77.0.2", Kinds: []string{"port_scan", "syn_flood"},
				Entities: []string{"10.77.0.2", "10.77.0.3"}, Findings: 2, Started: at.Add(-7 * time.Minute), Ended: at.Add(-20 * time.Second), Opened: at.Add(-7 * time.Minute)},
		},
		past: []incident.Incident{{ID: "i-77aa10c2d3e4f501", Status: incident.Closed, Severity: detect.Medium, Title: "Beacon from 10.77.0.2 to 203.0.113.9:443", Kinds: []string{"beacon"},
			Entities: []string{"10.77.0.2"}, Findings: 1, Started: at.Add(-3 * time.Hour), Ended: at.Add(-2 * time.Hour), Opened: at.Add(-3 * time.Hour)}},
		findings: []detect.Finding{
			{ID: "f-91d2", Detector: "volume", Kind: "syn_flood", Entity: detect.Entity{Dst: "10.77.0.2", Port: 80, Host: "watched"}, Incident: "i-0b64c1d0a97a3f21", WindowStart: at.Add(-2 * time.Minute), WindowEnd: at.Add(-20 * time.Second),
				Score: .99, PValue: 1e-9, Severity: detect.Critical, Summary: "10.77.0.2:80 got 40,213 connection attempts in 1 min 40 s, 98.5 % of them never completed.",
				Evidence: []detect.Evidence{{ID: "a", Metric: "half_open_connections_per_second", Value: 402.13, Unit: "connections/s", Baseline: &usual, Query: sql},
					{ID: "b", Metric: "half_open_share", Value: .985, Unit: "ratio", Query: sql}, {ID: "c", Metric: "distinct_sources", Value: 1, Unit: "hosts", Query: "SELECT uniqExact(src_ip) FROM ebbwatch.flows"}}},
			{ID: "f-44e0", Detector: "scan", Kind: "port_scan", Entity: detect.Entity{Src: "10.77.0.3", Dst: "10.77.0.2"}, Incident: "i-0b64c1d0a97a3f21", WindowStart: at.Add(-7 * time.Minute), WindowEnd: at.Add(-6 * time.Minute),
				Score: .9, PValue: 1, Severity: detect.Medium, Summary: "10.77.0.3 tried 1,000 ports of 10.77.0.2; 998 did not answer.",
				Evidence: []detect.Evidence{{ID: "a", Metric: "targets", Value: 1000, Unit: "ports", Query: sql}}},
			{ID: "f-10aa", Detector: "exfiltration", Kind: "exfiltration", Entity: detect.Entity{Src: "10.77.0.2", Dst: "198.51.100.20"}, Incident: "i-5c1f20ab77de4410", WindowStart: at.Add(-26 * time.Minute), WindowEnd: at.Add(-4 * time.Minute),
				Score: .8, PValue: 1e-4, Severity: detect.High, Summary: "10.77.0.2 sent 2.1 GB to 198.51.100.20 in 22 min.", Evidence: []detect.Evidence{{ID: "a", Metric: "bytes_out", Value: 2.1e9, Unit: "bytes", Query: sql}}},
		},
		reports: []store.Report{
			{ID: "r-ce92958b0d25e52f23ae", Kind: "incident", Subject: "i-0b64c1d0a97a3f21", Severity: detect.Critical, Title: "SYN flood and port scan against 10.77.0.2", Author: "qwen3-8b", Note: "1 claim of the model could not be verified and was left out (cause 1)", Created: at.Add(-100 * time.Second), HTML: "<h1>report</h1>", Markdown: "# report"},
			{ID: "r-1119", Kind: "incident", Subject: "i-5c1f20ab77de4410", Severity: detect.High, Title: "Exfiltration from 10.77.0.2 to 198.51.100.20", Author: "template", Created: at.Add(-25 * time.Minute), HTML: "<h1>report</h1>"},
			{ID: "r-0002", Kind: "periodic", Subject: "daily", Severity: detect.Medium, Title: "1 incident in the period", Author: "template", Created: at.Add(-5 * time.Hour)},
		},
		deliveries: []store.Delivery{
			{Report: "r-ce92958b0d25e52f23ae", Endpoint: "pager", State: "retrying", Attempts: 2, HTTPStatus: 503, Error: "answered 503 Service Unavailable", NextAttempt: at.Add(time.Minute), Updated: at},
			{Report: "r-1119", Endpoint: "pager", State: "delivered", Attempts: 1, HTTPStatus: 204, Updated: at}, {Report: "r-0002", Endpoint: "pager", State: "delivered", Attempts: 1, HTTPStatus: 200, Updated: at}},
		state: status.Status{Time: at, Version: "dev-277c400abcde", State: status.Warn, Parts: parts(status.OK, status.OK, status.OK, status.OK, status.OK, status.Warn, status.OK), Model: "qwen3-8b",
			Agents: []status.Agent{{Name: "watched", State: status.OK, LastBeat: at.Add(-3 * time.Second), CoveragePercent: new(100.0), FlowsPerS: 812.4, BitsPerS: 48.2e6, Interfaces: []string{"eth0", "wg0"}, InterfaceCount: 2},
				{Name: "db-2", State: status.Warn, LastBeat: at.Add(-4 * time.Second), CoveragePercent: new(99.9973), OverflowPackets: 1204, FlowsPerS: 14, BitsPerS: 3.1e6, Interfaces: []string{"bond0"}, InterfaceCount: 1}},
			Stream: status.Stream{Messages: 1, Bytes: 24_100, MaxBytes: 1 << 30, Collectors: 1}, Ingest: status.Ingest{Newest: at.Add(-3 * time.Second), LagSeconds: new(.4)},
			Detectors: []status.Detector{{Name: "volume", Until: at.Add(-8 * time.Second)}, {Name: "scan", Until: at.Add(-8 * time.Second)}, {Name: "beacon", Until: at.Add(-20 * time.Second)}, {Name: "exfiltration"}},
			Webhooks:  []notify.State{{Name: "pager", Waiting: 1, Retrying: 1, LastTry: at, LastStatus: 503, LastError: "answered 503 Service Unavailable"}}},
	}
	s.programs = map[string][]store.Program{"10.77.0.2": {{Side: store.Side{Address: "10.77.0.2", Process: "rsync", Unit: "backup.service"}, Bytes: 2_112_000_000},
		{Side: store.Side{Address: "10.77.0.2", Process: "nginx"}, Server: true, Bytes: 40_000}}}
	s.exchanges = []store.Exchange{
		{Src: store.Side{Address: "10.77.0.2", Process: "rsync", Unit: "backup.service", Container: "c0ffee00112233445566"}, Dst: store.Side{Address: "2001:db8::20", Process: "nginx", Pod: "8d1f"},
			Port: 443, Proto: 6, App: "tls", ServerName: "files.example", SrcBytes: 2_100_000_000, DstBytes: 12_000_000, Packets: 1_400_000, Connections: 12, Failed: 3,
			Retransmits: 28_000, RTT: 41500 * time.Microsecond, Drops: 17, DropReason: "QDISC_DROP", Last: at},
		{Src: store.Side{Address: "10.77.0.3"}, Dst: store.Side{Address: "10.77.0.2"}, Proto: 1, SrcBytes: 980, DstBytes: 980, Packets: 20, Connections: 1, Last: at},
		{Src: store.Side{Address: "10.77.0.4"}, Dst: store.Side{Address: "10.77.0.2"}, Port: 23, Proto: 6, Drops: 9, DropReason: "NETFILTER_DROP", Last: at},
	}
	s.state.Parts[5].Detail, s.state.Parts[6].Detail = "1 report is tried again", "qwen3-8b words the reports"
	for i := range 61 {
		v := 3e8*(1+.4*math.Sin(float64(i)/7)) + 4e7*math.Sin(float64(i)*1.7)
		if i > 52 {
			v *= 2.6
		}
		s.points = append(s.points, store.ThroughputPoint{Minute: at.Truncate(time.Minute).Add(time.Duration(i-60) * time.Minute), Bytes: uint64(v), Flows: uint64(v / 1e5)})
	}
	return s
}

// quiet is a page on which nothing is wrong.
func quiet(at time.Time) *source {
	s := busy(at)
	s.open, s.past, s.findings, s.reports, s.deliveries = nil, nil, nil, nil, nil
	s.state.State, s.state.Parts = status.OK, parts(status.OK, status.OK, status.OK, status.OK, status.OK, status.Off, status.Off)
	s.state.Parts[5].Detail = "none configured: reports stay here"
	s.state.Agents, s.state.Webhooks = s.state.Agents[:1], nil
	return s
}

// down is a page without ClickHouse.
func down(at time.Time) *source {
	s := busy(at)
	s.err = errors.New("dial tcp 127.0.0.1:9000: connect: connection refused")
	s.state.State, s.state.Parts = status.Down, parts(status.Off, status.Warn, status.Down, status.Down, status.Warn, status.OK, status.Off)
	s.state.Parts[0].Detail, s.state.Parts[1].Detail, s.state.Parts[2].Detail = "unknown while ClickHouse does not answer", "61 % full", "no collector asks for batches"
	s.state.Parts[3].Detail, s.state.Parts[4].Detail = "reach clickhouse: dial tcp 127.0.0.1:9000: connect: connection refused", "wait for ClickHouse"
	s.state.Agents = nil
	return s
}
