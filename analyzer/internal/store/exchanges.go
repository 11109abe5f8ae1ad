package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Side is one side of conversations. What is not known is empty: the process is
// known for sockets of a host with an agent. All names are what others chose.
type Side struct {
	Address   string
	Process   string // name of the process that moved the most bytes
	Unit      string // its systemd unit
	Container string // its container
	Pod       string // its Kubernetes pod
}

// Exchange is what one client did with one service (address, port and
// protocol) in a period, over all its connections.
type Exchange struct {
	Src, Dst           Side
	Port               uint16 // of Dst
	Proto              uint8
	App, ServerName    string // of the connections with the most bytes
	SrcBytes, DstBytes uint64
	Packets            uint64        // both ways
	Connections        uint64        // that began in the period
	Failed             uint64        // of these, without a useful answer
	Retransmits        uint64        // both ways
	RTT                time.Duration // smoothed, median over records; 0 is unknown
	Drops              uint64        // by the kernels of hosts with an agent, both ways
	DropReason         string        // the kernel's name of the most frequent reason
	Last               time.Time     // of the newest record
}

// Order says which exchanges come first.
type Order int

// Orders of Exchanges.
const (
	ByBytes  Order = iota // both ways, by the minute
	ByLosses              // retransmits and drops; those without any are left out
)

// Exchanges returns the first of those with records in [from, to). Of
// traffic that several agents saw, the agent that saw the most counts, and each
// may tell a side's process.
func (s *Store) Exchanges(ctx context.Context, from, to time.Time, by Order, limit int) ([]Exchange, error) {
	// The heavy ones are found in bounded memory (filtered space saving), and then
	// counted exactly; more than wanted, for several agents may see one.
	table, within, weight, order := "flows_1m", "minute >= toStartOfMinute("+at("from")+") AND minute < "+at("to"), "src_bytes + dst_bytes", "max(sb + db)"
	if by == ByLosses {
		weight, order = "src_retransmits + dst_retransmits + src_drops + dst_drops", "max(lost + dropped)"
		table, within = "flows", inWindow+" AND (src_retransmits > 0 OR dst_retransmits > 0 OR src_drops > 0 OR dst_drops > 0)"
	}
	limit = min(max(limit, 1), 1000)
	chosen := fmt.Sprintf(`
SELECT t.1, t.2, t.3, t.4
FROM (SELECT arrayJoin(topKWeighted(%d)((src_ip, dst_ip, dst_port, proto), toUInt64(%s))) AS t FROM %s WHERE %s)`, 2*limit, weight, table, within)
	query := `
SELECT src_ip, dst_ip, dst_port, proto,
    max(client.1), max(client.2), max(client.3), max(client.4), max(server.1), max(server.2), max(server.3), max(server.4),
    max(named.1), max(named.2),
    tupleElement(argMax((sb, db, packets, begun, failed, lost, rtt), sb + db) AS best, 1), best.2, best.3, best.4, best.5, best.6, best.7,
    tupleElement(argMax((dropped, reason), dropped) AS worst, 1), worst.2, max(newest)
FROM
(
    SELECT agent, src_ip, dst_ip, dst_port, proto,
        argMaxIf((src_process, src_unit, src_container, src_pod), src_bytes + dst_bytes, src_pid > 0) AS client,
        argMaxIf((dst_process, dst_unit, dst_container, dst_pod), src_bytes + dst_bytes, dst_pid > 0) AS server,
        argMaxIf((toString(app), server_name), src_bytes + dst_bytes, app != '' OR server_name != '') AS named,
        sum(src_bytes) AS sb, sum(dst_bytes) AS db, sum(src_packets + dst_packets) AS packets,
        countIf(` + first + `) AS begun, countIf(` + first + ` AND ` + failed + `) AS failed,
        sum(src_retransmits + dst_retransmits) AS lost,
        toUInt64(ifNotFinite(quantileIf(0.5)(rtt_us, rtt_us > 0), 0)) AS rtt,
        sum(src_drops + dst_drops) AS dropped, argMaxIf(drop_reason, src_drops + dst_drops, drop_reason != '') AS reason, max(start) AS newest
    FROM flows
    WHERE ` + inWindow + ` AND (src_ip, dst_ip, dst_port, proto) IN (` + chosen + `)
    GROUP BY agent, src_ip, dst_ip, dst_port, proto
)
GROUP BY src_ip, dst_ip, dst_port, proto
ORDER BY ` + order + ` DESC, src_ip, dst_ip, dst_port
LIMIT {limit:UInt32}`
	var list []Exchange
	err := s.query(ctx, query, params{"from": from, "to": to, "limit": limit}, func(r driver.Rows) error {
		var (
			c        Exchange
			src, dst address
			rttUS    uint64
		)
		err := r.Scan(&src, &dst, &c.Port, &c.Proto,
			&c.Src.Process, &c.Src.Unit, &c.Src.Container, &c.Src.Pod, &c.Dst.Process, &c.Dst.Unit, &c.Dst.Container, &c.Dst.Pod,
			&c.App, &c.ServerName, &c.SrcBytes, &c.DstBytes, &c.Packets, &c.Connections, &c.Failed, &c.Retransmits, &rttUS,
			&c.Drops, &c.DropReason, &c.Last)
		if err != nil {
			return err
		}
		c.Src.Address, c.Dst.Address = src.String(), dst.String()
		c.RTT, c.Last = time.Duration(rttUS)*time.Microsecond, c.Last.UTC()
		list = append(list, c)
		return nil
	})
	return list, wrap("list exchanges", err)
}
