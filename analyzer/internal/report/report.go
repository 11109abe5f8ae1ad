// Package report puts an incident or a period into words. The report from the
// template is always made first and is complete; a model may then word what
// code has established, and code verifies every claim it makes.
package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Kinds of reports, as the SQL column names them.
const (
	KindIncident = "incident"
	KindPeriodic = "periodic"
)

// Template is the author of a report that no model worded.
const Template = "template"

// Report is an incident or a period in words. Its JSON form is what webhooks
// and the API carry; strings in it are as they were observed and must be
// escaped by whoever shows them.
type Report struct {
	ID          string             `json:"id"`
	Kind        string             `json:"kind"`    // incident or periodic
	Subject     string             `json:"subject"` // incident id, or the schedule's name
	WindowStart time.Time          `json:"window_start"`
	WindowEnd   time.Time          `json:"window_end"`
	Severity    detect.Severity    `json:"severity"`
	Title       string             `json:"title"`
	Author      string             `json:"author"` // "template", or the model that worded Claims
	Note        string             `json:"note,omitempty"`
	Claims      []Claim            `json:"claims,omitempty"`
	Incident    *incident.Incident `json:"incident,omitempty"`
	Findings    []detect.Finding   `json:"findings"`
	// FindingsTotal counts all findings, of which Findings holds the most severe.
	FindingsTotal int       `json:"findings_total"`
	Next          []string  `json:"next"`
	Period        *Period   `json:"period,omitempty"`
	Created       time.Time `json:"created"`

	Markdown string `json:"-"`
	HTML     string `json:"-"` // a whole page that loads nothing
}

// Claim is one verified sentence of a model.
type Claim struct {
	Text     string   `json:"text"`
	Evidence []string `json:"evidence"` // numbers of evidence rows as the report shows them: e1, e2, …
}

// Period sums up what happened between two moments.
type Period struct {
	Schedule   string              `json:"schedule"`
	Start      time.Time           `json:"start"`
	End        time.Time           `json:"end"`
	Counts     []KindCount         `json:"counts"` // findings
	Incidents  []incident.Incident `json:"incidents"`
	Total      int                 `json:"incidents_total"`
	Agents     []Agent             `json:"agents"`
	Flows      uint64              `json:"flows"`
	Bytes      uint64              `json:"bytes"`
	Incomplete string              `json:"incomplete,omitempty"` // what could not be read, and why
}

// KindCount is the number of findings of one kind and severity.
type KindCount struct {
	Kind     string          `json:"kind"`
	Severity detect.Severity `json:"severity"`
	Count    int             `json:"count"`
}

// Agent is what one agent saw of its host's traffic, by its own proofs.
type Agent struct {
	Name            string `json:"name"`
	SeenPackets     uint64 `json:"seen_packets"`
	RecordedPackets uint64 `json:"recorded_packets"`
	OverflowPackets uint64 `json:"overflow_packets"`          // found no room in the flow map
	SkippedPackets  uint64 `json:"skipped_packets,omitempty"` // left out by sampling: the flow records stand for them by estimate
	LostBatches     uint64 `json:"lost_batches"`              // gaps in the sequence
}

// Coverage returns the share of packets that stand in flow records, in percent;
// what is not IP counts as covered. Of packets that sampling left out as many
// are taken to be covered as of those that it took. An agent that saw nothing
// has full coverage.
func (a Agent) Coverage() float64 {
	taken := a.SeenPackets - min(a.SkippedPackets, a.SeenPackets)
	if taken == 0 {
		return 100
	}
	return 100 * (1 - float64(min(a.OverflowPackets, taken))/float64(taken))
}

// IncidentReportID returns the id of the report about in at its present
// severity and kinds: the same state gives the same id, so a restart never
// delivers a report twice, and a material change gives a new one.
func IncidentReportID(in incident.Incident) string {
	kinds := slices.Sorted(slices.Values(in.Kinds))
	return id(KindIncident, in.ID, in.Severity.String(), strings.Join(kinds, ","))
}

// PeriodicReportID returns the id of the report of schedule for the window that ends at end.
func PeriodicReportID(schedule string, end time.Time) string {
	return id(KindPeriodic, schedule, end.UTC().Format(time.RFC3339))
}

func id(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "r-" + hex.EncodeToString(sum[:10])
}

// Row is one evidence row with the number that the report gives it.
type Row struct {
	Ref     string // e1, e2, …
	Finding detect.Finding
	detect.Evidence
}

// Rows numbers the evidence of findings, in their order.
func Rows(findings []detect.Finding) []Row {
	var rows []Row
	for _, f := range findings {
		for _, e := range f.Evidence {
			rows = append(rows, Row{Ref: fmt.Sprintf("e%d", len(rows)+1), Finding: f, Evidence: e})
		}
	}
	return rows
}

// Query is SQL that shows the rows Refs, which are of one finding.
type Query struct {
	Refs string // "e1", "e1–e5", "e1, e3"
	SQL  string
}

// Queries returns the distinct queries of rows, in their order.
func Queries(rows []Row) []Query {
	var queries []Query
	of := make(map[string][]int) // places of the rows of each query
	for i, row := range rows {
		if row.Query == "" {
			continue
		}
		if of[row.Query] == nil {
			queries = append(queries, Query{SQL: row.Query})
		}
		of[row.Query] = append(of[row.Query], i)
	}
	for i := range queries {
		queries[i].Refs = refs(rows, of[queries[i].SQL])
	}
	return queries
}

// refs names the rows at places, which ascend: those in a row by the first and
// the last of them.
func refs(rows []Row, places []int) string {
	var b strings.Builder
	for i := 0; i < len(places); {
		last := i
		for last+1 < len(places) && places[last+1] == places[last]+1 {
			last++
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(rows[places[i]].Ref)
		if last > i {
			b.WriteString("–" + rows[places[last]].Ref)
		}
		i = last + 1
	}
	return b.String()
}

// Amount writes the row's value with its unit.
func (r Row) Amount() string { return human.Value(r.Value, human.Clean(r.Unit, 24)) }

// Usual writes the row's baseline with its unit, "–" if there is none.
func (r Row) Usual() string {
	if r.Baseline == nil {
		return "–"
	}
	return human.Value(*r.Baseline, human.Clean(r.Unit, 24))
}

// Times writes how many times the baseline the value is, "–" if that says nothing.
func (r Row) Times() string {
	if r.Baseline == nil {
		return "–"
	}
	if t := human.Times(r.Value, *r.Baseline); t != "" {
		return t + "×"
	}
	return "–"
}

// MetricLabel writes the name of a metric in words.
func MetricLabel(metric string) string {
	return human.Clean(strings.ReplaceAll(metric, "_", " "), 64)
}

// EntityLabel writes what a finding is about: "10.0.0.1 → 10.0.0.2:443, seen by web-1".
func EntityLabel(e detect.Entity) string {
	var b strings.Builder
	b.WriteString(human.Clean(e.Src, 128))
	if e.Dst != "" {
		if e.Src != "" {
			b.WriteString(" → ")
		}
		dst := human.Clean(e.Dst, 128)
		if e.Port != 0 && strings.Contains(dst, ":") {
			dst = "[" + dst + "]"
		}
		b.WriteString(dst)
	}
	if e.Port != 0 {
		if e.Dst == "" && e.Src != "" {
			b.WriteString(" → any host")
		}
		fmt.Fprintf(&b, ":%d", e.Port)
	}
	if e.Host != "" {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString("seen by " + human.Clean(e.Host, 64))
	}
	return b.String()
}
