package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Agents returns the agents that were heard of within the last day, by name.
// Rates and shares are of the last ten minutes before now. Where packets are
// sampled, the share is that of the packets taken: it estimates that of all.
func (s *Store) Agents(ctx context.Context, now time.Time) ([]Agent, error) {
	const query = `
WITH ` + "fromUnixTimestamp64Milli({now:Int64}, 'UTC')" + ` AS now, now - INTERVAL 10 MINUTE AS recent
SELECT
    agent,
    argMaxIf(agent_version, time, is_drain),
    maxIf(time, is_drain) AS beat,
    maxIf(received, is_drain),
    sumIf(flows, first AND time > recent) / seconds,
    8 * sumIf(seen_bytes, time > recent) / seconds,
    if(ip = 0, 1, sumIf(recorded_packets, time > recent) / ip),
    sumIf(overflow_packets, time > recent) AS overflow,
    toUInt64(sum(gaps)),
    arraySum(mapValues(argMaxIf(losses, time, is_drain))),
    sumIf(recorded_packets, time > recent) + overflow AS ip,
    greatest(sumIf(interval_ms, first AND time > recent) / 1000, 1) AS seconds
FROM
(
    SELECT *, ` + isDrain + ` AS is_drain,
        row_number() OVER (PARTITION BY agent, boot, sequence ORDER BY interface, direction) = 1 AS first,
        if(first AND time > recent, greatest(toInt64(sequence) - toInt64(lagInFrame(sequence, 1, sequence) OVER
            (PARTITION BY agent, boot ORDER BY sequence ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) - 1, 0), 0) AS gaps
    FROM coverage
    WHERE time > now - INTERVAL 1 DAY
)
GROUP BY agent
HAVING countIf(is_drain) > 0
ORDER BY agent
LIMIT 10000`
	var agents []Agent
	err := s.query(ctx, query, params{"now": now}, func(r driver.Rows) error {
		var (
			a           Agent
			ip          uint64
			secondsSeen float64
		)
		if err := r.Scan(&a.Name, &a.Version, &a.LastBeat, &a.Received, &a.FlowsPerS, &a.BitsPerS, &a.Coverage, &a.Overflow,
			&a.Gaps, &a.Losses, &ip, &secondsSeen); err != nil {
			return err
		}
		a.LastBeat, a.Received = a.LastBeat.UTC(), a.Received.UTC()
		agents = append(agents, a)
		return nil
	})
	if err == nil {
		err = s.watched(ctx, agents, now)
	}
	return agents, wrap("list agents", err)
}

// watched tells for each agent, which are in order of their names, the
// interfaces that its drains of the last interval and a half tell of, those of
// other network namespaces as name@namespace. Not every batch of a drain tells of them.
func (s *Store) watched(ctx context.Context, agents []Agent, now time.Time) error {
	query := `
SELECT agent, arraySlice(arraySort(groupUniqArray(2048)(name)), 1, {limit:UInt32}), uniqExact(name)
FROM
(
    SELECT agent, if(netns = '', interface, concat(interface, '@', netns)) AS name, max(time) AS seen, max(max(time)) OVER (PARTITION BY agent) AS beat,
        argMax(argMax(interval_ms, time), max(time)) OVER (PARTITION BY agent) AS step
    FROM coverage
    WHERE ` + isDrain + ` AND time > ` + at("now") + ` - INTERVAL 10 MINUTE
    GROUP BY agent, interface, netns
)
WHERE name != '' AND dateDiff('millisecond', seen, beat) <= 1.5 * step
GROUP BY agent
ORDER BY agent
LIMIT 10000`
	return s.query(ctx, query, params{"now": now, "limit": MaxInterfaces}, func(r driver.Rows) error {
		var (
			agent string
			names []string
			count uint64
		)
		if err := r.Scan(&agent, &names, &count); err != nil {
			return err
		}
		if i, ok := slices.BinarySearchFunc(agents, agent, func(a Agent, name string) int { return strings.Compare(a.Name, name) }); ok {
			agents[i].Interfaces, agents[i].InterfaceCount = names, count
		}
		return nil
	})
}

