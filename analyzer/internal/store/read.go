package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

const maxPage = 10_000

// where collects the conditions of a filter and their parameters.
type where struct {
	conds  []string
	params params
}

// add adds a condition on the parameter name, if it is to be used.
func (w *where) add(use bool, cond, name string, value any) {
	if !use {
		return
	}
	if w.params == nil {
		w.params = make(params)
	}
	w.conds, w.params[name] = append(w.conds, cond), value
}

func (w *where) String() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// list counts the rows that match and scans one page of them.
func (s *Store) list(ctx context.Context, columns, table string, w where, order string, p Page, scan func(driver.Rows) error) (total int, err error) {
	limit := min(max(p.Limit, 0), maxPage)
	if limit == 0 {
		limit = 100
	}
	var n uint64
	if err := s.queryRow(ctx, "SELECT count() FROM "+table+" FINAL"+w.String(), w.params, &n); err != nil {
		return 0, err
	}
	query := fmt.Sprintf("SELECT %s FROM %s FINAL%s ORDER BY %s LIMIT %d OFFSET %d", columns, table, w.String(), order, limit, max(p.Offset, 0))
	return int(n), s.query(ctx, query, w.params, scan)
}

const findingColumns = `id, detector, kind, src, dst, port, host, window_start, window_end, score, p_value,
	toString(severity), summary, evidence.id, evidence.metric, evidence.value, evidence.unit, evidence.baseline, evidence.query, incident`

// Findings returns a page of the findings that match, and how many match.
func (s *Store) Findings(ctx context.Context, f FindingFilter) ([]detect.Finding, int, error) {
	var w where
	w.add(!f.From.IsZero(), "window_end >= "+at("from"), "from", f.From)
	w.add(!f.To.IsZero(), "window_start < "+at("to"), "to", f.To)
	w.add(f.Incident != "", "incident = {incident:String}", "incident", f.Incident)
	w.add(f.Kind != "", "kind = {kind:String}", "kind", f.Kind)
	w.add(f.Address != "", "(src = {address:String} OR dst = {address:String})", "address", f.Address)
	w.add(f.MinSeverity > 0, "toInt8(severity) >= {severity:Int8}", "severity", int8(f.MinSeverity))
	var findings []detect.Finding
	total, err := s.list(ctx, findingColumns, "findings", w, "window_start DESC, id", f.Page, func(r driver.Rows) error {
		finding, err := scanFinding(r)
		findings = append(findings, finding)
		return err
	})
	return findings, total, wrap("list findings", err)
}

func scanFinding(r driver.Rows) (detect.Finding, error) {
	var (
		f                            detect.Finding
		severity                     string
		ids, metrics, units, queries []string
		values                       []float64
		baselines                    []*float64
	)
	err := r.Scan(&f.ID, &f.Detector, &f.Kind, &f.Entity.Src, &f.Entity.Dst, &f.Entity.Port, &f.Entity.Host, &f.WindowStart, &f.WindowEnd,
		&f.Score, &f.PValue, &severity, &f.Summary, &ids, &metrics, &values, &units, &baselines, &queries, &f.Incident)
	if err != nil {
		return f, err
	}
	f.WindowStart, f.WindowEnd = f.WindowStart.UTC(), f.WindowEnd.UTC()
	f.Evidence = make([]detect.Evidence, len(ids))
	for i := range ids { // the columns of a Nested have equal lengths
		f.Evidence[i] = detect.Evidence{ID: ids[i], Metric: metrics[i], Value: values[i], Unit: units[i], Baseline: baselines[i], Query: queries[i]}
	}
	return f, f.Severity.UnmarshalText([]byte(severity))
}

const incidentColumns = "id, toString(status), toString(severity), title, kinds, entities, findings, started, ended, opened"

// Incidents returns a page of the incidents that match, and how many match.
func (s *Store) Incidents(ctx context.Context, f IncidentFilter) ([]incident.Incident, int, error) {
	var w where
	w.add(!f.From.IsZero(), "ended >= "+at("from"), "from", f.From)
	w.add(!f.To.IsZero(), "started < "+at("to"), "to", f.To)
	w.add(f.Status != "", "toString(status) = {status:String}", "status", string(f.Status))
	w.add(f.Kind != "", "has(kinds, {kind:String})", "kind", f.Kind)
	w.add(f.MinSeverity > 0, "toInt8(severity) >= {severity:Int8}", "severity", int8(f.MinSeverity))
	return s.incidents(ctx, w, f.Page)
}

