package store

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/scan"
)

// probes are the first records that can be probes. A UDP answer whose question
// the agent did not see goes to a port of the ephemeral range, so that is left
// out: it would make a scanner of a DNS server.
const probes = inWindow + " AND " + begun + ` AND (proto = 6 OR proto = 17 AND dst_port > 0 AND dst_port < 32768
	OR proto = 1 AND icmp_type = 8 OR proto = 58 AND icmp_type = 128)`

// targets is the query for probes by target: a target failed if every
// conversation with it did, whoever saw it; it is open if it failed and yet
// accepted a connection; attempts are those of the agent that
// saw the most; first is when it was tried first.
const targets = `
    SELECT src_ip, dst_ip, proto, dst_port, min(failed) AS failed, failed AND max(accepted) AS open,
        max(attempts) AS attempts, min(first) AS first, groupUniqArray(4)(agent) AS agents
    FROM
    (
        SELECT agent, interface, src_ip, dst_ip, proto, dst_port, min(` + failed + `) AS failed,
            max(proto = 6 AND ` + answeredSYN + `) AS accepted, count() AS attempts, min(start) AS first
        FROM flows
        WHERE ` + probes + `
        GROUP BY agent, interface, src_ip, dst_ip, proto, dst_port
    )
    GROUP BY src_ip, dst_ip, proto, dst_port`

// dated names when a scan began and ended: when the first and the last target
// was tried for the first time. Only targets that failed count, and of these
// those that were tried as often as a scanner does it (nmap: at most eleven
// times), not flooded or retried; where there are none of these, all that failed.
const dated = `WITH
    failed AND attempts <= 11 AS probed,
    if(countIf(probed) > 0, minIf(first, probed), minIf(first, failed)) AS began,
    if(countIf(probed) > 0, maxIf(first, probed), maxIf(first, failed)) AS ended
`

const scanTotals = `count() AS targets, sum(failed) AS failures, toUInt64(sum(open)), sum(attempts), began, ended,
    if(length(arrayDistinct(arrayFlatten(groupArray(agents)))) = 1, any(agents)[1], '')`

// PortScans implements scan.Source.
func (s *Store) PortScans(ctx context.Context, w detect.Window, minFailed uint64, limit int) ([]scan.Row, uint64, error) {
	return s.scans(ctx, "port scans", dated+`SELECT src_ip, dst_ip, toUInt8(0), toUInt16(0), `+scanTotals+`
FROM (`+targets+`)
WHERE proto IN (6, 17)
GROUP BY src_ip, dst_ip
HAVING failures >= {least:UInt64}
ORDER BY failures DESC, src_ip, dst_ip
LIMIT {limit:UInt64}`, "SELECT uniqCombined(src_ip, dst_ip) FROM flows WHERE "+probes, w, minFailed, limit)
}

// HostScans implements scan.Source.
func (s *Store) HostScans(ctx context.Context, w detect.Window, minFailed uint64, limit int) ([]scan.Row, uint64, error) {
	return s.scans(ctx, "host scans", dated+`SELECT src_ip, toIPv6('::'), proto, dst_port, `+scanTotals+`
FROM (`+targets+`)
GROUP BY src_ip, proto, dst_port
HAVING failures >= {least:UInt64}
ORDER BY failures DESC, src_ip, proto, dst_port
LIMIT {limit:UInt64}`, "SELECT uniqCombined(src_ip, proto, dst_port) FROM flows WHERE "+probes, w, minFailed, limit)
}

func (s *Store) scans(ctx context.Context, what, sql, all string, w detect.Window, minFailed uint64, limit int) ([]scan.Row, uint64, error) {
	p := windowParams(w)
	p["least"], p["limit"] = minFailed, limit
	var rows []scan.Row
	err := s.query(ctx, sql, p, func(r driver.Rows) error {
		var (
			row      scan.Row
			src, dst address
		)
		if err := r.Scan(&src, &dst, &row.Proto, &row.Port, &row.Targets, &row.Failed, &row.Open, &row.Attempts, &row.First, &row.Last, &row.Agent); err != nil {
			return err
		}
		row.Src, row.First, row.Last = src.Addr, row.First.UTC(), row.Last.UTC()
		if !dst.IsUnspecified() {
			row.Dst = dst.Addr
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil || len(rows) == 0 {
		return nil, 0, doing(what, err)
	}
	tested, err := s.count(ctx, all, windowParams(w))
	return rows, tested, doing(what, err)
}

// Spills implements scan.Source.
func (s *Store) Spills(ctx context.Context, w detect.Window, minTargets uint64, limit int) ([]scan.Spill, error) {
	p := windowParams(w)
	p["least"], p["limit"] = minTargets, limit
	var rows []scan.Spill
	err := s.query(ctx, `
WITH spills AS
(
    SELECT agent, addr, max(targets) AS most, max(overflow_packets) AS packets, min(time - INTERVAL interval_ms MILLISECOND) AS first, max(time) AS last
    FROM sources
    WHERE time > `+at("from")+` AND time <= `+at("to")+` AND NOT others AND overflow_packets > 0
    GROUP BY agent, addr
    HAVING most >= {least:UInt64}
)
SELECT agent, addr, most, packets, first, last
FROM spills
WHERE addr NOT IN (
    SELECT address
    FROM
    (
        SELECT src_ip AS address, 1 AS opened FROM flows WHERE `+inWindow+` AND src_ip IN (SELECT addr FROM spills)
        UNION ALL
        SELECT dst_ip, -1 FROM flows WHERE `+inWindow+` AND dst_ip IN (SELECT addr FROM spills)
    )
    GROUP BY address
    HAVING sum(opened) < 0)
ORDER BY most DESC, agent, addr
LIMIT 1 BY addr
LIMIT {limit:UInt64}`, p, func(r driver.Rows) error {
		var (
			row scan.Spill
			src address
		)
		if err := r.Scan(&row.Agent, &src, &row.Targets, &row.Packets, &row.First, &row.Last); err != nil {
			return err
		}
		row.Src, row.First, row.Last = src.Addr, row.First.UTC(), row.Last.UTC()
		rows = append(rows, row)
		return nil
	})
	return rows, doing("what found no room", err)
}
