package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/beacon"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/exfiltration"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/scan"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/volume"
)

// Explain gives each piece of evidence of f a query that a reader can run to see
// its value. w is the window in which f was found: the values are of that window,
// also when f later goes on.
func (s *Store) Explain(w detect.Window, f *detect.Finding) {
	for i := range f.Evidence {
		if sql := explain(w, f, f.Evidence[i].Metric); sql != "" {
			f.Evidence[i].Query = s.literal(sql, w)
		}
	}
}

// literal puts the window and the database into sql, for a reader who has
// neither parameters nor a current database.
func (s *Store) literal(sql string, w detect.Window) string {
	sql = strings.NewReplacer(
		at("from"), moment(w.Start), at("to"), moment(w.End),
		"FROM flows\n", "FROM "+s.db+".flows\n", "FROM coverage\n", "FROM "+s.db+".coverage\n",
	).Replace(sql)
	return strings.Join(strings.Fields(sql), " ")
}

func moment(t time.Time) string {
	return "toDateTime64('" + t.UTC().Format("2006-01-02 15:04:05.000") + "', 3, 'UTC')"
}

// about is the condition that holds for rows about the entity of f.
func about(f *detect.Finding) string {
	var b strings.Builder
	if f.Entity.Src != "" {
		b.WriteString(" AND src_ip = toIPv6(" + quote(f.Entity.Src) + ")")
	}
	if f.Entity.Dst != "" {
		b.WriteString(" AND dst_ip = toIPv6(" + quote(f.Entity.Dst) + ")")
	}
	return b.String()
}

func ofPort(f *detect.Finding) string {
	return " AND dst_port = " + strconv.Itoa(int(f.Entity.Port))
}

var quoting = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`)

func quote(text string) string { return "'" + quoting.Replace(text) + "'" }

// explain returns the query for one metric of f, "" if the metric is unknown.
func explain(w detect.Window, f *detect.Finding, metric string) string {
	if metric == "overflow_packets_per_second" || metric == "seen_packets_per_second" {
		column, _, _ := strings.Cut(metric, "_per_")
		return fmt.Sprintf("SELECT sum(%s) / %g FROM coverage\nWHERE time > %s AND time <= %s AND agent = %s",
			column, w.Seconds(), at("from"), at("to"), quote(f.Entity.Host))
	}
	switch f.Kind {
	case volume.SYNFlood:
		return strongest(map[string]string{
			"half_open_connections_per_second": fmt.Sprintf("countIf(%s) / %g", halfOpen, w.Seconds()),
			"half_open_connections":            "countIf(" + halfOpen + ")",
			"connections_started":              "count()",
			"half_open_share":                  "countIf(" + halfOpen + ") / count()",
			"distinct_sources":                 "uniqCombined(src_ip)",
		}[metric], "countIf("+halfOpen+")", attempts+about(f)+ofPort(f))
	case volume.Volume:
		return strongest(map[string]string{
			"one_way_packets_per_second": fmt.Sprintf("sum(src_packets) / %g", w.Seconds()),
			"one_way_bytes_per_second":   fmt.Sprintf("sum(src_bytes) / %g", w.Seconds()),
			"one_way_sources":            "uniqCombined(src_ip)",
		}[metric], "sum(src_packets)", inWindow+" AND initiator != 'unknown' AND "+oneWay+about(f))
	case scan.PortScan, scan.HostScan:
		return explainScan(f, metric)
	case beacon.Kind:
		return explainBeacon(f, metric)
	case exfiltration.Kind:
		return strongest(map[string]string{
			"bytes_out":                 "sum(src_bytes)",
			"bytes_in":                  "sum(dst_bytes)",
			"bytes_out_per_second":      fmt.Sprintf("sum(src_bytes) / %g", w.Seconds()),
			"pair_bytes_out_per_second": fmt.Sprintf("sum(src_bytes) / %g", w.Seconds()),
			"producer_consumer_ratio":   "(toInt64(sum(src_bytes)) - toInt64(sum(dst_bytes))) / (sum(src_bytes) + sum(dst_bytes))",
		}[metric], "sum(src_bytes)", transferred+about(f))
	}
	return ""
}

// strongest returns the query for an aggregate over the rows of the agent and
// interface that saw the most, as the detectors take it.
func strongest(aggregate, most, condition string) string {
	if aggregate == "" {
		return ""
	}
	return "SELECT argMax(value, most) FROM (SELECT " + aggregate + " AS value, " + most + " AS most FROM flows\nWHERE " +
		condition + " GROUP BY agent, interface)"
}

func explainScan(f *detect.Finding, metric string) string {
	aggregate := map[string]string{
		"distinct_ports_tried": "count()",
		"distinct_hosts_tried": "count()",
		"targets_failed":       "sum(failed)",
		"failed_share":         "avg(failed)",
		"connections_started":  "sum(attempts)",
		"duration":             "dateDiff('millisecond', min(first), max(first)) / 1000",
		scan.PortMetric:        "any(dst_port)",
	}[metric]
	if aggregate == "" {
		return ""
	}
	condition := about(f)
	if f.Kind == scan.PortScan {
		condition += " AND proto IN (6, 17)"
	}
	for _, e := range f.Evidence {
		if e.Metric == scan.PortMetric {
			condition += " AND dst_port = " + strconv.Itoa(int(e.Value))
			if e.Value == 0 {
				condition += " AND proto IN (1, 58)"
			}
		}
	}
	return "SELECT " + aggregate + " FROM (" + targetsOf(condition) + ")"
}

// explainBeacon leaves out the collapsing of connections that are very near to
// each other: with such, the values differ a little from the evidence.
func explainBeacon(f *detect.Finding, metric string) string {
	const (
		starts    = "arraySort(groupArray(toUnixTimestamp64Milli(start)))"
		intervals = "arrayPopFront(arrayDifference(" + starts + "))"
		median    = "arrayReduce('median', " + intervals + ")"
	)
	return strongest(map[string]string{
		"median_interval":      median + " / 1000",
		"interval_dispersion":  "arrayReduce('median', arrayMap(d -> abs(d - " + median + "), " + intervals + ")) / " + median,
		"regular_connections":  "count()",
		"duration":             "dateDiff('millisecond', min(start), max(start)) / 1000",
		"bytes_per_connection": "sum(src_bytes + dst_bytes) / count()",
	}[metric], "count()", answered+about(f)+ofPort(f))
}
