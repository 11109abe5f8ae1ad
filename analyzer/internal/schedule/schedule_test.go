package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// world is the data, the store and the marks as one analyzer after the other
// sees them.
type world struct {
	mu        sync.Mutex
	delay     time.Duration // of the watermark behind the clock
	silent    [2]time.Time  // no data in between
	marks     map[string]time.Time
	kept      map[string]detect.Finding
	incidents map[string]incident.Incident
	windows   map[string][]time.Time // ends, by detector
	told      int
	failures  map[string]int // next calls that fail, by what
}

var errDown = errors.New("down")

func newWorld() *world {
	return &world{
		marks: make(map[string]time.Time), kept: make(map[string]detect.Finding), incidents: make(map[string]incident.Incident),
		windows: make(map[string][]time.Time), failures: make(map[string]int),
	}
}

// fail reports whether a call is to fail. The caller holds mu.
func (w *world) fail(what string) error {
	if w.failures[what] > 0 {
		w.failures[what]--
		return fmt.Errorf("%s: %w", what, errDown)
	}
	return nil
}

func (w *world) Watermark(context.Context) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().Add(-w.delay)
	if now.After(w.silent[0]) && now.Before(w.silent[1]) {
		now = w.silent[0]
	}
	return now, w.fail("watermark")
}

func (w *world) NextData(_ context.Context, t time.Time) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.Before(w.silent[0]) && t.Before(w.silent[1]) {
		return w.silent[1], nil
	}
	return t.Add(5 * time.Second), nil
}

func (w *world) Keep(_ context.Context, changes []incident.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		w.incidents[c.Incident.ID] = c.Incident
		for _, f := range c.Updated {
			w.kept[f.ID] = f
		}
		if c.Notable {
			w.told++
		}
	}
	return w.fail("keep") // after it was done: the answer was lost
}

func (w *world) Recall(context.Context) ([]incident.Incident, []detect.Finding, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.incidents)), slices.Collect(maps.Values(w.kept)), w.fail("recall")
}

func (w *world) Load(_ context.Context, detector string) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.marks[detector], w.fail("load")
}

func (w *world) Save(_ context.Context, detector string, end time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail("save"); err != nil {
		return err
	}
	w.marks[detector] = end
	return nil
}

// probe is a detector that notes its windows and finds an attack in each.
type probe struct {
	*world
	name    string
	cadence detect.Cadence
}

func (p probe) Name() string            { return p.name }
func (p probe) Cadence() detect.Cadence { return p.cadence }

func (p probe) Evaluate(_ context.Context, w detect.Window) ([]detect.Finding, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fail("evaluate"); err != nil {
		return nil, err
	}
	p.windows[p.name] = append(p.windows[p.name], w.End)
	return []detect.Finding{{
		Detector: p.name, Kind: p.name, Entity: detect.Entity{Src: p.name}, WindowStart: w.Start, WindowEnd: w.End,
		Score: 0.5, PValue: 1, Severity: detect.Low, Summary: "x",
	}}, nil
}

func (w *world) scheduler() *Scheduler {
	cfg := DefaultConfig()
	cfg.CatchUp = time.Hour
	return &Scheduler{
		Config: cfg, Incidents: incident.DefaultConfig(), Clock: w, Keeper: w, Marks: w,
		Detectors: []detect.Detector{
			probe{w, "fast", detect.Cadence{Window: 10 * time.Second, Step: 5 * time.Second}},
			probe{w, "slow", detect.Cadence{Window: 10 * time.Minute, Step: time.Minute}},
		},
		Explain: func(detect.Window, *detect.Finding) {},
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	}
}

// run runs s for d.
func (w *world) run(t *testing.T, s *Scheduler, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// checkWindows checks that the windows of a detector follow each other without
// gap. Repeated ones are counted.
func (w *world) checkWindows(t *testing.T, detector string, step time.Duration) (repeated int) {
	t.Helper()
	ends := w.windows[detector]
	for i := 1; i < len(ends); i++ {
		switch ends[i].Sub(ends[i-1]) {
		case step:
		case 0:
			repeated++
		default:
			t.Errorf("%s: window %v follows %v", detector, ends[i], ends[i-1])
		}
	}
	for _, end := range ends {
		if !end.Equal(end.Truncate(step)) {
			t.Errorf("%s: window ends at %v, not a multiple of %v", detector, end, step)
		}
	}
	return repeated
}

func TestEveryWindowIsLookedAtOnceAsItBecomesComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.delay = 3 * time.Second
		s := w.scheduler()
		w.run(t, s, 10*time.Minute)
		for name, step := range map[string]time.Duration{"fast": 5 * time.Second, "slow": time.Minute} {
			if n := w.checkWindows(t, name, step); n != 0 {
				t.Errorf("%s: %d windows were repeated", name, n)
			}
			last := w.windows[name][len(w.windows[name])-1]
			if late := time.Now().Add(-w.delay).Sub(last); late < 0 || late > step+time.Second {
				t.Errorf("%s: last window %v is %v behind the watermark", name, last, late)
			}
			if !w.marks[name].Equal(last) {
				t.Errorf("%s: mark %v, last window %v", name, w.marks[name], last)
			}
		}
		if len(w.windows["fast"]) < 118 || len(w.kept) != 2 || len(w.incidents) != 2 {
			t.Errorf("%d windows, %d findings, %d incidents", len(w.windows["fast"]), len(w.kept), len(w.incidents))
		}
		if got := testutil.ToFloat64(s.Metrics.Windows.WithLabelValues("fast")); int(got) != len(w.windows["fast"]) {
			t.Errorf("windows_total is %v", got)
		}
	})
}

