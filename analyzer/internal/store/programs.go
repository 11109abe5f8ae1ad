package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Program is one that talked from an address, or was talked to there.
type Program struct {
	Side
	Server bool   // it took the connections; otherwise it opened them
	Bytes  uint64 // both ways
}

// Programs returns, for each address, the programs with the most traffic in
// [from, to), at most each of them. What is no address has none.
func (s *Store) Programs(ctx context.Context, from, to time.Time, addresses []string, each int) (map[string][]Program, error) {
	asked := make([]string, 0, len(addresses))
	for _, a := range addresses {
		if parsed, err := netip.ParseAddr(a); err == nil && parsed.Zone() == "" {
			asked = append(asked, parsed.String())
		}
	}
	programs := make(map[string][]Program)
	if len(asked) == 0 {
		return programs, nil
	}
	query := `
WITH arrayMap(a -> toIPv6(a), {addresses:Array(String)}) AS asked
SELECT ip, process, unit, container, pod, server, sum(bytes) AS total
FROM
(
    SELECT src_ip AS ip, src_process AS process, src_unit AS unit, src_container AS container, src_pod AS pod, false AS server, src_bytes + dst_bytes AS bytes
    FROM flows
    WHERE ` + inWindow + ` AND src_pid > 0 AND has(asked, src_ip)
    UNION ALL
    SELECT dst_ip, dst_process, dst_unit, dst_container, dst_pod, true, src_bytes + dst_bytes
    FROM flows
    WHERE ` + inWindow + ` AND dst_pid > 0 AND has(asked, dst_ip)
)
GROUP BY ip, process, unit, container, pod, server
ORDER BY ip, total DESC, process, server
LIMIT {each:UInt32} BY ip`
	err := s.query(ctx, query, params{"from": from, "to": to, "addresses": asked, "each": min(max(each, 1), 100)}, func(r driver.Rows) error {
		var (
			p  Program
			ip address
		)
		if err := r.Scan(&ip, &p.Process, &p.Unit, &p.Container, &p.Pod, &p.Server, &p.Bytes); err != nil {
			return err
		}
		p.Address = ip.String()
		programs[p.Address] = append(programs[p.Address], p)
		return nil
	})
	return programs, wrap("list programs", err)
}
