package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// list is a page of items and how many match in all.
type list[T any] struct {
	Total    int `json:"total"`
	Returned int `json:"returned"`
	Items    []T `json:"items"`
}

func pageOf[T any](items []T, total int) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{total, len(items), items}
}

type reportSummary struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"`
	Subject     string          `json:"subject"`
	WindowStart time.Time       `json:"window_start"`
	WindowEnd   time.Time       `json:"window_end"`
	Severity    detect.Severity `json:"severity"`
	Title       string          `json:"title"`
	Author      string          `json:"author"`
	Note        string          `json:"note"`
	Created     time.Time       `json:"created"`
}

func summaryOf(r store.Report) reportSummary {
	return reportSummary{r.ID, r.Kind, r.Subject, r.WindowStart, r.WindowEnd, r.Severity, r.Title, r.Author, r.Note, r.Created}
}

type delivery struct {
	Report      string    `json:"report"`
	Endpoint    string    `json:"endpoint"`
	State       string    `json:"state"`
	Attempts    uint32    `json:"attempts"`
	HTTPStatus  uint16    `json:"http_status"`
	Error       string    `json:"error"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Updated     time.Time `json:"updated"`
}

func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

func (a *API) getStatus(ctx context.Context, q *query) (any, error) {
	if err := q.done(); err != nil {
		return nil, err
	}
	return a.status.Status(ctx), nil
}

func (a *API) listFindings(ctx context.Context, q *query) (any, error) {
	f := store.FindingFilter{From: q.time("since"), To: q.time("until"), Incident: q.matching("incident", validID), Kind: q.matching("kind", validKind),
		Address: q.address("address"), MinSeverity: q.severity("min_severity"), Page: q.page()}
	if err := q.done(); err != nil {
		return nil, err
	}
	items, total, err := a.findings.Findings(ctx, f)
	return pageOf(items, total), err
}

func (a *API) listIncidents(ctx context.Context, q *query) (any, error) {
	f := store.IncidentFilter{From: q.time("since"), To: q.time("until"), Status: incident.Status(q.oneOf("status", string(incident.Open), string(incident.Closed))),
		Kind: q.matching("kind", validKind), MinSeverity: q.severity("min_severity"), Page: q.page()}
	if err := q.done(); err != nil {
		return nil, err
	}
	items, total, err := a.findings.Incidents(ctx, f)
	return pageOf(items, total), err
}

func (a *API) getIncident(ctx context.Context, q *query) (any, error) {
	id := q.id()
	if err := q.done(); err != nil {
		return nil, err
	}
	in, err := a.findings.Incident(ctx, id)
	if err != nil {
		return nil, err
	}
	findings, _, err := a.findings.Findings(ctx, store.FindingFilter{Incident: id, Page: store.Page{Limit: maxLimit}})
	if err != nil {
		return nil, err
	}
	reports, _, err := a.reports.Reports(ctx, store.ReportFilter{Kind: store.ReportIncident, Subject: id, Page: store.Page{Limit: maxLimit}})
	if err != nil {
		return nil, err
	}
	return struct {
		incident.Incident
		Evidence []detect.Finding `json:"evidence"`
		Reports  []reportSummary  `json:"reports"`
	}{in, pageOf(findings, 0).Items, convert(reports, summaryOf)}, nil
}

func (a *API) listReports(ctx context.Context, q *query) (any, error) {
	f := store.ReportFilter{From: q.time("since"), Kind: q.oneOf("kind", store.ReportIncident, store.ReportPeriodic), Subject: q.matching("subject", validID), Page: q.page()}
	if err := q.done(); err != nil {
		return nil, err
	}
	items, total, err := a.reports.Reports(ctx, f)
	return pageOf(convert(items, summaryOf), total), err
}

func (a *API) getReport(ctx context.Context, q *query) (any, error) {
	id := q.id()
	if err := q.done(); err != nil {
		return nil, err
	}
	r, err := a.reports.Report(ctx, id)
	if err != nil {
		return nil, err
	}
	deliveries, _, err := a.reports.Deliveries(ctx, store.DeliveryFilter{Report: id, Page: store.Page{Limit: maxLimit}})
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(r.JSON)) {
		return nil, errors.New("the stored report is not JSON")
	}
	return struct {
		reportSummary
		Report     json.RawMessage `json:"report"`
		Markdown   string          `json:"markdown"`
		HTML       string          `json:"html"`
		Deliveries []delivery      `json:"deliveries"`
	}{summaryOf(r), json.RawMessage(r.JSON), r.Markdown, r.HTML, convert(deliveries, func(d store.Delivery) delivery { return delivery(d) })}, nil
}

func (a *API) listDeliveries(ctx context.Context, q *query) (any, error) {
	f := store.DeliveryFilter{Report: q.matching("report", validID), Endpoint: q.matching("endpoint", validID),
		State: q.oneOf("state", store.DeliveryPending, store.DeliveryDelivered, store.DeliveryRetrying, store.DeliveryFailed), Page: q.page()}
	if err := q.done(); err != nil {
		return nil, err
	}
	items, total, err := a.reports.Deliveries(ctx, f)
	return pageOf(convert(items, func(d store.Delivery) delivery { return delivery(d) }), total), err
}
