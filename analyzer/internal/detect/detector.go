package detect

import (
	"context"
	"fmt"
	"time"
)

// Detector looks at one window of time at a time.
//
// Evaluate must give the same findings for the same window and the same data:
// it takes no notice of the clock. It may be called concurrently with other
// detectors, but not with itself. The id, the incident and the queries of the
// findings are filled in by those who keep them.
type Detector interface {
	// Name is unique among the configured detectors; progress is kept under it.
	Name() string
	// Cadence says which windows the detector wants.
	Cadence() Cadence
	// Evaluate returns the findings of one window. An error means that the window
	// could not be judged and must be tried again.
	Evaluate(ctx context.Context, w Window) ([]Finding, error)
}

// Cadence is the shape of a detector's windows: Window long, one every Step.
// Windows end at multiples of Step since the Unix epoch.
type Cadence struct {
	Window time.Duration `yaml:"window"`
	Step   time.Duration `yaml:"step"`
}

// Validate names the first key that cannot work.
func (c Cadence) Validate() error {
	switch {
	case c.Step < time.Second || c.Step%time.Second != 0:
		return fmt.Errorf("step: %v is not a whole number of seconds", c.Step)
	case c.Window < c.Step:
		return fmt.Errorf("window: %v is shorter than step (%v): time between windows would not be looked at", c.Window, c.Step)
	case c.Window > 7*24*time.Hour:
		return fmt.Errorf("window: %v is longer than the 168h for which flows are kept", c.Window)
	}
	return nil
}

// Next returns the first window that ends after t.
func (c Cadence) Next(t time.Time) Window {
	end := t.UTC().Truncate(c.Step).Add(c.Step)
	return Window{Start: end.Add(-c.Window), End: end}
}

// Window is the time [Start, End).
type Window struct{ Start, End time.Time }

// Duration returns the length of w.
func (w Window) Duration() time.Duration { return w.End.Sub(w.Start) }

// Seconds returns the length of w in seconds.
func (w Window) Seconds() float64 { return w.Duration().Seconds() }
