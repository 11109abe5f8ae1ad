package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Config bounds a report.
type Config struct {
	MaxFindings int `yaml:"max_findings"` // findings shown in full; more are counted
	MaxEvidence int `yaml:"max_evidence"` // evidence rows shown of one finding
	// FollowUp is the least time between two reports about one incident. The first
	// goes out at once; what changes soon after is told together.
	FollowUp time.Duration `yaml:"follow_up"`
}

// DefaultConfig returns bounds under which a report is read in some minutes.
func DefaultConfig() Config {
	return Config{MaxFindings: 10, MaxEvidence: 12, FollowUp: 30 * time.Second}
}

// Validate implements config.Validator. Its errors name the whole key.
func (c Config) Validate() error {
	if c.MaxFindings < 1 || c.MaxFindings > 200 {
		return errors.New("report.max_findings: must be 1 to 200")
	}
	if c.MaxEvidence < 1 || c.MaxEvidence > 100 {
		return errors.New("report.max_evidence: must be 1 to 100")
	}
	if c.FollowUp < 0 || c.FollowUp > time.Hour {
		return errors.New("report.follow_up: must be 0 to 1h")
	}
	return nil
}

// Builder makes reports. It is safe for concurrent use.
type Builder struct {
	cfg     Config
	html    *renderer
	worder  Worder
	names   *Pseudonyms
	log     *slog.Logger
	worded  *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

// New returns a builder. worder may be nil: then the template alone writes.
// names hides hosts from the worder and may be nil without one.
func New(cfg Config, worder Worder, names *Pseudonyms, reg prometheus.Registerer, log *slog.Logger) (*Builder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	html, err := newRenderer()
	if err != nil {
		return nil, err
	}
	if worder != nil && names == nil {
		return nil, errors.New("make report builder: a worder needs pseudonyms")
	}
	b := &Builder{cfg: cfg, html: html, worder: worder, names: names, log: log,
		worded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_reports_total",
			Help: "Reports made, by author (template or model). With a model configured and only template here, read the reports' notes for the reason.",
		}, []string{"author"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_report_claims_dropped_total",
			Help: "Claims of the model that were not delivered because they could not be verified, by reason. If most are dropped, use a more capable model.",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(b.worded, b.dropped)
	}
	return b, nil
}

// Incident returns the report about in and its findings as they stand at now.
// A worder that fails never makes it fail: then the template has written it and
// Note says why. The error is about the template alone.
func (b *Builder) Incident(ctx context.Context, in incident.Incident, findings []detect.Finding, now time.Time) (Report, error) {
	id := IncidentReportID(in)
	in.Title = human.Clean(in.Title, 300)
	in.Entities = in.Entities[:min(len(in.Entities), maxEntities)]
	r := Report{
		ID: id, Kind: KindIncident, Subject: in.ID, WindowStart: in.Started, WindowEnd: in.Ended,
		Severity: in.Severity, Title: in.Title, Author: Template, Incident: &in, Created: now.UTC().Truncate(time.Millisecond),
		Findings: b.bound(findings), FindingsTotal: max(in.Findings, len(findings)),
	}
	steps := Steps(in.Kinds)
	b.word(ctx, &r, steps)
	return b.finish(&r)
}

// Periodic returns the report about a period. findings are the ones worth showing
// in full; total counts all of the period.
func (b *Builder) Periodic(p Period, findings []detect.Finding, total int, now time.Time) (Report, error) {
	r := Report{
		ID: PeriodicReportID(p.Schedule, p.End), Kind: KindPeriodic, Subject: p.Schedule, WindowStart: p.Start, WindowEnd: p.End,
		Severity: detect.Info, Title: periodTitle(p), Author: Template, Period: &p, Created: now.UTC().Truncate(time.Millisecond),
		Findings: b.bound(findings), FindingsTotal: max(total, len(findings)), Next: []string{},
	}
	for _, in := range p.Incidents {
		r.Severity = max(r.Severity, in.Severity)
	}
	for _, c := range p.Counts {
		r.Severity = max(r.Severity, c.Severity)
	}
	return b.finish(&r)
}

func periodTitle(p Period) string {
	if p.Total == 0 {
		return "Nothing to report: no incidents"
	}
	return plural(p.Total, "incident", "incidents") + " in the period"
}

// bound keeps the most severe findings and the first evidence of each. Rows
// without a number are left out: JSON cannot carry them.
func (b *Builder) bound(findings []detect.Finding) []detect.Finding {
	kept := MostSevereFindings(findings, b.cfg.MaxFindings)
	for i := range kept {
		f := &kept[i]
		evidence := make([]detect.Evidence, 0, min(len(f.Evidence), b.cfg.MaxEvidence))
		for _, e := range f.Evidence {
			if len(evidence) < b.cfg.MaxEvidence && finite(e.Value) && (e.Baseline == nil || finite(*e.Baseline)) {
				evidence = append(evidence, e)
			}
		}
		f.Evidence = evidence
		f.Score, f.PValue = orZero(f.Score), orZero(f.PValue)
	}
	return kept
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func orZero(v float64) float64 {
	if finite(v) {
		return v
	}
	return 0
}

func (b *Builder) finish(r *Report) (Report, error) {
	r.Markdown = markdown(r)
	html, err := b.html.html(r)
	if err != nil {
		return Report{}, fmt.Errorf("build report %s: %w", r.ID, err)
	}
	r.HTML = html
	b.worded.WithLabelValues(r.Author).Inc()
	return *r, nil
}

// maxEntities is the number of addresses that a report lists: a scan can touch thousands.
const maxEntities = 100

func isoTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
