package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/beacon"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/exfiltration"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/scan"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/volume"
)

// Explain gives the evidence of f the query that a reader can run to see it: one
// for all of f, with a column for each metric. w is the window in which f was
// found: the values are of that window, also when f later goes on.
func (s *Store) Explain(w detect.Window, f *detect.Finding) {
	x := s.explain(w, f)
	sql := x.sql()
	for i, e := range f.Evidence {
		if slices.ContainsFunc(x.columns, func(c column) bool { return c.metric == e.Metric }) {
			f.Evidence[i].Query = sql
		}
	}
}

// column is what gives the value of one metric.
type column struct{ metric, value string }

// explanation is the query for all evidence of one finding.
type explanation struct {
	with    string // WITH and the names that the rest uses, a line end after them; "" for none
	columns []column
	from    string
	where   []string // a line each
	group   string
	most    string // the group that has the most of it stands, as the detectors take it
}

func (x *explanation) sql() string {
	var b strings.Builder
	b.WriteString(x.with + "SELECT")
	for i, c := range x.columns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    " + c.value + " AS " + c.metric)
	}
	b.WriteString("\nFROM " + x.from)
	if len(x.where) > 0 {
		b.WriteString("\nWHERE " + strings.Join(x.where, "\n    AND "))
	}
	if x.group != "" {
		b.WriteString("\nGROUP BY " + x.group + "\nORDER BY " + x.most + " DESC\nLIMIT 1")
	}
	return b.String()
}

// explain returns the explanation of f, one without columns if the kind is unknown.
func (s *Store) explain(w detect.Window, f *detect.Finding) explanation {
	if f.Entity.Src == "" && f.Entity.Dst == "" {
		return explanation{columns: overflow(w, "overflow_packets", "seen_packets"), from: s.db + ".coverage", where: covered(w, f)}
	}
	x := explanation{from: s.db + ".flows", group: "agent, interface"}
	x.where = append([]string{"start >= " + moment(w.Start) + " AND start < " + moment(w.End)}, about(f)...)
	switch f.Kind {
	case volume.SYNFlood:
		x.with = "WITH " + pending("toDateTime64("+moment(w.Start)+", 3, 'UTC')", s.db+".flows_1m") + " AS half_open\n"
		x.columns = []column{
			{"half_open_connections_per_second", fmt.Sprintf("countIf(half_open) / %g", w.Seconds())},
			{"half_open_connections", "countIf(half_open)"},
			{"connections_started", "count()"},
			{"half_open_share", "avg(half_open)"},
			{"distinct_sources", "uniqCombinedIf(src_ip, half_open)"},
		}
		x.where, x.most = append(x.where, ofPort(f), "proto = 6 AND "+sentSYN+" AND "+first), "half_open_connections"
	case volume.Volume:
		x.columns = []column{
			{"one_way_packets_per_second", fmt.Sprintf("sum(src_packets) / %g", w.Seconds())},
			{"one_way_bytes_per_second", fmt.Sprintf("sum(src_bytes) / %g", w.Seconds())},
			{"one_way_sources", "uniqCombined(src_ip)"},
		}
		x.where, x.most = append(x.where, "initiator != 'unknown'", oneWay), "one_way_packets_per_second"
	case scan.PortScan, scan.HostScan:
		return s.explainScan(x, w, f)
	case scan.WideScan:
		return explanation{columns: spillColumns(), from: s.db + ".sources", where: spillsOf(w, f)}
	case beacon.Kind:
		return explainBeacon(x, f)
	case exfiltration.Kind:
		perSecond := fmt.Sprintf("bytes_out / %g", w.Seconds())
		x.columns = []column{
			{"bytes_out", "sum(src_bytes)"},
			{"bytes_in", "sum(dst_bytes)"},
			{"bytes_out_per_second", perSecond},
			{"pair_bytes_out_per_second", perSecond},
			{"producer_consumer_ratio", "(bytes_out - bytes_in) / (bytes_out + bytes_in)"},
		}
		x.where, x.most = append(x.where, carried), "bytes_out"
	}
	if slices.ContainsFunc(f.Evidence, func(e detect.Evidence) bool { return e.Metric == overflowMetric }) {
		of := explanation{columns: overflow(w, "overflow_packets"), from: s.db + ".coverage", where: covered(w, f)}
		value := "(SELECT " + of.columns[0].value + " FROM " + of.from + "\n        WHERE " + strings.Join(of.where, " AND ") + ")"
		x.columns = append(x.columns, column{overflowMetric, value})
	}
	return x
}

const overflowMetric = "overflow_packets_per_second"

// overflow returns columns of coverage as rates.
func overflow(w detect.Window, names ...string) []column {
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{name + "_per_second", fmt.Sprintf("sum(%s) / %g", name, w.Seconds())}
	}
	return columns
}

// covered holds for the coverage of the window by the agent of f.
func covered(w detect.Window, f *detect.Finding) []string {
	return []string{"agent = " + quote(f.Entity.Host), "time > " + moment(w.Start) + " AND time <= " + moment(w.End)}
}

