// Package periodic runs something at the moments that cron expressions name,
// each moment once, also over restarts and changes of daylight saving.
package periodic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"
)

// Schedule is a named cron expression.
type Schedule struct {
	Name     string `yaml:"name"`     // in the reports table: letters, digits, '-' and '_'
	Cron     string `yaml:"cron"`     // five fields (minute hour day month weekday) or @hourly, @daily, @weekly, @monthly
	TimeZone string `yaml:"timezone"` // of the expression, as Europe/Lisbon; default UTC
}

// Config lists the schedules.
type Config struct {
	Schedules []Schedule `yaml:"schedules"`
}

// DefaultConfig returns one report a day, at seven in the morning UTC.
func DefaultConfig() Config {
	return Config{Schedules: []Schedule{{Name: "daily", Cron: "0 7 * * *"}}}
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate implements config.Validator. Its errors name the whole key.
func (c Config) Validate() error {
	names := map[string]bool{}
	for i, s := range c.Schedules {
		if !validName.MatchString(s.Name) {
			return fmt.Errorf("periodic.schedules[%d].name: must be 1 to 64 letters, digits, '-' and '_'", i)
		}
		if names[s.Name] {
			return fmt.Errorf("periodic.schedules[%d].name: %q stands there twice", i, s.Name)
		}
		names[s.Name] = true
		if _, err := parse(s); err != nil {
			return fmt.Errorf("periodic.schedules[%d].%w", i, err)
		}
	}
	return nil
}

// Window is the time between two successive moments of a schedule.
type Window struct {
	Schedule   string
	Start, End time.Time
}

// Marks remembers which windows are done, over restarts.
type Marks interface {
	// Seen tells whether the window of schedule that ends at end is done, and
	// whether any window of schedule ever was.
	Seen(ctx context.Context, schedule string, end time.Time) (done, ever bool, err error)
	// Done remembers that it is done.
	Done(ctx context.Context, schedule string, end time.Time) error
}

// Runner runs schedules.
type Runner struct {
	timings []*timing
	marks   Marks
	run     func(context.Context, Window) error
	log     *slog.Logger
	failed  *prometheus.CounterVec
}

// New returns a runner that calls run for each window, possibly of several
// schedules at the same time. An error of run is logged, and run is called again
// for the same window until it succeeds or the next window ends. run may be
// called again for a window that it has finished, if the process ended before
// that was marked: what it makes must be keyed by schedule and window end.
func New(cfg Config, marks Marks, run func(context.Context, Window) error, reg prometheus.Registerer, log *slog.Logger) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Runner{marks: marks, run: run, log: log, failed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ebbwatch_periodic_failures_total",
		Help: "Failed attempts to make a periodic report, by schedule; each is repeated. If it grows, read the analyzer's log.",
	}, []string{"schedule"})}
	for _, s := range cfg.Schedules {
		t, err := parse(s)
		if err != nil {
			return nil, err
		}
		r.timings = append(r.timings, t)
	}
	if reg != nil {
		reg.MustRegister(r.failed)
	}
	return r, nil
}

// Run runs the schedules until ctx ends. Of the windows that ended while nothing
// ran, the latest of each schedule is caught up; a schedule that never ran
// begins with its next window.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, t := range r.timings {
		wg.Go(func() { r.follow(ctx, t) })
	}
	wg.Wait()
	return nil
}

func (r *Runner) follow(ctx context.Context, t *timing) {
	last := t.before(time.Now())
	if !r.retry(ctx, t, func() error { return r.catchUp(ctx, t, last) }, t.after(last)) {
		return
	}
	for {
		end := t.after(last)
		if !sleepUntil(ctx, end) {
			return
		}
		w := Window{t.name, last, end}
		if !r.retry(ctx, t, func() error { return r.once(ctx, w) }, t.after(end)) {
			return
		}
		last = end
		if missed := t.before(time.Now()); missed.After(last) { // the host slept, or run took that long
			last = t.before(missed.Add(-time.Nanosecond))
		}
	}
}

