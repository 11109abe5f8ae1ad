package store

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	// MaxSkew is how much older than their receipt the batches of an agent may be
	// for good without it being Late.
	MaxSkew = 30 * time.Second
	// MaxGap is how long a missing batch is waited for after the one behind it
	// was received. It exceeds the collector's ack_wait.
	MaxGap = 90 * time.Second

	// skewSpan is the time of receipts from which it is judged whether an agent is
	// late for good, and newcomer how much of it there must be: the first batches
	// of an agent that was cut off are old as well.
	skewSpan, newcomer = 30 * time.Second, 10 * time.Second
	// catchUpIn is in how long an agent that works off what it kept must be done,
	// at its present pace, for the others to wait for it.
	catchUpIn = 5 * time.Minute
)

// Beat is how far the data of one agent is stored.
type Beat struct {
	Agent    string
	Complete time.Time     // beginning of the drain before its first missing batch, or end of its last drain
	Received time.Time     // of its newest drain
	Skew     time.Duration // receipt minus time of that batch: large for a slow clock or old data, negative for a clock that is ahead
	Missing  uint64        // batches of its present run that are missing among those of the last ten minutes
	LostGaps uint64        // gaps among them that were waited for in vain: what they held is in no window yet
	Late     bool          // its data is older than MaxSkew for good, so nobody waits for it
	Holds    bool          // the watermark waits for it
}

// Beats returns the agents of the last day by name, and for each whether the
// watermark waits for it.
//
// It does not wait for an agent that is behind the others by more than
// StaleAfter both in data time and in time of receipt: a clock that is ahead on
// one host thus excludes nobody, and a collector that works off a backlog delays
// the watermark instead of skipping over what it has not stored. Nor does it
// wait for one whose clock is slow or whose data is late for good, unless that
// is so for all.
//
// A missing batch of an agent's present run holds it before the last drain in
// front, for MaxGap; but not if it lost others for good within ten minutes, for
// then it will hardly find these. Batches of early warnings, which end no drain,
// count for gaps and for nothing else; one of them that is missing cannot be
// told from a drain.
//
// The IN is GLOBAL because in a cluster ClickHouse makes only those global by
// itself whose tables stand in the query, not those of a WITH.
func (s *Store) Beats(ctx context.Context, q WatermarkQuery) ([]Beat, error) {
	query := `
WITH
    ` + at("settled") + ` AS settled,
    ` + at("now") + ` - INTERVAL 1 DAY AS since,
    settled - INTERVAL {span:Int64} MILLISECOND AS lately,
    (SELECT max(received) FROM coverage WHERE received > since AND received <= settled) AS newest,
    greatest(newest, settled - INTERVAL {gap:Int64} MILLISECOND) - INTERVAL {gap:Int64} MILLISECOND AS gives_up,
    coverage_10m AS (SELECT * FROM coverage WHERE time > since - INTERVAL 1 DAY AND received > newest - INTERVAL 10 MINUTE AND received <= settled)
SELECT a.agent, a.beat, a.got, a.skew, a.least_skew, a.received_span, a.time_span, g.missing, g.lost, if(g.lost = 0 AND g.open > 0, least(g.before, a.beat), a.beat)
FROM
(
    SELECT agent, max(time) AS beat, max(received) AS got,
        toInt64(argMax(dateDiff('millisecond', time, received), received)) AS skew,
        toInt64(minIf(dateDiff('millisecond', time, received), received > lately)) AS least_skew,
        toInt64(dateDiff('millisecond', minIf(received, received > lately), maxIf(received, received > lately))) AS received_span,
        toInt64(dateDiff('millisecond', minIf(time, received > lately), maxIf(time, received > lately))) AS time_span
    FROM coverage
    WHERE time > since - INTERVAL 1 DAY AND received > since AND received <= settled AND ` + isDrain + `
    GROUP BY agent
) AS a
LEFT JOIN
(
    SELECT agent, sum(gone) AS missing, countIf(got > gives_up) AS open, countIf(got <= gives_up) AS lost, minIf(front, got > gives_up) AS before
    FROM
    (
        SELECT agent, got, toUInt64(toInt64(sequence) - lagInFrame(toInt64(sequence), 1, toInt64(sequence) - 1) OVER run - 1) AS gone,
            if(countIf(length > 0) OVER ahead > 0, argMaxIf(began, sequence, length > 0) OVER ahead,
                lagInFrame(began, 1) OVER run - INTERVAL max(length) OVER run MILLISECOND) AS front
        FROM
        (
            SELECT agent, sequence, min(received) AS got, max(interval_ms) AS length, min(time) - INTERVAL length MILLISECOND AS began
            FROM coverage_10m
            WHERE (agent, boot) GLOBAL IN (SELECT agent, argMax(boot, received) FROM coverage_10m GROUP BY agent)
            GROUP BY agent, sequence
        )
        WINDOW run AS (PARTITION BY agent ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING),
            ahead AS (PARTITION BY agent ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    WHERE gone > 0
    GROUP BY agent
) AS g ON a.agent = g.agent
ORDER BY a.agent
LIMIT 10000`
	p := params{"now": q.Now, "settled": q.Now.Add(-q.Settle), "span": skewSpan.Milliseconds(), "gap": MaxGap.Milliseconds()}
	var (
		beats []Beat
		ends  []time.Time // of the last drains
	)
	err := s.query(ctx, query, p, func(r driver.Rows) error {
		var (
			b                       Beat
			end                     time.Time
			skew, least, span, went int64
		)
		if err := r.Scan(&b.Agent, &end, &b.Received, &skew, &least, &span, &went, &b.Missing, &b.LostGaps, &b.Complete); err != nil {
			return err
		}
		b.Complete, b.Received, b.Skew = b.Complete.UTC(), b.Received.UTC(), time.Duration(skew)*time.Millisecond
		b.Late = late(b.Skew, time.Duration(least)*time.Millisecond, time.Duration(span)*time.Millisecond, time.Duration(went)*time.Millisecond)
		beats, ends = append(beats, b), append(ends, end)
		return nil
	})
	hold(beats, ends, q.StaleAfter)
	return beats, wrap("read how far the agents are", err)
}

// late reports whether an agent's data is old and stays so: it was older than
// least within span, during which its data time went on by went.
func late(skew, least, span, went time.Duration) bool {
	if least <= MaxSkew || span < newcomer {
		return false
	}
	return float64(went-span)*float64(catchUpIn) < float64(skew)*float64(span)
}

// hold sets Holds.
func hold(beats []Beat, ends []time.Time, staleAfter time.Duration) {
	var newest, received time.Time
	punctual := false
	for i, b := range beats {
		if ends[i].After(newest) {
			newest = ends[i]
		}
		if b.Received.After(received) {
			received = b.Received
		}
	}
	for i := range beats {
		b := &beats[i]
		b.Holds = received.Sub(b.Received) <= staleAfter || newest.Sub(ends[i]) <= staleAfter
		punctual = punctual || b.Holds && !b.Late
	}
	for i := range beats {
		beats[i].Holds = beats[i].Holds && (!punctual || !beats[i].Late)
	}
}

// WatermarkOf returns the smallest Complete of those that hold, the zero time
// if there are none.
func WatermarkOf(beats []Beat) time.Time {
	var mark time.Time
	for _, b := range beats {
		if b.Holds && (mark.IsZero() || b.Complete.Before(mark)) {
			mark = b.Complete
		}
	}
	return mark
}