// Throughput returns one point a minute of [from, to), minutes without flows
// included. Traffic that several agents saw counts once for each.
func (s *Store) Throughput(ctx context.Context, from, to time.Time) ([]ThroughputPoint, error) {
	from, to = from.UTC().Truncate(time.Minute), to.UTC()
	query := `
SELECT minute, sum(src_bytes + dst_bytes), sum(src_packets + dst_packets), sum(records), sum(connections)
FROM flows_1m
WHERE minute >= ` + at("from") + ` AND minute < ` + at("to") + `
GROUP BY minute
ORDER BY minute
LIMIT 100000`
	var points []ThroughputPoint
	err := s.query(ctx, query, params{"from": from, "to": to}, func(r driver.Rows) error {
		var p ThroughputPoint
		if err := r.Scan(&p.Minute, &p.Bytes, &p.Packets, &p.Records, &p.Flows); err != nil {
			return err
		}
		p.Minute = p.Minute.UTC()
		points = append(points, p)
		return nil
	})
	if err != nil {
		return nil, wrap("read throughput", err)
	}
	return fillMinutes(points, from, to), nil
}

// fillMinutes adds the minutes that have no row.
func fillMinutes(points []ThroughputPoint, from, to time.Time) []ThroughputPoint {
	all := make([]ThroughputPoint, 0, max(0, min(int(to.Sub(from)/time.Minute)+1, 100_000)))
	for minute := from; minute.Before(to) && len(all) < 100_000; minute = minute.Add(time.Minute) {
		p := ThroughputPoint{Minute: minute}
		if len(points) > 0 && points[0].Minute.Equal(minute) {
			p, points = points[0], points[1:]
		}
		all = append(all, p)
	}
	return all
}

// Ingest returns up to when there is something of the agents in the store.
func (s *Store) Ingest(ctx context.Context, now time.Time) (Ingest, error) {
	var i Ingest
	query := `
SELECT max(time), uniqExact(agent, boot, sequence)
FROM coverage
WHERE ` + isDrain + ` AND time > ` + at("now") + ` - INTERVAL 5 MINUTE`
	if err := s.queryRow(ctx, query, params{"now": now}, &i.Newest, &i.Batches); err != nil {
		return i, wrap("read what is stored last", err)
	}
	if i.Batches == 0 {
		i.Newest = time.Time{}
	}
	i.Newest = i.Newest.UTC()
	var err error
	i.Watermark, err = s.Watermark(ctx, DefaultWatermark(now))
	return i, err
}

// TopTalkers returns the pairs that exchanged the most bytes in [from, to). Of
// traffic that several agents saw, the agent that saw the most counts.
func (s *Store) TopTalkers(ctx context.Context, from, to time.Time, limit int) ([]Talker, error) {
	query := `
SELECT src_ip, dst_ip, dst_port, proto,
    tupleElement(argMax((sb, db, c), sb + db) AS best, 1), tupleElement(best, 2), tupleElement(best, 3)
FROM
(
    SELECT agent, src_ip, dst_ip, dst_port, proto, sum(src_bytes) AS sb, sum(dst_bytes) AS db, sum(connections) AS c
    FROM flows_1m
    WHERE minute >= ` + at("from") + ` AND minute < ` + at("to") + `
    GROUP BY agent, src_ip, dst_ip, dst_port, proto
)
GROUP BY src_ip, dst_ip, dst_port, proto
ORDER BY max(sb + db) DESC, src_ip, dst_ip, dst_port
LIMIT {limit:UInt32}`
	var talkers []Talker
	err := s.query(ctx, query, params{"from": from, "to": to, "limit": min(max(limit, 1), 1000)}, func(r driver.Rows) error {
		var (
			t        Talker
			src, dst address
		)
		if err := r.Scan(&src, &dst, &t.Port, &t.Proto, &t.SrcBytes, &t.DstBytes, &t.Flows); err != nil {
			return err
		}
		t.Src, t.Dst = src.String(), dst.String()
		talkers = append(talkers, t)
		return nil
	})
	return talkers, wrap("list top talkers", err)
}
