package publish

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// memory keeps reports as the store does, and notes what was sent when.
type memory struct {
	mu      sync.Mutex
	reports map[string]store.Report
	sent    []sent
	failing bool
	grown   []detect.Finding // what the store holds of every incident
}

type sent struct {
	at time.Duration // since the start
	id string
}

func (m *memory) Report(_ context.Context, id string) (store.Report, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.reports[id]; ok {
		return r, nil
	}
	return store.Report{}, store.ErrNotFound
}

func (m *memory) SaveReport(_ context.Context, r store.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return store.ErrNotReady
	}
	m.reports[r.ID] = r
	return nil
}

func (m *memory) Incidents(context.Context, store.IncidentFilter) ([]incident.Incident, int, error) {
	return nil, 0, nil
}

func (m *memory) Findings(context.Context, store.FindingFilter) ([]detect.Finding, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grown, len(m.grown), nil
}

type outbox struct {
	*memory
	start time.Time
}

func (o outbox) Send(_ context.Context, msg notify.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, sent{time.Since(o.start), msg.ID})
	return nil
}

func TestFollowUpsAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{reports: map[string]store.Report{}}
		builder, err := report.New(report.DefaultConfig(), nil, nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		p := &Pipeline{Builder: builder, Reports: m, History: m, Sender: outbox{m, time.Now()}, FollowUp: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()

		change := func(id string, kinds ...string) {
			now := time.Now()
			in := incident.Incident{ID: id, Status: incident.Open, Severity: detect.High, Kinds: kinds, Started: now, Ended: now, Opened: now}
			var findings []detect.Finding
			for _, kind := range kinds {
				findings = append(findings, detect.Finding{ID: "f-" + id + kind, Kind: kind, Severity: detect.High, Incident: id, WindowStart: now, WindowEnd: now})
			}
			if err := p.Changed(ctx, in, findings); err != nil {
				t.Fatal(err)
			}
		}
		change("i-1", "port_scan")
		time.Sleep(5 * time.Second)
		change("i-1", "port_scan", "beacon") // waits
		change("i-2", "port_scan")           // another incident does not
		time.Sleep(5 * time.Second)
		change("i-1", "port_scan", "beacon", "syn_flood") // joins what waits
		time.Sleep(time.Minute)
		change("i-1", "port_scan", "beacon", "syn_flood") // nothing new: the same report again, which the outbox knows
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		if len(m.reports) != 3 {
			t.Fatalf("%d reports were made, want two about i-1 and one about i-2", len(m.reports))
		}
		want := []time.Duration{0, 5 * time.Second, 30 * time.Second}
		if len(m.sent) < len(want) {
			t.Fatalf("sent %v", m.sent)
		}
		for i, at := range want {
			if m.sent[i].at != at {
				t.Errorf("report %d was sent after %s, want %s", i+1, m.sent[i].at, at)
			}
		}
		last := m.reports[m.sent[2].id]
		if len(m.sent) == 4 && m.sent[3].id != last.ID {
			t.Errorf("a change that tells nothing new made report %s", m.sent[3].id)
		}
		if want := "i-1"; last.Subject != want {
			t.Errorf("the last report is about %s, want %s", last.Subject, want)
		}
	})
}

func TestAReportThatCannotBeStoredIsMadeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{reports: map[string]store.Report{}, failing: true}
		builder, err := report.New(report.DefaultConfig(), nil, nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		p := &Pipeline{Builder: builder, Reports: m, History: m, Sender: outbox{m, time.Now()}, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		now := time.Now()
		finding := detect.Finding{ID: "f-1", Kind: "beacon", Severity: detect.Low, Incident: "i-1", WindowStart: now, WindowEnd: now}
		if err := p.Changed(ctx, incident.Incident{ID: "i-1", Severity: detect.Low, Kinds: []string{"beacon"}}, []detect.Finding{finding}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(m.sent) != 0 {
			t.Fatalf("sent %v while nothing could be stored", m.sent)
		}
		finding.Summary, finding.WindowEnd = "It went on.", now.Add(9*time.Second)
		m.mu.Lock()
		m.failing, m.grown = false, []detect.Finding{finding}
		m.mu.Unlock()
		time.Sleep(30 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(m.sent) != 1 || len(m.reports) != 1 {
			t.Fatalf("%d reports, sent %v", len(m.reports), m.sent)
		}
		r := m.reports[m.sent[0].id]
		if !strings.Contains(r.Markdown, "It went on") || !r.WindowEnd.Equal(finding.WindowEnd) {
			t.Errorf("the report tells of the past, up to %v:\n%s", r.WindowEnd, r.Markdown)
		}
	})
}
