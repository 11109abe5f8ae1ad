package publish

import (
	"context"
	"errors"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/periodic"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// PeriodSource sums up a period.
type PeriodSource interface {
	KindCounts(ctx context.Context, from, to time.Time) ([]store.KindCount, error)
	AgentTotals(ctx context.Context, from, to time.Time) ([]store.AgentTotal, error)
	Traffic(ctx context.Context, from, to time.Time) (records, bytes uint64, err error)
}

const (
	periodIncidents = 20 // listed in a periodic report
	periodFindings  = 5  // shown in full
)

// Periodic makes, stores and sends the report of a window. It may be called
// again for the same window.
func (p *Pipeline) Periodic(ctx context.Context, w periodic.Window) error {
	stored, err := p.Reports.Report(ctx, report.PeriodicReportID(w.Schedule, w.End))
	switch {
	case err == nil:
		return p.resend(ctx, stored)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	counts, err := p.Period.KindCounts(ctx, w.Start, w.End)
	if err != nil {
		return err
	}
	agents, err := p.Period.AgentTotals(ctx, w.Start, w.End)
	if err != nil {
		return err
	}
	records, bytes, err := p.Period.Traffic(ctx, w.Start, w.End)
	if err != nil {
		return err
	}
	period := report.Period{Schedule: w.Schedule, Start: w.Start, End: w.End, Flows: records, Bytes: bytes, Counts: []report.KindCount{}, Agents: []report.Agent{}}
	for _, c := range counts {
		period.Counts = append(period.Counts, report.KindCount(c))
	}
	for _, a := range agents {
		period.Agents = append(period.Agents, report.Agent(a))
	}
	period.Incidents, period.Total, err = p.History.Incidents(ctx, store.IncidentFilter{From: w.Start, To: w.End, Page: store.Page{Limit: 1000}})
	if err != nil {
		return err
	}
	period.Incidents = report.MostSevere(period.Incidents, periodIncidents)
	findings, total, err := p.History.Findings(ctx, store.FindingFilter{From: w.Start, To: w.End, Page: store.Page{Limit: 1000}})
	if err != nil {
		return err
	}
	r, err := p.Builder.Periodic(period, report.MostSevereFindings(findings, periodFindings), total, time.Now())
	if err != nil {
		return err
	}
	return p.issue(ctx, r)
}
