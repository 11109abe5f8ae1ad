package web

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
)

// funcs are what the templates call.
func funcs() template.FuncMap {
	return template.FuncMap{
		"clean":      human.Clean,
		"lines":      func(s string) string { return human.CleanBlock(s, 8192) },
		"time":       human.Time,
		"clock":      func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"iso":        func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"ago":        ago,
		"span":       func(from, to time.Time) string { return human.Duration(to.Sub(from)) },
		"kind":       report.KindLabel,
		"entity":     report.EntityLabel,
		"metric":     report.MetricLabel,
		"coverage":   report.CoverageLabel,
		"rate":       rate,
		"bytes":      func(v uint64) string { return human.Value(float64(v), human.Bytes) },
		"count":      func(v uint64) string { return human.Number(float64(v)) },
		"perS":       func(v float64) string { return human.Number(round(v)) + "/s" },
		"plural":     human.Plural,
		"rows":       func(f detect.Finding) []report.Row { return report.Rows([]detect.Finding{f}) },
		"queries":    queries,
		"drops":      drops,
		"owner":      owner,
		"service":    service,
		"share":      share,
		"worrying":   worrying,
		"roundTrip":  roundTrip,
		"attempts":   attempts,
		"watches":    watches,
		"headline":   headline,
		"lag":        lag,
		"args":       func(v incidentView, at time.Time, open bool) incidentArgs { return incidentArgs{v, at, open} },
		"partName":   func(name string) string { return strings.ToUpper(name[:1]) + name[1:] },
		"isTemplate": func(author string) bool { return author == report.Template },
	}
}

// incidentArgs is what the template of an incident gets.
type incidentArgs struct {
	View incidentView
	At   time.Time
	Open bool
}

// round drops decimals that nobody reads.
func round(v float64) float64 {
	if v >= 10 {
		return float64(int64(v + 0.5))
	}
	return float64(int64(v*10+0.5)) / 10
}

// drops says what an agent lost, "none" if nothing.
func drops(a status.Agent) string {
	var lost []string
	for _, l := range []struct {
		n         uint64
		one, many string
	}{{a.OverflowPackets, "packet", "packets"}, {a.LostBatches, "batch", "batches"}, {a.Drops, "given up since its start", "given up since its start"}} {
		if l.n > 0 {
			lost = append(lost, human.Plural(int(min(l.n, math.MaxInt32)), l.one, l.many))
		}
	}
	if len(lost) == 0 {
		return "none"
	}
	return strings.Join(lost, ", ")
}

// watchesNamed is how many interfaces of an agent the page names.
const watchesNamed = 5

// watches says what an agent watches.
func watches(a status.Agent) string {
	switch {
	case a.State == status.Down:
		return "silent"
	case a.Blind():
		return "watches no interface"
	}
	named := min(len(a.Interfaces), watchesNamed)
	names := make([]string, named)
	for i, name := range a.Interfaces[:named] {
		names[i] = human.Clean(name, 32)
	}
	s := "watches " + strings.Join(names, ", ")
	if more := a.InterfaceCount - min(a.InterfaceCount, uint64(named)); more > 0 {
		s += " and " + human.Number(float64(more)) + " more"
	}
	return s
}

// lag writes seconds to the tenth, and from a minute on to the second.
func lag(seconds float64) string {
	if seconds < 60 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return human.Duration(time.Duration(seconds * float64(time.Second)))
}

// headline says in a few words how things are.
func headline(n *now) string {
	var failing []string
	for _, p := range n.Status.Parts {
		if p.State == status.Down {
			failing = append(failing, p.Name)
		}
	}
	switch {
	case len(failing) > 0:
		return "Not working: " + strings.Join(failing, ", ")
	case n.Error != "":
		return "Starting"
	case n.OpenTotal > 0:
		return fmt.Sprintf("%s open", human.Plural(n.OpenTotal, "incident", "incidents"))
	case n.Status.State == status.Warn:
		return "Quiet, with a warning"
	}
	return "All quiet"
}

// labelled is a query with the text that opens it.
type labelled struct{ Label, SQL string }

// queries returns the queries of f. Most findings have one, which needs no more words.
func queries(f detect.Finding) []labelled {
	rows := report.Rows([]detect.Finding{f})
	var list []labelled
	for _, q := range report.Queries(rows) {
		var metrics []string
		for _, row := range rows {
			if row.Query == q.SQL {
				metrics = append(metrics, report.MetricLabel(row.Metric))
			}
		}
		list = append(list, labelled{"Query for " + strings.Join(metrics, ", "), q.SQL})
	}
	if len(list) == 1 {
		list[0].Label = "Query"
	}
	return list
}
