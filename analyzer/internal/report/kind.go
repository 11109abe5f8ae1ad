package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Step is a thing to look at next. A model may choose and order steps by ID,
// never write one.
type Step struct{ ID, Text string }

// kindText is what the report says about a kind of finding.
type kindText struct {
	label string
	what  string // what the kind means, one sentence
	next  []Step
}

var (
	stepTopSources   = Step{"top_sources", "Look at the sources: many that appear once, with a flat spread, point to forged addresses; a few heavy ones can be limited at the edge."}
	stepService      = Step{"service_health", "Check whether the service still answers: its share of answered connections is in flows_1m (connections against unanswered)."}
	stepSameSource   = Step{"same_source", "Ask what else the source did in the hour before and after, in the flows table."}
	stepAnswered     = Step{"answered_targets", "List the targets that did answer (TCP: bitAnd(dst_flags, 18) = 18 in the flows table, SYN with ACK): those ports are open and were found."}
	stepOwnScanner   = Step{"own_scanner", "Compare the source with the addresses of your own scanners and monitors."}
	stepProcess      = Step{"process", "On the source host, find the process that holds the connection (ss -tnp) and the unit it belongs to."}
	stepDestination  = Step{"destination", "Look the destination up: who runs it, and since when do your hosts talk to it?"}
	stepOtherClients = Step{"other_clients", "See whether other hosts talk to the same destination at the same rhythm."}
	stepWhatLeft     = Step{"what_left", "Find what the host holds, and compare the upload with backup and sync jobs that are planned for that time."}
	stepTimeline     = Step{"timeline", "Draw the bytes per minute of the entity over the last day, to see whether the level is new."}
	stepEvidence     = Step{"evidence", "Run the query below the evidence and widen its window."}
)

var kinds = map[string]kindText{
	"syn_flood": {"SYN flood", "Many connection attempts towards one service are left without completing.",
		[]Step{stepService, stepTopSources, stepTimeline}},
	"volume": {"Traffic volume", "Traffic is far above what is usual for the entity.",
		[]Step{stepTimeline, stepTopSources, stepService}},
	"port_scan": {"Port scan", "One source tries many ports of one host.",
		[]Step{stepAnswered, stepSameSource, stepOwnScanner}},
	"host_scan": {"Host scan", "One source tries the same service on many hosts.",
		[]Step{stepAnswered, stepSameSource, stepOwnScanner}},
	"wide_scan": {"Scan beyond the flow map", "One source tries so many targets that the agent's flow map does not hold them.",
		[]Step{stepSameSource, stepOwnScanner}},
	"beacon": {"Beacon", "Connections of one pair of hosts repeat with a steady rhythm.",
		[]Step{stepProcess, stepDestination, stepOtherClients}},
	"exfiltration": {"Exfiltration", "One host sends far more out than is usual for it.",
		[]Step{stepDestination, stepProcess, stepWhatLeft}},
}

// KindLabel names a kind of finding for a reader.
func KindLabel(kind string) string {
	if k, ok := kinds[kind]; ok {
		return k.label
	}
	return MetricLabel(kind)
}

// KindMeaning says in one sentence what a kind of finding means, "" if it is unknown.
func KindMeaning(kind string) string { return kinds[kind].what }

// Steps returns what to look at next for the kinds, each step once.
func Steps(of []string) []Step {
	var steps []Step
	for _, kind := range of {
		for _, s := range kinds[kind].next {
			if !slices.Contains(steps, s) {
				steps = append(steps, s)
			}
		}
	}
	return append(steps, stepEvidence)
}

// MostSevere sorts a copy of incidents by severity, the newest first among equals,
// and cuts it to limit. The result is never nil.
func MostSevere(incidents []incident.Incident, limit int) []incident.Incident {
	sorted := append([]incident.Incident{}, incidents...)
	slices.SortStableFunc(sorted, func(a, b incident.Incident) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), b.Started.Compare(a.Started))
	})
	return sorted[:min(limit, len(sorted))]
}

// MostSevereFindings sorts a copy of findings by severity, then score, then time,
// and cuts it to limit.
func MostSevereFindings(findings []detect.Finding, limit int) []detect.Finding {
	sorted := append([]detect.Finding{}, findings...)
	slices.SortStableFunc(sorted, func(a, b detect.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Score, a.Score), a.WindowStart.Compare(b.WindowStart))
	})
	return sorted[:min(limit, len(sorted))]
}

func plural(n int, one, many string) string { return human.Plural(n, one, many) }

func span(r *Report) string {
	return fmt.Sprintf("%s to %s (%s)", human.Time(r.WindowStart), human.Time(r.WindowEnd), human.Duration(r.WindowEnd.Sub(r.WindowStart)))
}
