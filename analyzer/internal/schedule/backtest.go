package schedule

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Backtest runs the detectors over the windows that end in (from, to], in the
// order of their ends, and returns every finding, the earliest first. It stores
// nothing.
func Backtest(ctx context.Context, detectors []detect.Detector, explain Explainer, incidents incident.Config, from, to time.Time) ([]detect.Finding, error) {
	manager := incident.New(incidents)
	found := make(map[string]detect.Finding)
	collect := func() {
		changes := manager.Pending()
		for _, c := range changes {
			for _, f := range c.Findings {
				found[f.ID] = f
			}
		}
		manager.Stored(changes)
	}
	marks := make([]time.Time, len(detectors))
	for i := range marks {
		marks[i] = from
	}
	for {
		best, window := -1, detect.Window{}
		for i, d := range detectors {
			if w := d.Cadence().Next(marks[i]); !w.End.After(to) && (best < 0 || w.End.Before(window.End)) {
				best, window = i, w
			}
		}
		if best < 0 {
			break
		}
		findings, err := detectors[best].Evaluate(ctx, window)
		if err != nil {
			return nil, fmt.Errorf("evaluate %s until %s: %w", detectors[best].Name(), window.End.Format(time.RFC3339), err)
		}
		for i := range findings {
			explain(window, &findings[i])
		}
		marks[best] = window.End
		manager.Observe(findings, window)
		manager.Advance(window.End)
		collect()
	}
	manager.Flush()
	collect()
	all := make([]detect.Finding, 0, len(found))
	for _, f := range found {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b detect.Finding) int {
		return cmp.Or(a.WindowStart.Compare(b.WindowStart), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}
