package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/beacon"
)

// answered holds for the first records of conversations that got an answer.
const answered = inWindow + " AND " + begun + " AND dst_packets > 0 AND proto IN (6, 17) AND dst_port > 0 AND NOT (proto = 6 AND " + halfOpen + ")"

// Conversations implements beacon.Source.
func (s *Store) Conversations(ctx context.Context, w detect.Window, minStarts, maxStarts, limit int) ([]beacon.Row, error) {
	p := windowParams(w)
	p["least"], p["most"], p["limit"] = minStarts, maxStarts, limit
	var rows []beacon.Row
	err := s.query(ctx, `
SELECT agent, src_ip, dst_ip, dst_port, proto, arraySort(groupArray(toUnixTimestamp64Milli(start))), sum(src_bytes + dst_bytes), count() AS n
FROM flows
WHERE `+answered+`
    AND (src_ip, dst_ip, dst_port, proto) IN
    (
        SELECT src_ip, dst_ip, dst_port, proto FROM flows WHERE `+answered+`
        GROUP BY agent, interface, src_ip, dst_ip, dst_port, proto
        HAVING count() BETWEEN {least:UInt64} AND {most:UInt64}
    )
GROUP BY agent, interface, src_ip, dst_ip, dst_port, proto
HAVING n BETWEEN {least:UInt64} AND {most:UInt64}
ORDER BY n DESC, agent, src_ip, dst_ip, dst_port
LIMIT 1 BY src_ip, dst_ip, dst_port, proto
LIMIT {limit:UInt64}`, p, func(r driver.Rows) error {
		var (
			row      beacon.Row
			src, dst address
			starts   []int64
			n        uint64
		)
		if err := r.Scan(&row.Agent, &src, &dst, &row.Port, &row.Proto, &starts, &row.Bytes, &n); err != nil {
			return err
		}
		row.Src, row.Dst, row.Starts = src.Addr, dst.Addr, make([]time.Time, len(starts))
		for i, ms := range starts {
			row.Starts[i] = time.UnixMilli(ms).UTC()
		}
		rows = append(rows, row)
		return nil
	})
	return rows, doing("conversations", err)
}

// Clients implements beacon.Source. It counts by the rollup, to the minute.
func (s *Store) Clients(ctx context.Context, w detect.Window, services []beacon.Service) (map[beacon.Service]uint64, error) {
	clients := make(map[beacon.Service]uint64)
	p := params{"past_from": w.Start, "past_to": w.End, "dst": texts(services, func(s *beacon.Service) netip.Addr { return s.Addr })}
	err := s.query(ctx, `
SELECT dst_ip, dst_port, proto, uniqCombined(src_ip)
FROM flows_1m
WHERE `+pastMinute+` AND connections > 0 AND has(arrayMap(a -> toIPv6(a), {dst:Array(String)}), dst_ip)
GROUP BY dst_ip, dst_port, proto`, p, func(r driver.Rows) error {
		var (
			service beacon.Service
			dst     address
			n       uint64
		)
		err := r.Scan(&dst, &service.Port, &service.Proto, &n)
		service.Addr = dst.Addr
		clients[service] = n
		return err
	})
	return clients, doing("clients of services", err)
}