// Incident returns one incident; ErrNotFound if there is none with that id.
func (s *Store) Incident(ctx context.Context, id string) (incident.Incident, error) {
	var w where
	w.add(true, "id = {id:String}", "id", id)
	found, _, err := s.incidents(ctx, w, Page{Limit: 1})
	if err != nil {
		return incident.Incident{}, err
	}
	if len(found) == 0 {
		return incident.Incident{}, fmt.Errorf("incident %q: %w", id, ErrNotFound)
	}
	return found[0], nil
}

func (s *Store) incidents(ctx context.Context, w where, p Page) ([]incident.Incident, int, error) {
	var found []incident.Incident
	total, err := s.list(ctx, incidentColumns, "incidents", w, "started DESC, id", p, func(r driver.Rows) error {
		var (
			i                incident.Incident
			status, severity string
			findings         uint32
		)
		if err := r.Scan(&i.ID, &status, &severity, &i.Title, &i.Kinds, &i.Entities, &findings, &i.Started, &i.Ended, &i.Opened); err != nil {
			return err
		}
		i.Status, i.Findings = incident.Status(status), int(findings)
		i.Started, i.Ended, i.Opened = i.Started.UTC(), i.Ended.UTC(), i.Opened.UTC()
		if err := i.Severity.UnmarshalText([]byte(severity)); err != nil {
			return err
		}
		found = append(found, i)
		return nil
	})
	return found, total, wrap("list incidents", err)
}

const reportColumns = `id, toString(kind), subject, window_start, window_end, toString(severity), title, author, note, created`

// Reports returns a page of the reports that match, without their texts
// (Markdown, HTML, JSON), and how many match.
func (s *Store) Reports(ctx context.Context, f ReportFilter) ([]Report, int, error) {
	var w where
	w.add(!f.From.IsZero(), "created >= "+at("from"), "from", f.From)
	w.add(f.Kind != "", "toString(kind) = {kind:String}", "kind", f.Kind)
	w.add(f.Subject != "", "subject = {subject:String}", "subject", f.Subject)
	var reports []Report
	total, err := s.list(ctx, reportColumns, "reports", w, "created DESC, id", f.Page, func(r driver.Rows) error {
		report, err := scanReport(r.Scan)
		reports = append(reports, report)
		return err
	})
	return reports, total, wrap("list reports", err)
}

// Report returns one report with its texts; ErrNotFound if there is none with that id.
func (s *Store) Report(ctx context.Context, id string) (Report, error) {
	var markdown, html, json string
	report, err := scanReport(func(dest ...any) error {
		return s.queryRow(ctx, "SELECT "+reportColumns+", markdown, html, json FROM reports FINAL WHERE id = {id:String}", params{"id": id},
			append(dest, &markdown, &html, &json)...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Report{}, fmt.Errorf("report %q: %w", id, ErrNotFound)
	}
	report.Markdown, report.HTML, report.JSON = markdown, html, json
	return report, wrap("read report", err)
}

func scanReport(scan func(...any) error) (Report, error) {
	var (
		r        Report
		severity string
	)
	err := scan(&r.ID, &r.Kind, &r.Subject, &r.WindowStart, &r.WindowEnd, &severity, &r.Title, &r.Author, &r.Note, &r.Created)
	if err != nil {
		return r, err
	}
	r.WindowStart, r.WindowEnd, r.Created = r.WindowStart.UTC(), r.WindowEnd.UTC(), r.Created.UTC()
	return r, r.Severity.UnmarshalText([]byte(severity))
}

// Deliveries returns a page of the deliveries that match, and how many match.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, int, error) {
	var w where
	w.add(f.Report != "", "report = {report:String}", "report", f.Report)
	w.add(f.Endpoint != "", "endpoint = {endpoint:String}", "endpoint", f.Endpoint)
	w.add(f.State != "", "toString(state) = {state:String}", "state", f.State)
	var deliveries []Delivery
	const columns = "report, endpoint, toString(state), attempts, http_status, error, next_attempt, updated"
	total, err := s.list(ctx, columns, "deliveries", w, "updated DESC, report, endpoint", f.Page, func(r driver.Rows) error {
		var d Delivery
		if err := r.Scan(&d.Report, &d.Endpoint, &d.State, &d.Attempts, &d.HTTPStatus, &d.Error, &d.NextAttempt, &d.Updated); err != nil {
			return err
		}
		if d.NextAttempt, d.Updated = d.NextAttempt.UTC(), d.Updated.UTC(); d.NextAttempt.Unix() == 0 {
			d.NextAttempt = time.Time{}
		}
		deliveries = append(deliveries, d)
		return nil
	})
	return deliveries, total, wrap("list deliveries", err)
}
