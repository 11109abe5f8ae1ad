package store

import (
	"context"
	"net/netip"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/volume"
)

const (
	attempts = inWindow + " AND proto = 6 AND " + sentSYN + " AND " + first
	// oneWay holds for records of traffic that is not answered. ICMP errors are
	// left out: they are answers to something else.
	oneWay = "(proto = 17 AND dst_packets = 0 OR proto = 1 AND icmp_type = 8 OR proto = 58 AND icmp_type = 128)"
)

// Targets implements volume.Source.
func (s *Store) Targets(ctx context.Context, q volume.Query, minHalfOpen uint64) ([]volume.Target, uint64, error) {
	const what = "connection attempts"
	p := windowParams(q.Window)
	p["least"], p["limit"] = minHalfOpen, q.Limit
	var rows []volume.Target
	err := s.query(ctx, `
WITH `+pending(at("from"), "flows_1m")+` AS half_open, topKIf(10, 3, 'counts')(src_ip, half_open)[1] AS top
SELECT agent, dst_ip, dst_port, count(), countIf(half_open) AS half, uniqCombinedIf(src_ip, half_open),
    top.1, toUInt64(top.2 - top.3), minIf(start, half_open), maxIf(start, half_open)
FROM flows
WHERE `+attempts+`
GROUP BY agent, interface, dst_ip, dst_port
HAVING half >= {least:UInt64}
ORDER BY half DESC, agent, dst_ip, dst_port
LIMIT 1 BY dst_ip, dst_port
LIMIT {limit:UInt64}`, p, func(r driver.Rows) error {
		var (
			row      volume.Target
			dst, top address
		)
		if err := r.Scan(&row.Agent, &dst, &row.Port, &row.Started, &row.HalfOpen, &row.Sources, &top, &row.FromTop, &row.First, &row.Last); err != nil {
			return err
		}
		row.Dst, row.TopSource, row.First, row.Last = dst.Addr, top.Addr, row.First.UTC(), row.Last.UTC()
		rows = append(rows, row)
		return nil
	})
	if err != nil || len(rows) == 0 {
		return nil, 0, doing(what, err)
	}
	tested, err := s.count(ctx, "SELECT uniqCombined(dst_ip, dst_port) FROM flows WHERE "+attempts, windowParams(q.Window))
	if err != nil {
		return nil, 0, doing(what, err)
	}
	return rows, tested, doing("past "+what, s.pastTargets(ctx, q, rows))
}

// pastTargets fills in the pasts of rows.
func (s *Store) pastTargets(ctx context.Context, q volume.Query, rows []volume.Target) error {
	observed, err := s.observedMinutes(ctx, q.PastFrom, q.PastTo)
	if err != nil {
		return err
	}
	type key struct {
		agent string
		dst   netip.Addr
		port  uint16
	}
	past := make(map[key][]float64)
	p := params{"past_from": q.PastFrom, "past_to": q.PastTo, "dst": texts(rows, func(r *volume.Target) netip.Addr { return r.Dst })}
	err = s.query(ctx, `
SELECT agent, dst_ip, dst_port, toFloat64(sum(connections))
FROM flows_1m
WHERE `+pastMinute+` AND proto = 6 AND has(arrayMap(a -> toIPv6(a), {dst:Array(String)}), dst_ip)
GROUP BY agent, dst_ip, dst_port, minute`, p, func(r driver.Rows) error {
		var (
			k   key
			dst address
			n   float64
		)
		if err := r.Scan(&k.agent, &dst, &k.port, &n); err != nil {
			return err
		}
		k.dst = dst.Addr
		past[k] = append(past[k], n)
		return nil
	})
	for i, r := range rows {
		rows[i].Past = pad(past[key{r.Agent, r.Dst, r.Port}], observed[r.Agent])
	}
	return err
}

