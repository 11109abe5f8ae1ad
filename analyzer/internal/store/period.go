package store

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// KindCount is the number of findings of one kind and severity.
type KindCount struct {
	Kind     string
	Severity detect.Severity
	Count    int
}

// KindCounts counts the findings that overlap [from, to), the most severe first.
func (s *Store) KindCounts(ctx context.Context, from, to time.Time) ([]KindCount, error) {
	query := `
SELECT kind, toString(severity), count()
FROM findings FINAL
WHERE window_end >= ` + at("from") + ` AND window_start < ` + at("to") + `
GROUP BY kind, severity
ORDER BY severity DESC, kind
LIMIT 1000`
	var counts []KindCount
	err := s.query(ctx, query, params{"from": from, "to": to}, func(r driver.Rows) error {
		var (
			c        KindCount
			severity string
			n        uint64
		)
		if err := r.Scan(&c.Kind, &severity, &n); err != nil {
			return err
		}
		c.Count = int(n)
		counts = append(counts, c)
		return counts[len(counts)-1].Severity.UnmarshalText([]byte(severity))
	})
	return counts, wrap("count findings", err)
}

// AgentTotal is what one agent proved to have seen in a period.
type AgentTotal struct {
	Name            string
	SeenPackets     uint64
	RecordedPackets uint64
	OverflowPackets uint64
	SkippedPackets  uint64 // left out by sampling
	LostBatches     uint64 // missing by their sequence numbers
}

// AgentTotals sums up the coverage of every agent in [from, to), by name.
func (s *Store) AgentTotals(ctx context.Context, from, to time.Time) ([]AgentTotal, error) {
	query := `
SELECT agent, sum(seen), sum(recorded), sum(overflow), sum(skipped), toUInt64(sum(last - first + 1 - batches))
FROM
(
    SELECT agent, boot, sum(seen_packets) AS seen, sum(recorded_packets) AS recorded, sum(overflow_packets) AS overflow,
        sum(skipped_packets) AS skipped, max(sequence) AS last, min(sequence) AS first, uniqExact(sequence) AS batches
    FROM coverage
    WHERE time >= ` + at("from") + ` AND time < ` + at("to") + `
    GROUP BY agent, boot
)
GROUP BY agent
ORDER BY agent
LIMIT 10000`
	var totals []AgentTotal
	err := s.query(ctx, query, params{"from": from, "to": to}, func(r driver.Rows) error {
		var t AgentTotal
		if err := r.Scan(&t.Name, &t.SeenPackets, &t.RecordedPackets, &t.OverflowPackets, &t.SkippedPackets, &t.LostBatches); err != nil {
			return err
		}
		totals = append(totals, t)
		return nil
	})
	return totals, wrap("sum up coverage", err)
}

// Traffic returns the number of flow records and bytes of [from, to), to the minute.
func (s *Store) Traffic(ctx context.Context, from, to time.Time) (records, bytes uint64, err error) {
	query := "SELECT sum(records), sum(src_bytes + dst_bytes) FROM flows_1m WHERE minute >= " + at("from") + " AND minute < " + at("to")
	err = s.queryRow(ctx, query, params{"from": from, "to": to}, &records, &bytes)
	return records, bytes, wrap("sum up traffic", err)
}