// catchUp runs the latest window that has ended if it was missed.
func (r *Runner) catchUp(ctx context.Context, t *timing, end time.Time) error {
	done, ever, err := r.marks.Seen(ctx, t.name, end)
	switch {
	case err != nil:
		return err
	case done:
		return nil
	case !ever:
		return r.marks.Done(ctx, t.name, end) // so that the next start knows what it missed
	}
	r.log.Info("catching up a missed periodic report", "schedule", t.name, "window_end", end)
	return r.once(ctx, Window{t.name, t.before(end.Add(-time.Nanosecond)), end})
}

// once runs one window unless it is done.
func (r *Runner) once(ctx context.Context, w Window) error {
	done, _, err := r.marks.Seen(ctx, w.Schedule, w.End)
	if err != nil || done {
		return err
	}
	if err := r.run(ctx, w); err != nil {
		return err
	}
	return r.marks.Done(ctx, w.Schedule, w.End)
}

// retry calls f until it succeeds or until is reached. It returns false when ctx
// has ended.
func (r *Runner) retry(ctx context.Context, t *timing, f func() error, until time.Time) bool {
	for wait := 5 * time.Second; ; wait = min(2*wait, 5*time.Minute) {
		err := f()
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		r.failed.WithLabelValues(t.name).Inc()
		r.log.Warn("periodic report failed", "schedule", t.name, "error", err, "retry", wait)
		if time.Now().Add(wait).After(until) {
			r.log.Error("periodic report is given up: the next is due", "schedule", t.name)
			return true
		}
		if !sleepUntil(ctx, time.Now().Add(wait)) {
			return false
		}
	}
}

// sleepUntil returns false when ctx ends first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	for {
		// At most a minute at once: timers follow the monotonic clock, moments the wall clock.
		timer := time.NewTimer(min(time.Until(at), time.Minute))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		if !time.Now().Before(at) {
			return true
		}
	}
}

// timing finds the moments of a schedule.
type timing struct {
	name string
	cron cron.Schedule
	zone *time.Location
}

func parse(s Schedule) (*timing, error) {
	zone, err := time.LoadLocation(s.TimeZone) // "" is UTC
	if err != nil || s.TimeZone == "Local" {
		return nil, fmt.Errorf("timezone: %q is not known", s.TimeZone)
	}
	spec, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(s.Cron)
	if err != nil {
		return nil, fmt.Errorf("cron: %q: %w", s.Cron, err)
	}
	fields, ok := spec.(*cron.SpecSchedule)
	if !ok || fields.Location != time.Local { // @every has no fixed moments; TZ= stands in timezone
		return nil, fmt.Errorf("cron: %q: want five fields, or @hourly, @daily, @weekly, @monthly", s.Cron)
	}
	t := &timing{s.Name, spec, zone}
	if spec.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("cron: " + s.Cron + ": there is no such moment")
	}
	return t, nil
}

// The expression is evaluated on the wall clock as if the zone never changed,
// and only then is the moment placed in the zone. So an hour that daylight
// saving repeats is met once, and one that it leaves out is met just after.

func (t *timing) after(at time.Time) time.Time {
	for wall := t.wall(at).Add(-3 * time.Hour); ; { // the clock may have been set back before at
		wall = t.cron.Next(wall)
		if moment := t.moment(wall); moment.After(at) {
			return moment
		}
	}
}

// before returns the latest moment that is not after at.
func (t *timing) before(at time.Time) time.Time {
	for back := time.Hour; ; back *= 8 {
		latest := time.Time{}
		for wall := t.cron.Next(t.wall(at).Add(-back)); ; wall = t.cron.Next(wall) {
			moment := t.moment(wall)
			if moment.After(at) {
				break
			}
			latest = moment
		}
		if !latest.IsZero() {
			return latest
		}
		if back > 100*365*24*time.Hour {
			return at // cannot be: parse has seen a moment
		}
	}
}

// wall returns the wall clock at a moment, written as UTC.
func (t *timing) wall(at time.Time) time.Time {
	l := at.In(t.zone)
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), time.UTC)
}

func (t *timing) moment(wall time.Time) time.Time {
	return time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, t.zone).UTC()
}
