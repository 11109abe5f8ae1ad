package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/exfiltration"
)

// transferred holds for records of conversations that the responder takes part
// in: a flood of SYNs or of unanswered datagrams carries nothing away.
const (
	transferred = inWindow + " AND " + carried
	carried     = "initiator != 'unknown' AND dst_packets > 0 AND (proto != 6 OR bitAnd(src_flags, 16) = 16)"
)

// Transfers implements exfiltration.Source.
func (s *Store) Transfers(ctx context.Context, q exfiltration.Query) ([]exfiltration.Row, uint64, error) {
	const what = "transfers"
	p := windowParams(q.Window)
	p["least"], p["pcr"], p["limit"] = q.MinBytes, q.MinPCR, q.Limit
	var rows []exfiltration.Row
	err := s.query(ctx, `
SELECT agent, src_ip, dst_ip, argMax(dst_port, src_bytes), sum(src_bytes) AS outward, sum(dst_bytes) AS inward,
    quantileExactWeighted(0.05)(start, src_bytes), quantileExactWeighted(0.95)(end, src_bytes)
FROM flows
WHERE `+transferred+`
GROUP BY agent, interface, src_ip, dst_ip
HAVING outward >= {least:UInt64} AND (toInt64(outward) - toInt64(inward)) / (outward + inward) >= {pcr:Float64}
ORDER BY outward DESC, agent, src_ip, dst_ip
LIMIT 1 BY src_ip, dst_ip
LIMIT {limit:UInt64}`, p, func(r driver.Rows) error {
		var (
			row      exfiltration.Row
			src, dst address
		)
		if err := r.Scan(&row.Agent, &src, &dst, &row.Port, &row.OutBytes, &row.InBytes, &row.First, &row.Last); err != nil {
			return err
		}
		row.Src, row.Dst, row.First, row.Last = src.Addr, dst.Addr, row.First.UTC(), row.Last.UTC()
		rows = append(rows, row)
		return nil
	})
	if err != nil || len(rows) == 0 {
		return nil, 0, doing(what, err)
	}
	tested, err := s.count(ctx, "SELECT uniqCombined(src_ip, dst_ip) FROM flows WHERE "+transferred, windowParams(q.Window))
	if err == nil {
		err = s.pastTransfers(ctx, q, rows)
	}
	if err == nil {
		err = s.pairPeaks(ctx, q, rows)
	}
	if err == nil {
		err = s.sides(ctx, q, rows)
	}
	return rows, tested, doing("past "+what, err)
}

// hostKey is one address as one agent sees it.
type hostKey struct {
	agent string
	addr  netip.Addr
}

func sources(rows []exfiltration.Row) []string {
	return texts(rows, func(r *exfiltration.Row) netip.Addr { return r.Src })
}

// pastTransfers fills in what each source sent in the minutes of the past.
func (s *Store) pastTransfers(ctx context.Context, q exfiltration.Query, rows []exfiltration.Row) error {
	observed, err := s.observedMinutes(ctx, q.PastFrom, q.PastTo)
	if err != nil {
		return err
	}
	past := make(map[hostKey][]float64)
	err = s.query(ctx, `
SELECT agent, src_ip, toFloat64(sum(src_bytes))
FROM flows_1m
WHERE `+pastMinute+` AND has(arrayMap(a -> toIPv6(a), {src:Array(String)}), src_ip)
GROUP BY agent, src_ip, minute`, params{"past_from": q.PastFrom, "past_to": q.PastTo, "src": sources(rows)}, func(r driver.Rows) error {
		var (
			k   hostKey
			src address
			n   float64
		)
		err := r.Scan(&k.agent, &src, &n)
		k.addr = src.Addr
		past[k] = append(past[k], n)
		return err
	})
	for i, r := range rows {
		rows[i].Past = pad(past[hostKey{r.Agent, r.Src}], observed[r.Agent])
	}
	return err
}

// pairPeaks fills in the most that each pair moved in one minute of its past.
func (s *Store) pairPeaks(ctx context.Context, q exfiltration.Query, rows []exfiltration.Row) error {
	type key struct {
		agent    string
		src, dst netip.Addr
	}
	peaks := make(map[key]float64)
	err := s.query(ctx, `
SELECT agent, src_ip, dst_ip, toFloat64(max(n))
FROM
(
    SELECT agent, src_ip, dst_ip, sum(src_bytes) AS n
    FROM flows_1m
    WHERE `+pastMinute+` AND has(arrayMap(a -> toIPv6(a), {src:Array(String)}), src_ip) AND has(arrayMap(a -> toIPv6(a), {dst:Array(String)}), dst_ip)
    GROUP BY agent, src_ip, dst_ip, minute
)
GROUP BY agent, src_ip, dst_ip`, params{
		"past_from": q.PairFrom, "past_to": q.PastTo, "src": sources(rows),
		"dst": texts(rows, func(r *exfiltration.Row) netip.Addr { return r.Dst }),
	}, func(r driver.Rows) error {
		var (
			k        key
			src, dst address
			n        float64
		)
		err := r.Scan(&k.agent, &src, &dst, &n)
		k.src, k.dst = src.Addr, dst.Addr
		peaks[k] = n
		return err
	})
	for i, r := range rows {
		rows[i].PairPeak = peaks[key{r.Agent, r.Src, r.Dst}]
	}
	return err
}

// sides fills in how many records of the agent each end of a transfer is in.
func (s *Store) sides(ctx context.Context, q exfiltration.Query, rows []exfiltration.Row) error {
	records := make(map[hostKey]uint64)
	ends := append(sources(rows), texts(rows, func(r *exfiltration.Row) netip.Addr { return r.Dst })...)
	err := s.query(ctx, `
WITH arrayMap(a -> toIPv6(a), {ends:Array(String)}) AS ends
SELECT agent, ip, sum(records)
FROM flows_1m
ARRAY JOIN arrayFilter(a -> has(ends, a), arrayDistinct([src_ip, dst_ip])) AS ip
WHERE `+pastMinute+`
GROUP BY agent, ip`, params{"past_from": q.End.Add(-time.Hour), "past_to": q.End, "ends": ends}, func(r driver.Rows) error {
		var (
			k  hostKey
			ip address
			n  uint64
		)
		err := r.Scan(&k.agent, &ip, &n)
		k.addr = ip.Addr
		records[k] = n
		return err
	})
	for i, r := range rows {
		rows[i].SrcRecords, rows[i].DstRecords = records[hostKey{r.Agent, r.Src}], records[hostKey{r.Agent, r.Dst}]
	}
	return err
}
