package app

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// sayAgain is after how long an agent that is still late is told of again.
const sayAgain = 10 * time.Minute

// clock tells data time from the store, and of agents that it does not wait
// for. Watermark is for one goroutine.
type clock struct {
	store   *store.Store
	cfg     schedule.Config
	metrics *schedule.Metrics
	log     *slog.Logger
	late    map[string]time.Time // agent to when it was told of
	lost    map[string]time.Time // the same for gaps
}

func newClock(s *store.Store, cfg schedule.Config, metrics *schedule.Metrics, log *slog.Logger) *clock {
	return &clock{store: s, cfg: cfg, metrics: metrics, log: log, late: make(map[string]time.Time), lost: make(map[string]time.Time)}
}

// Watermark implements schedule.Clock.
func (c *clock) Watermark(ctx context.Context) (time.Time, error) {
	now := time.Now()
	beats, err := c.store.Beats(ctx, store.WatermarkQuery{Now: now, Settle: c.cfg.Settle, StaleAfter: c.cfg.StaleAfter})
	if err != nil {
		return time.Time{}, err
	}
	c.tell(beats, now)
	return store.WatermarkOf(beats), nil
}

// tell sets the metrics, and logs each agent at most once in sayAgain.
func (c *clock) tell(beats []store.Beat, now time.Time) {
	for _, told := range []map[string]time.Time{c.late, c.lost} {
		maps.DeleteFunc(told, func(_ string, at time.Time) bool { return now.Sub(at) >= sayAgain })
	}
	c.metrics.Late.Reset()
	lost := uint64(0)
	for _, b := range beats {
		lost += b.LostGaps
		if b.Late {
			c.metrics.Late.WithLabelValues(b.Agent).Set(b.Skew.Seconds())
			if c.late[b.Agent].IsZero() {
				c.late[b.Agent] = now
				c.log.Warn("the data of an agent is late for good, the others do not wait for it: its clock is wrong, or its batches are delayed", "agent", b.Agent, "late_by", b.Skew)
			}
		}
		if b.LostGaps > 0 && c.lost[b.Agent].IsZero() {
			c.lost[b.Agent] = now
			c.log.Warn("batches of an agent are missing and not waited for any more", "agent", b.Agent, "batches", b.Missing)
		}
	}
	c.metrics.LostGaps.Set(float64(lost))
}

// NextData implements schedule.Clock.
func (c *clock) NextData(ctx context.Context, t time.Time) (time.Time, error) {
	return c.store.NextData(ctx, t)
}