// moment is a time to compare a column with: those are all in UTC.
func moment(t time.Time) string { return t.UTC().Format("'2006-01-02 15:04:05.999'") }

// about are the conditions that hold for rows about the entity of f.
func about(f *detect.Finding) []string {
	var conditions []string
	if f.Entity.Src != "" {
		conditions = append(conditions, "src_ip = toIPv6("+quote(f.Entity.Src)+")")
	}
	if f.Entity.Dst != "" {
		conditions = append(conditions, "dst_ip = toIPv6("+quote(f.Entity.Dst)+")")
	}
	return conditions
}

func ofPort(f *detect.Finding) string { return "dst_port = " + strconv.Itoa(int(f.Entity.Port)) }

var quoting = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`)

func quote(text string) string { return "'" + quoting.Replace(text) + "'" }

// spillColumns returns columns of sources.
func spillColumns() []column {
	return []column{{scan.SketchMetric, "max(targets)"}, {scan.SpillMetric, "max(overflow_packets)"}}
}

// spillsOf holds for the rows of sources in which something of f had no room.
func spillsOf(w detect.Window, f *detect.Finding) []string {
	return []string{"addr = toIPv6(" + quote(f.Entity.Src) + ")", "NOT others AND overflow_packets > 0", "time > " + moment(w.Start) + " AND time <= " + moment(w.End)}
}

func (s *Store) explainScan(x explanation, w detect.Window, f *detect.Finding) explanation {
	columns := []column{
		{"distinct_ports_tried", "count()"},
		{"targets_failed", "countIf(failed AND NOT accepted)"},
		{"failed_share", "targets_failed / count()"},
		{"targets_answered", "count() - targets_failed"},
		{"connections_started", "sum(attempts)"},
		{"duration", "dateDiff('millisecond', began, ended) / 1000"},
	}
	if slices.ContainsFunc(f.Evidence, func(e detect.Evidence) bool { return e.Metric == scan.SketchMetric }) {
		for _, c := range spillColumns() {
			value := "(SELECT " + c.value + " FROM " + s.db + ".sources\n        WHERE " + strings.Join(spillsOf(w, f), " AND ") + ")"
			columns = append(columns, column{c.metric, value})
		}
	}
	where := append(x.where, first, "(proto = 6 AND "+sentSYN+" OR proto = 17 AND dst_port BETWEEN 1 AND 32767)")
	x.where, x.group, x.with = nil, "", dated
	if f.Kind == scan.HostScan {
		columns[0].metric = "distinct_hosts_tried"
		columns = append(columns, column{scan.PortMetric, "dst_port"})
		where[len(where)-1] = ofService(f)
		x.group, x.most = "proto, dst_port", "sum(failed)"
	}
	x.columns = columns
	x.from = `(
    SELECT dst_ip, proto, dst_port, min(failed) AS failed, max(accepted) AS accepted, max(attempts) AS attempts, min(first) AS first
    FROM
    (
        SELECT dst_ip, proto, dst_port, count() AS attempts, min(start) AS first,
            min(` + failed + `) AS failed, max(proto = 6 AND ` + answeredSYN + `) AS accepted
        FROM ` + x.from + `
        WHERE ` + strings.Join(where, "\n            AND ") + `
        GROUP BY agent, interface, dst_ip, proto, dst_port
    )
    GROUP BY dst_ip, proto, dst_port
)`
	return x
}

// ofService holds for probes of the service that f, a host scan, is about.
func ofService(f *detect.Finding) string {
	for _, e := range f.Evidence {
		if e.Metric == scan.PortMetric && e.Value > 0 {
			return "dst_port = " + strconv.Itoa(int(e.Value)) + " AND (proto = 6 AND " + sentSYN + " OR proto = 17)"
		}
	}
	return "(proto = 1 AND icmp_type = 8 OR proto = 58 AND icmp_type = 128)"
}

// explainBeacon leaves out the collapsing of connections that are very near to
// each other: with such, the values differ a little from the evidence.
func explainBeacon(x explanation, f *detect.Finding) explanation {
	x.with = `WITH
    arraySort(groupArray(toUnixTimestamp64Milli(start))) AS starts,
    arrayPopFront(arrayDifference(starts)) AS intervals,
    arrayReduce('median', intervals) AS typical
`
	x.columns = []column{
		{"median_interval", "typical / 1000"},
		{"interval_dispersion", "arrayReduce('median', arrayMap(d -> abs(d - typical), intervals)) / typical"},
		{"regular_connections", "count()"},
		{"duration", "dateDiff('millisecond', min(start), max(start)) / 1000"},
		{"bytes_per_connection", "sum(src_bytes + dst_bytes) / count()"},
	}
	x.where = append(x.where, ofPort(f), first+" AND dst_packets > 0",
		"(proto = 17 OR proto = 6 AND "+sentSYN+" AND NOT "+halfOpen+")")
	x.group, x.most = "agent, interface, proto", "regular_connections"
	return x
}
