// Package publish makes a report when an incident opens or changes materially
// and when a period ends, stores it, and hands it to the webhooks.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// Reports stores reports.
type Reports interface {
	Report(ctx context.Context, id string) (store.Report, error) // store.ErrNotFound if there is none
	SaveReport(ctx context.Context, r store.Report) error
}

// History is what happened.
type History interface {
	Incidents(ctx context.Context, f store.IncidentFilter) ([]incident.Incident, int, error)
	Findings(ctx context.Context, f store.FindingFilter) ([]detect.Finding, int, error)
}

// Sender delivers; the same message twice is one.
type Sender interface {
	Send(ctx context.Context, m notify.Message) error
}

// Pipeline turns changes into delivered reports. Its fields must be set before
// Run and not be changed then.
//
// A report's id follows from the incident's severity and kinds, so the same
// state of an incident, however often it is told, makes one report.
type Pipeline struct {
	Builder *report.Builder
	Reports Reports
	History History
	Period  PeriodSource
	Sender  Sender
	PageURL string // external address of the page for links, "" for none
	Log     *slog.Logger
	// FollowUp is the least time between two reports about one incident. A change
	// in between waits, and later ones join it. A restart forgets the last report's
	// time, so one may come earlier then.
	FollowUp time.Duration

	mu      sync.Mutex
	waiting map[string]change // by incident
	order   []string
	last    map[string]time.Time // of an incident's last report, for FollowUp
	wake    chan struct{}
}

type change struct {
	incident incident.Incident
	findings []detect.Finding
}

const maxWaiting = 1000

// ErrBusy says that too many incidents wait for their report.
var ErrBusy = errors.New("too many incidents wait for their report")

// Changed takes note of an incident and returns at once: a slow model must not
// delay detection. What waits when the process ends is found again by Run.
func (p *Pipeline) Changed(_ context.Context, in incident.Incident, findings []detect.Finding) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[string]change{}
	}
	if _, ok := p.waiting[in.ID]; !ok {
		if len(p.waiting) >= maxWaiting {
			return ErrBusy
		}
		p.order = append(p.order, in.ID)
	}
	p.waiting[in.ID] = change{in, findings}
	select {
	case p.wakeup() <- struct{}{}:
	default:
	}
	return nil
}

// wakeup returns the channel that Run listens on. The caller holds mu.
func (p *Pipeline) wakeup() chan struct{} {
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
	}
	return p.wake
}

// take returns the first change that may be reported now, or else how long
// until one may; 0 if none waits.
func (p *Pipeline) take(now time.Time) (c change, ok bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.last, func(_ string, at time.Time) bool { return now.Sub(at) >= p.FollowUp })
	for i, id := range p.order {
		if at, soon := p.last[id]; soon {
			if left := p.FollowUp - now.Sub(at); wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		c = p.waiting[id]
		p.order = slices.Delete(p.order, i, i+1)
		delete(p.waiting, id)
		return c, true, 0
	}
	return change{}, false, wait
}

// Run makes, stores and sends the reports until ctx ends. It retries each until
// it is in the outbox.
func (p *Pipeline) Run(ctx context.Context) error {
	p.mu.Lock()
	wake := p.wakeup()
	p.mu.Unlock()
	p.retry(ctx, "look for incidents without a report", p.recover)
	for ctx.Err() == nil {
		c, ok, wait := p.take(time.Now())
		if !ok {
			var due <-chan time.Time
			if wait > 0 {
				due = time.After(wait)
			}
			select {
			case <-wake:
			case <-due:
			case <-ctx.Done():
			}
			continue
		}
		p.retry(ctx, "report incident "+c.incident.ID, func(ctx context.Context) error { return p.report(ctx, c) })
	}
	return nil
}

// recover finds the incidents of the last day whose report was not made because
// the process ended first.
func (p *Pipeline) recover(ctx context.Context) error {
	incidents, _, err := p.History.Incidents(ctx, store.IncidentFilter{From: time.Now().Add(-24 * time.Hour), Page: store.Page{Limit: maxWaiting}})
	if err != nil {
		return err
	}
	for _, in := range incidents {
		_, err := p.Reports.Report(ctx, report.IncidentReportID(in))
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		findings, err := p.findings(ctx, in.ID)
		if err != nil {
			return err
		}
		p.mu.Lock()
		_, newer := p.waiting[in.ID]
		p.mu.Unlock()
		if newer || len(findings) == 0 {
			continue
		}
		if err := p.Changed(ctx, in, findings); err != nil {
			return err
		}
	}
	return nil
}

// findings returns those of an incident as they are stored now.
func (p *Pipeline) findings(ctx context.Context, incident string) ([]detect.Finding, error) {
	findings, _, err := p.History.Findings(ctx, store.FindingFilter{Incident: incident, Page: store.Page{Limit: 1000}})
	return findings, err
}

// report makes and sends the report of one change, unless it is there already.
func (p *Pipeline) report(ctx context.Context, c change) error {
	id := report.IncidentReportID(c.incident)
	made, err := p.Reports.Report(ctx, id)
	switch {
	case err == nil:
		return p.resend(ctx, made)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	// A change may have waited: its findings have grown since, without a change of
	// their own that was worth a report.
	stored, err := p.findings(ctx, c.incident.ID)
	if err != nil {
		return err
	}
	if len(stored) >= len(c.findings) {
		c.findings, c.incident.Findings = stored, len(stored)
		for i := range stored {
			if end := stored[i].WindowEnd; end.After(c.incident.Ended) {
				c.incident.Ended = end
			}
		}
	}
	r, err := p.Builder.Incident(ctx, c.incident, c.findings, time.Now())
	if err != nil {
		return err
	}
	if err := p.issue(ctx, r); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[string]time.Time{}
	}
	p.last[c.incident.ID] = time.Now()
	return nil
}

// issue stores r and sends it.
func (p *Pipeline) issue(ctx context.Context, r report.Report) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write report %s: %w", r.ID, err)
	}
	err = p.Reports.SaveReport(ctx, store.Report{
		ID: r.ID, Kind: r.Kind, Subject: r.Subject, WindowStart: r.WindowStart, WindowEnd: r.WindowEnd, Severity: r.Severity, Title: r.Title,
		Author: r.Author, Note: r.Note, Markdown: r.Markdown, HTML: r.HTML, JSON: string(data), Created: r.Created,
	})
	if err != nil {
		return err
	}
	p.Log.Info("report made", "report", r.ID, "kind", r.Kind, "subject", r.Subject, "severity", r.Severity.String(), "author", r.Author)
	return p.send(ctx, r)
}

// resend sends a stored report: it may not have reached the outbox before.
func (p *Pipeline) resend(ctx context.Context, stored store.Report) error {
	var r report.Report
	if err := json.Unmarshal([]byte(stored.JSON), &r); err != nil {
		return fmt.Errorf("read report %s: %w", stored.ID, err)
	}
	r.Markdown = stored.Markdown
	return p.send(ctx, r)
}

func (p *Pipeline) send(ctx context.Context, r report.Report) error {
	link := ""
	if p.PageURL != "" {
		link = p.PageURL + "/reports/" + r.ID
	}
	body, err := report.Webhook(r, link)
	if err != nil {
		return err
	}
	return p.Sender.Send(ctx, notify.Message{ID: r.ID, Severity: r.Severity, Body: body})
}

// retry calls do until it succeeds or ctx ends.
func (p *Pipeline) retry(ctx context.Context, what string, do func(context.Context) error) {
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		p.Log.Warn("report is delayed", "step", what, "error", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}
