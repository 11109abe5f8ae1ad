package web

import (
	"context"
	"errors"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// now is everything that the page shows.
type now struct {
	Status    status.Status
	Error     string // why there is nothing of the store, "" if there is
	Open      []incidentView
	OpenTotal int
	Past      []incidentView // closed within a day, the newest
	PastTotal int
	Loose     []detect.Finding
	Reports   []reportView
	Total     int // reports
	Chart     chart
	Talk      talk
}

// incidentView is an incident with its most severe findings.
type incidentView struct {
	incident.Incident
	Shown []detect.Finding
	More  int
	// Programs are those at the addresses of an open incident.
	Programs []store.Program
}

// reportView is a report with its deliveries.
type reportView struct {
	store.Report
	Deliveries []store.Delivery
}

const (
	freshFor      = 2 * time.Second
	readLimit     = 5 * time.Second
	maxOpen       = 50
	maxPast       = 8
	maxFindings   = 8 // of one incident
	maxReports    = 8
	chartLength   = time.Hour
	readFindings  = 500
	maxLoose      = 10
	pastIncidents = 24 * time.Hour
)

// now returns what the page shows, at most freshFor old.
func (w *Web) now(ctx context.Context) *now {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil && time.Since(w.asked) < freshFor {
		return w.last
	}
	// Whoever asked first may go away; the others still wait for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	at := time.Now().UTC()
	n := &now{Status: w.status.Status(ctx)}
	if err := w.read(ctx, n, at); err != nil {
		*n = now{Status: n.Status, Error: "ClickHouse does not answer, so what is open is not known. Detection goes on when it is back."}
		if errors.Is(err, store.ErrNotReady) {
			n.Error = "The collector has not created the tables yet. This page fills as soon as it has."
		}
		w.log.Warn("page could not read the store", "error", err)
	}
	w.last, w.asked = n, time.Now()
	return n
}

// read fills n from the store.
func (w *Web) read(ctx context.Context, n *now, at time.Time) error {
	open, total, err := w.findings.Incidents(ctx, store.IncidentFilter{Status: incident.Open, Page: store.Page{Limit: 1000}})
	if err != nil {
		return err
	}
	past, pastTotal, err := w.findings.Incidents(ctx, store.IncidentFilter{Status: incident.Closed, From: at.Add(-pastIncidents), Page: store.Page{Limit: maxPast}})
	if err != nil {
		return err
	}
	open = report.MostSevere(open, maxOpen)
	since := at.Add(-time.Hour)
	for _, in := range append(append([]incident.Incident{}, open...), past...) {
		if in.Started.Before(since) {
			since = in.Started
		}
	}
	findings, _, err := w.findings.Findings(ctx, store.FindingFilter{From: since, Page: store.Page{Limit: readFindings}})
	if err != nil {
		return err
	}
	n.OpenTotal, n.PastTotal = total, pastTotal
	n.Open, n.Past, n.Loose = group(open, past, findings)
	points, err := w.findings.Throughput(ctx, at.Add(-chartLength), at)
	if err != nil {
		return err
	}
	n.Chart = newChart(points, append(open, past...), at)
	n.Talk = w.whoTalks(ctx, n.Open, at)
	n.Talk.tell(n.Open)
	return w.readReports(ctx, n)
}

func (w *Web) readReports(ctx context.Context, n *now) error {
	reports, total, err := w.reports.Reports(ctx, store.ReportFilter{Page: store.Page{Limit: maxReports}})
	if err != nil {
		return err
	}
	deliveries, _, err := w.reports.Deliveries(ctx, store.DeliveryFilter{Page: store.Page{Limit: 200}})
	if err != nil {
		return err
	}
	n.Total = total
	for _, r := range reports {
		v := reportView{Report: r}
		for _, d := range deliveries {
			if d.Report == r.ID {
				v.Deliveries = append(v.Deliveries, d)
			}
		}
		n.Reports = append(n.Reports, v)
	}
	return nil
}

// group puts findings under their incidents, and returns those of none.
func group(open, past []incident.Incident, findings []detect.Finding) (openViews, pastViews []incidentView, loose []detect.Finding) {
	of := map[string][]detect.Finding{}
	for _, f := range findings {
		if f.Incident == "" && len(loose) < maxLoose {
			loose = append(loose, f)
		}
		of[f.Incident] = append(of[f.Incident], f)
	}
	views := func(incidents []incident.Incident) []incidentView {
		list := make([]incidentView, 0, len(incidents))
		for _, in := range incidents {
			v := incidentView{Incident: in, Shown: report.MostSevereFindings(of[in.ID], maxFindings)}
			v.More = max(0, in.Findings-len(v.Shown))
			list = append(list, v)
		}
		return list
	}
	return views(open), views(past), loose
}

// Worst returns the highest severity of the open incidents, "" without any.
func (n *now) Worst() string {
	if len(n.Open) == 0 {
		return ""
	}
	return n.Open[0].Severity.String()
}

// ago writes how long before at then was.
func ago(then, at time.Time) string {
	d := at.Sub(then).Round(time.Second)
	switch {
	case then.IsZero():
		return "never"
	case d < 2*time.Second:
		return "now"
	}
	return human.Duration(d) + " ago"
}
