package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// enoughFree is how much of a disk is enough to leave free, however large it is.
const enoughFree = 1 << 30

// shortage is why blocks wait: a name for the metric, and a text for people. Both
// are empty if they need not.
type shortage struct{ name, text string }

// shortages are the names.
var shortages = []string{"disk", "parts"}

// room waits until the server has room for a block: merges need disk too, and a
// full one cannot even delete what its time to live lets go; with too many parts
// in a partition the server slows inserts down and then refuses them. What waits
// is in JetStream, unacknowledged. A server that does not answer, or may not be
// asked, has room: the insert will tell.
func (w *Writer) room(ctx context.Context, patience time.Duration) error {
	if time.Since(w.asked) < w.cfg.PressureInterval {
		return nil
	}
	for began, waits := time.Now(), false; ; waits = true {
		short, err := w.shortage(ctx)
		w.asked = time.Now()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("wait for room in ClickHouse: %w", context.Cause(ctx))
		case err != nil && !w.cannotAsk:
			w.log.Warn("cannot ask clickhouse for its free disk and its parts: inserts do not wait for room", "error", err)
		}
		w.cannotAsk = err != nil
		for _, name := range shortages {
			value := 0.0
			if name == short.name {
				value = 1
			}
			w.metrics.paused.WithLabelValues(name).Set(value)
		}
		if short.name == "" {
			return nil
		}
		err = fmt.Errorf("waiting for room in ClickHouse: %s", short.text)
		if patience > 0 && time.Since(began) >= patience {
			return err
		}
		w.note(err)
		if !waits || time.Since(w.alarmed) >= time.Minute {
			w.alarmed = time.Now()
			w.log.Warn("inserts wait for room; nothing is dropped, batches wait in nats", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.cfg.PressureInterval):
		}
	}
}

// shortage asks the server.
func (w *Writer) shortage(ctx context.Context) (shortage, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if w.cfg.MinFreePercent > 0 {
		var names proto.ColStr
		var free, total proto.ColUInt64
		if err := w.ask(ctx, "SELECT name, unreserved_space AS free, total_space AS total FROM system.disks", proto.Results{
			{Name: "name", Data: &names}, {Name: "free", Data: &free}, {Name: "total", Data: &total},
		}); err != nil {
			return shortage{}, err
		}
		for i := range free {
			if least := min(float64(total[i])*w.cfg.MinFreePercent/100, enoughFree); float64(free[i]) < least {
				return shortage{"disk", fmt.Sprintf("its disk %q has %d of %d MiB free, less than the %.0f MiB of insert.min_free_percent. Make room on it, or lower store.retention_days",
					names.Row(i), free[i]>>20, total[i]>>20, least/(1<<20))}, nil
			}
		}
	}
	if w.cfg.MaxParts > 0 {
		var tables proto.ColStr
		var parts proto.ColUInt64
		if err := w.ask(ctx, "SELECT table, count() AS parts FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table, partition_id ORDER BY parts DESC LIMIT 1", proto.Results{
			{Name: "table", Data: &tables}, {Name: "parts", Data: &parts},
		}); err != nil {
			return shortage{}, err
		}
		if len(parts) > 0 && parts[0] > uint64(w.cfg.MaxParts) {
			return shortage{"parts", fmt.Sprintf("a partition of its table %s has %d parts, more than insert.max_parts: merges are behind. Look at system.merges; it needs more cores or faster disks",
				tables.Row(0), parts[0])}, nil
		}
	}
	return shortage{}, nil
}

// ask runs one query with a small answer.
func (w *Writer) ask(ctx context.Context, query string, results proto.Results) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.client.Do(ctx, ch.Query{Body: query, Result: results}); err != nil {
		w.Close()
		return err
	}
	return nil
}