func TestALateCollectorDelaysWindowsAndSkipsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := w.scheduler()
		go func() {
			time.Sleep(time.Minute)
			w.mu.Lock()
			w.delay = 20 * time.Minute // the backlog of a collector that was down
			w.mu.Unlock()
			time.Sleep(25 * time.Minute)
			w.mu.Lock()
			w.delay = 0
			w.mu.Unlock()
		}()
		w.run(t, s, 30*time.Minute)
		if n := w.checkWindows(t, "fast", 5*time.Second); n != 0 || len(w.windows["fast"]) < 358 {
			t.Errorf("%d windows, %d repeated", len(w.windows["fast"]), n)
		}
		if skipped := testutil.ToFloat64(s.Metrics.Skipped.WithLabelValues("fast")); skipped != 0 {
			t.Errorf("%v windows were skipped", skipped)
		}
	})
}

func TestARestartNeitherSkipsNorDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for range 20 { // killed after odd times, down in between
			w.run(t, w.scheduler(), 33700*time.Millisecond)
			time.Sleep(7100 * time.Millisecond)
		}
		if n := w.checkWindows(t, "fast", 5*time.Second); n > 20 {
			t.Errorf("%d windows were repeated in 20 restarts", n)
		}
		w.checkWindows(t, "slow", time.Minute)
		if len(w.kept) != 2 || len(w.incidents) != 2 {
			t.Errorf("%d findings and %d incidents, want 2: restarts must continue them", len(w.kept), len(w.incidents))
		}
	})
}

func TestWhateverFailsIsTriedAgain(t *testing.T) {
	for _, what := range []string{"recall", "load", "watermark", "evaluate", "keep", "save"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				s := w.scheduler()
				w.failures[what] = 3
				go func() {
					time.Sleep(time.Minute)
					w.mu.Lock()
					w.failures[what] = 5
					w.mu.Unlock()
				}()
				w.run(t, s, 5*time.Minute)
				if n := w.checkWindows(t, "fast", 5*time.Second); n != 0 || len(w.windows["fast"]) < 55 || len(w.kept) != 2 {
					t.Errorf("%d windows, %d repeated, %d findings", len(w.windows["fast"]), n, len(w.kept))
				}
				errs := testutil.ToFloat64(s.Metrics.Errors.WithLabelValues("fast")) + testutil.ToFloat64(s.Metrics.Errors.WithLabelValues("slow"))
				if (what == "evaluate") != (errs > 0) {
					t.Errorf("detector_errors_total is %v", errs)
				}
			})
		})
	}
}

func TestTimeWithoutDataIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t, w.scheduler(), time.Minute)
		stopped := w.marks["fast"]
		w.silent = [2]time.Time{stopped, stopped.Add(30 * time.Minute)}
		time.Sleep(30*time.Minute + 5*time.Second)
		before := len(w.windows["fast"])
		w.run(t, w.scheduler(), time.Minute)
		if n := len(w.windows["fast"]) - before; n < 11 || n > 30 {
			t.Errorf("%d windows were looked at after a pause of half an hour", n)
		}
	})
}

func TestWindowsThatAreTooOldAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t, w.scheduler(), time.Minute)
		time.Sleep(3 * time.Hour)
		s := w.scheduler()
		w.run(t, s, time.Minute)
		if skipped := testutil.ToFloat64(s.Metrics.Skipped.WithLabelValues("fast")); skipped < 1430 || skipped > 1450 {
			t.Errorf("%v windows of 5 s are counted as skipped, want two hours of them", skipped)
		}
	})
}

func TestBacktestGivesWhatRunningLiveGave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run(t, w.scheduler(), 10*time.Minute)
		first, last := w.windows["slow"][0], w.windows["slow"][len(w.windows["slow"])-1]
		s := w.scheduler()
		findings, err := Backtest(t.Context(), s.Detectors, s.Explain, s.Incidents, first.Add(-time.Second), last)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if f.Kind == "slow" && w.kept[f.ID].ID == "" {
				t.Errorf("finding %s was not found live: %v", f.ID, w.kept)
			}
		}
		if len(findings) != 2 {
			t.Errorf("%d findings, want 2", len(findings))
		}
		w.failures["evaluate"] = 1
		if _, err := Backtest(t.Context(), s.Detectors, s.Explain, s.Incidents, first, last); !errors.Is(err, errDown) {
			t.Errorf("a detector that fails: %v", err)
		}
	})
}
