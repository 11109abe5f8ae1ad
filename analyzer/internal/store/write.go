package store

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// SaveFindings writes a new version of each finding. All are written or none.
func (s *Store) SaveFindings(ctx context.Context, findings ...detect.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	const sql = `INSERT INTO findings (id, version, detector, kind, src, dst, port, host, window_start, window_end,
		score, p_value, severity, summary, evidence.id, evidence.metric, evidence.value, evidence.unit,
		evidence.baseline, evidence.query, incident)`
	err := s.insert(ctx, sql, func(b driver.Batch) error {
		for i := range findings {
			if err := s.appendFinding(b, &findings[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap("save findings", err)
}

func (s *Store) appendFinding(b driver.Batch, f *detect.Finding) error {
	n := len(f.Evidence)
	ids, metrics, units, queries := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	values, baselines := make([]float64, n), make([]*float64, n)
	for i, e := range f.Evidence {
		ids[i], metrics[i], values[i], units[i], baselines[i], queries[i] = e.ID, e.Metric, e.Value, e.Unit, e.Baseline, e.Query
	}
	return b.Append(f.ID, s.next(), f.Detector, f.Kind, f.Entity.Src, f.Entity.Dst, f.Entity.Port, f.Entity.Host,
		f.WindowStart, f.WindowEnd, f.Score, f.PValue, f.Severity.String(), f.Summary,
		ids, metrics, values, units, baselines, queries, f.Incident)
}

// SaveIncidents writes a new version of each incident. All are written or none.
func (s *Store) SaveIncidents(ctx context.Context, incidents ...incident.Incident) error {
	if len(incidents) == 0 {
		return nil
	}
	const sql = "INSERT INTO incidents (id, version, status, severity, title, kinds, entities, findings, started, ended, opened)"
	err := s.insert(ctx, sql, func(b driver.Batch) error {
		for _, i := range incidents {
			err := b.Append(i.ID, s.next(), string(i.Status), i.Severity.String(), i.Title, i.Kinds, i.Entities,
				uint32(i.Findings), i.Started, i.Ended, i.Opened)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return wrap("save incidents", err)
}

// SaveReport writes a new version of a report.
func (s *Store) SaveReport(ctx context.Context, r Report) error {
	const sql = `INSERT INTO reports (id, version, kind, subject, window_start, window_end, severity, title, author,
		note, markdown, html, json, created)`
	err := s.insert(ctx, sql, func(b driver.Batch) error {
		return b.Append(r.ID, s.next(), r.Kind, r.Subject, r.WindowStart, r.WindowEnd, r.Severity.String(), r.Title,
			r.Author, r.Note, r.Markdown, r.HTML, r.JSON, r.Created)
	})
	return wrap("save report", err)
}

// SaveDelivery writes a new version of a delivery.
func (s *Store) SaveDelivery(ctx context.Context, d Delivery) error {
	if d.NextAttempt.IsZero() {
		d.NextAttempt = time.Unix(0, 0)
	}
	const sql = "INSERT INTO deliveries (report, endpoint, version, state, attempts, http_status, error, next_attempt, updated)"
	err := s.insert(ctx, sql, func(b driver.Batch) error {
		return b.Append(d.Report, d.Endpoint, s.next(), d.State, d.Attempts, d.HTTPStatus, d.Error, d.NextAttempt, d.Updated)
	})
	return wrap("save delivery", err)
}

func (s *Store) insert(ctx context.Context, sql string, fill func(driver.Batch) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout+5*time.Second)
	defer cancel()
	batch, err := s.conn.PrepareBatch(ctx, sql, driver.WithReleaseConnection())
	if err != nil {
		return err
	}
	if err := fill(batch); err != nil {
		_ = batch.Abort()
		return err
	}
	return batch.Send()
}
