// Package schedule runs the detectors window after window, live or over
// history, and keeps what they find.
//
// Time is a parameter: a window is looked at when the data before its end is
// complete, however late that is, and detectors never see the clock. So the same
// data and the same windows give the same findings, live, after a restart and
// over history. The progress of each detector is marked after its findings are
// stored: a crash in between repeats a window, which changes nothing.
package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Clock tells data time.
type Clock interface {
	// Watermark returns the time before which all data is stored, the zero time
	// while there is none.
	Watermark(ctx context.Context) (time.Time, error)
	// NextData returns a time at which there is data again after t, the zero time
	// if there is none.
	NextData(ctx context.Context, t time.Time) (time.Time, error)
}

// Keeper stores what was found. After an error everything is given to it again.
type Keeper interface {
	// Keep stores changes and tells those who want to know. It must be idempotent.
	Keep(ctx context.Context, changes []incident.Change) error
	// Recall returns the open incidents and their findings.
	Recall(ctx context.Context) ([]incident.Incident, []detect.Finding, error)
}

// Marks remembers how far each detector has come.
type Marks interface {
	// Load returns the end of the last window of a detector, the zero time if there is none.
	Load(ctx context.Context, detector string) (time.Time, error)
	Save(ctx context.Context, detector string, end time.Time) error
}

// Explainer adds to a finding of window w the queries that show its evidence.
type Explainer func(w detect.Window, f *detect.Finding)

// Scheduler runs detectors. Its fields must be set before Run and not be
// changed then.
type Scheduler struct {
	Config    Config
	Incidents incident.Config
	Detectors []detect.Detector
	Explain   Explainer
	Clock     Clock
	Keeper    Keeper
	Marks     Marks
	Metrics   *Metrics
	Log       *slog.Logger

	mu        sync.Mutex
	watermark time.Time
	changed   chan struct{} // closed when watermark changes
	marks     map[string]time.Time
	keeping   chan struct{} // holds one token: one Keep at a time, in the order of what was observed
}

// Run works until ctx ends and then returns nil. It waits and retries whatever
// fails: nothing is passed over because of an error.
func (s *Scheduler) Run(ctx context.Context) error {
	manager := incident.New(s.Incidents)
	s.mu.Lock()
	s.watermark, s.changed, s.marks = time.Time{}, make(chan struct{}), make(map[string]time.Time)
	s.keeping = make(chan struct{}, 1)
	s.mu.Unlock()
	err := s.retry(ctx, "take up where the last run ended", func(ctx context.Context) error {
		incidents, findings, err := s.Keeper.Recall(ctx)
		if err != nil {
			return err
		}
		for _, d := range s.Detectors {
			mark, err := s.Marks.Load(ctx, d.Name())
			if err != nil {
				return err
			}
			s.setMark(d, mark)
		}
		manager.Restore(incidents, findings)
		return nil
	})
	if err != nil {
		return nil // ctx ended
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.watch(ctx) })
	for _, d := range s.Detectors {
		wg.Go(func() { s.follow(ctx, d, manager) })
	}
	<-ctx.Done()
	return nil
}

// watch reads the watermark.
func (s *Scheduler) watch(ctx context.Context) {
	for {
		err := s.retry(ctx, "read the watermark", func(ctx context.Context) error {
			watermark, err := s.Clock.Watermark(ctx)
			if err == nil {
				s.setWatermark(watermark)
			}
			return err
		})
		if err != nil || sleep(ctx, s.Config.Poll) != nil {
			return
		}
	}
}