// OneWay implements volume.Source.
func (s *Store) OneWay(ctx context.Context, q volume.Query, minPackets, minBytes uint64) ([]volume.OneWay, uint64, error) {
	const what = "one-way traffic"
	p := windowParams(q.Window)
	p["packets"], p["bytes"], p["limit"] = minPackets, minBytes, q.Limit
	var rows []volume.OneWay
	err := s.query(ctx, `
WITH topKWeighted(10, 3, 'counts')(src_ip, src_packets)[1] AS top
SELECT agent, dst_ip, sum(src_packets) AS packets, sum(src_bytes) AS bytes, uniqCombined(src_ip),
    top.1, toUInt64(top.2 - top.3),
    argMax(proto, src_packets), argMax(dst_port, src_packets), min(start), max(start)
FROM flows
WHERE `+inWindow+` AND initiator != 'unknown' AND `+oneWay+`
GROUP BY agent, interface, dst_ip
HAVING packets >= {packets:UInt64} OR bytes >= {bytes:UInt64}
ORDER BY packets DESC, agent, dst_ip
LIMIT 1 BY dst_ip
LIMIT {limit:UInt64}`, p, func(r driver.Rows) error {
		var (
			row      volume.OneWay
			dst, top address
		)
		if err := r.Scan(&row.Agent, &dst, &row.Packets, &row.Bytes, &row.Sources, &top, &row.FromTop, &row.Proto, &row.Port, &row.First, &row.Last); err != nil {
			return err
		}
		row.Dst, row.TopSource, row.First, row.Last = dst.Addr, top.Addr, row.First.UTC(), row.Last.UTC()
		rows = append(rows, row)
		return nil
	})
	if err != nil || len(rows) == 0 {
		return nil, 0, doing(what, err)
	}
	tested, err := s.count(ctx, "SELECT uniqCombined(dst_ip) FROM flows WHERE "+inWindow+" AND "+oneWay, windowParams(q.Window))
	if err != nil {
		return nil, 0, doing(what, err)
	}
	return rows, tested, doing("past "+what, s.pastOneWay(ctx, q, rows))
}

// pastOneWay fills in the pasts of rows. The rollup has no ICMP type: its ICMP
// is taken as a whole, which makes the baseline larger, never smaller.
func (s *Store) pastOneWay(ctx context.Context, q volume.Query, rows []volume.OneWay) error {
	observed, err := s.observedMinutes(ctx, q.PastFrom, q.PastTo)
	if err != nil {
		return err
	}
	type key struct {
		agent string
		dst   netip.Addr
	}
	packets, bytes := make(map[key][]float64), make(map[key][]float64)
	p := params{"past_from": q.PastFrom, "past_to": q.PastTo, "dst": texts(rows, func(r *volume.OneWay) netip.Addr { return r.Dst })}
	err = s.query(ctx, `
SELECT agent, dst_ip, toFloat64(sum(src_packets)), toFloat64(sum(src_bytes))
FROM
(
    SELECT agent, dst_ip, minute, proto, sum(src_packets) AS src_packets, sum(src_bytes) AS src_bytes, sum(dst_packets) AS answers
    FROM flows_1m
    WHERE `+pastMinute+` AND proto IN (1, 17, 58) AND has(arrayMap(a -> toIPv6(a), {dst:Array(String)}), dst_ip)
    GROUP BY agent, dst_ip, minute, proto, src_ip, dst_port
    HAVING proto != 17 OR answers = 0
)
GROUP BY agent, dst_ip, minute`, p, func(r driver.Rows) error {
		var (
			k     key
			dst   address
			n, by float64
		)
		if err := r.Scan(&k.agent, &dst, &n, &by); err != nil {
			return err
		}
		k.dst = dst.Addr
		packets[k], bytes[k] = append(packets[k], n), append(bytes[k], by)
		return nil
	})
	for i, r := range rows {
		k := key{r.Agent, r.Dst}
		rows[i].Past, rows[i].PastBytes = pad(packets[k], observed[r.Agent]), pad(bytes[k], observed[r.Agent])
	}
	return err
}

// Overflow implements volume.Source.
func (s *Store) Overflow(ctx context.Context, w detect.Window) ([]volume.Overflow, error) {
	var rows []volume.Overflow
	err := s.query(ctx, `
SELECT agent, sum(overflow_packets) AS packets, sum(overflow_bytes), sum(seen_packets)
FROM coverage
WHERE time > `+at("from")+` AND time <= `+at("to")+`
GROUP BY agent
HAVING packets > 0
ORDER BY agent
LIMIT 10000`, windowParams(w), func(r driver.Rows) error {
		var row volume.Overflow
		err := r.Scan(&row.Agent, &row.Packets, &row.Bytes, &row.Seen)
		rows = append(rows, row)
		return err
	})
	return rows, doing("overflow", err)
}