// setWatermark never goes back: an agent that appears with old data does not
// undo what was looked at.
func (s *Scheduler) setWatermark(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.After(s.watermark) {
		s.watermark = t
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.Metrics.Watermark.Set(age(s.watermark))
}

func (s *Scheduler) current() (watermark time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watermark, s.changed
}

// follow runs one detector over each window as it becomes complete.
func (s *Scheduler) follow(ctx context.Context, d detect.Detector, manager *incident.Manager) {
	for ctx.Err() == nil {
		watermark, changed := s.current()
		w, err := s.next(ctx, d, watermark)
		if err != nil {
			return // ctx ended
		}
		if watermark.IsZero() || w.End.After(watermark) {
			s.Metrics.Lag.WithLabelValues(d.Name()).Set(age(w.End.Add(-d.Cadence().Step)))
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if s.step(ctx, d, manager, w) != nil {
			return
		}
	}
}

// next returns the next window of d. It passes over the time in which there was
// no data, and over windows that are too old.
func (s *Scheduler) next(ctx context.Context, d detect.Detector, watermark time.Time) (detect.Window, error) {
	mark, cadence := s.mark(d), d.Cadence()
	if watermark.IsZero() {
		return cadence.Next(mark), nil
	}
	if mark.IsZero() { // first start: from now on
		mark = watermark.Truncate(cadence.Step).Add(-cadence.Step)
	}
	if oldest := watermark.Add(-s.Config.CatchUp); mark.Before(oldest) {
		skipped := oldest.Sub(mark) / cadence.Step
		s.Log.Warn("windows are too old to catch up with", "detector", d.Name(), "windows", int64(skipped), "from", mark, "to", oldest)
		s.Metrics.Skipped.WithLabelValues(d.Name()).Add(float64(skipped))
		mark = oldest.Truncate(cadence.Step)
	}
	w := cadence.Next(mark)
	if watermark.Sub(w.End) > 2*time.Minute {
		err := s.retry(ctx, "look for the next data", func(ctx context.Context) error {
			data, err := s.Clock.NextData(ctx, mark)
			if err == nil && !data.IsZero() {
				// The drain interval that ends there began before, by a minute at most.
				if resume := data.Add(-time.Minute).Truncate(cadence.Step); resume.After(mark) {
					mark = resume
				}
			}
			return err
		})
		if err != nil {
			return w, err
		}
		w = cadence.Next(mark)
	}
	s.setMark(d, mark)
	return w, nil
}

// step looks at one window, keeps what is found and marks the progress. It
// returns an error only when ctx has ended.
func (s *Scheduler) step(ctx context.Context, d detect.Detector, manager *incident.Manager, w detect.Window) error {
	var findings []detect.Finding
	err := s.retry(ctx, "evaluate a window", func(ctx context.Context) error {
		var err error
		began := time.Now()
		if findings, err = d.Evaluate(ctx, w); err != nil {
			s.Metrics.Errors.WithLabelValues(d.Name()).Inc()
			return fmt.Errorf("detector %s: %w", d.Name(), err)
		}
		s.Metrics.Seconds.WithLabelValues(d.Name()).Observe(time.Since(began).Seconds())
		return nil
	})
	if err != nil {
		return err
	}
	for i := range findings {
		s.Explain(w, &findings[i])
	}
	s.setMark(d, w.End)
	manager.Observe(findings, w)
	manager.Advance(s.lowWater())
	if err := s.keep(ctx, manager); err != nil {
		return err
	}
	err = s.retry(ctx, "mark the progress", func(ctx context.Context) error { return s.Marks.Save(ctx, d.Name(), w.End) })
	if err != nil {
		return err
	}
	s.Metrics.Windows.WithLabelValues(d.Name()).Inc()
	s.Metrics.Lag.WithLabelValues(d.Name()).Set(age(w.End))
	return nil
}

// keep stores what is pending.
func (s *Scheduler) keep(ctx context.Context, manager *incident.Manager) error {
	select {
	case s.keeping <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		<-s.keeping
		incidents, findings := manager.Counts()
		s.Metrics.OpenIncidents.Set(float64(incidents))
		s.Metrics.OpenFindings.Set(float64(findings))
	}()
	return s.retry(ctx, "store what was found", func(ctx context.Context) error {
		changes := manager.Pending()
		if len(changes) == 0 {
			return nil
		}
		if err := s.Keeper.Keep(ctx, changes); err != nil {
			s.Metrics.KeepErrors.Inc()
			return err
		}
		manager.Stored(changes)
		for _, c := range changes {
			for _, f := range c.New {
				s.Metrics.Findings.WithLabelValues(f.Kind).Inc()
				s.Log.Info("found", "kind", f.Kind, "finding", f.ID, "incident", f.Incident, "severity", f.Severity.String(), "summary", f.Summary)
			}
		}
		return nil
	})
}

// lowWater returns the data time that every detector has passed. One that waits
// for its next window has passed all there is.
func (s *Scheduler) lowWater() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := s.watermark
	for _, d := range s.Detectors {
		mark := s.marks[d.Name()]
		if !d.Cadence().Next(mark).End.After(s.watermark) && mark.Before(low) {
			low = mark
		}
	}
	return low
}

// Progress returns until when each detector has looked at everything there is.
func (s *Scheduler) Progress() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := make(map[string]time.Time, len(s.Detectors))
	for _, d := range s.Detectors {
		mark := s.marks[d.Name()]
		if !mark.IsZero() && d.Cadence().Next(mark).End.After(s.watermark) && s.watermark.After(mark) {
			mark = s.watermark
		}
		until[d.Name()] = mark
	}
	return until
}

func (s *Scheduler) mark(d detect.Detector) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[d.Name()]
}

func (s *Scheduler) setMark(d detect.Detector, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks[d.Name()] = t
}

// retry calls do until it succeeds, with growing pauses, and says so once. It
// returns an error only when ctx has ended.
func (s *Scheduler) retry(ctx context.Context, what string, do func(context.Context) error) error {
	pause, said := 250*time.Millisecond, ""
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			if said != "" {
				s.Log.Info("works again", "what", what)
			}
			return nil
		}
		if text := err.Error(); text != said {
			said = text
			s.Log.Warn("waiting and trying again", "what", what, "error", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return time.Since(t).Seconds()
}
