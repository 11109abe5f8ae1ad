package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Conditions on rows of flows that several queries share.
const (
	// inWindow holds for records that began in the window of the parameters.
	inWindow = "start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND start < fromUnixTimestamp64Milli({to:Int64}, 'UTC')"
	// begun holds for the first record of a conversation that the initiator was
	// seen to open. It keeps out answers to packets that others forged
	// (backscatter), which have no such packet.
	begun = first + " AND (proto != 6 OR " + sentSYN + ")"
	// first holds for the first record of a conversation whose initiator is known
	// and sent something.
	first = "age_ms = 0 AND initiator != 'unknown' AND src_packets > 0"
	// sentSYN holds for TCP records in which the initiator's SYN was seen.
	sentSYN = "bitAnd(src_flags, 2) = 2"
	// halfOpen holds for TCP conversations whose initiator did not complete the
	// handshake: unanswered, refused, or a SYN that no ACK followed.
	halfOpen = "(conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH') OR bitAnd(src_flags, 18) = 2)"
	// failed holds for conversations without a useful answer.
	failed = "if(proto = 6, " + halfOpen + ", dst_packets = 0)"
	// answeredSYN holds for TCP records in which the responder accepted the connection.
	answeredSYN = "bitAnd(dst_flags, 18) = 18"
	// isDrain holds for rows of coverage that tell of a drain, and not of a batch of
	// early warnings, which is there to show gaps in the sequence.
	isDrain = "interval_ms > 0"
	// pastMinute holds for rollup rows of the past.
	pastMinute = "minute >= fromUnixTimestamp64Milli({past_from:Int64}, 'UTC') AND minute < fromUnixTimestamp64Milli({past_to:Int64}, 'UTC')"
)

// pending returns the condition of a half-open conversation that speaks of a
// flood: not of one that was refused by a service which answered somebody within
// the hour before start. A service that is gone refuses its clients; a port that
// never answered has none. table is flows_1m under the name that is in reach.
func pending(start, table string) string {
	return `(` + halfOpen + ` AND (conn_state != 'REJ' OR (dst_ip, dst_port) NOT IN (
    SELECT dst_ip, dst_port
    FROM ` + table + `
    WHERE minute >= toStartOfMinute(` + start + ` - INTERVAL 1 HOUR) AND minute <= ` + start + ` AND proto = 6
    GROUP BY dst_ip, dst_port
    HAVING sum(connections) > sum(unanswered))))`
}

func windowParams(w detect.Window) params { return params{"from": w.Start, "to": w.End} }

// count runs a query that gives one number.
func (s *Store) count(ctx context.Context, sql string, p params) (uint64, error) {
	var n uint64
	err := s.queryRow(ctx, sql, p, &n)
	return n, err
}

// texts returns addresses as the server reads them.
func texts[T any](rows []T, of func(*T) netip.Addr) []string {
	seen := make(map[netip.Addr]bool)
	var list []string
	for i := range rows {
		if a := of(&rows[i]); !seen[a] {
			seen[a] = true
			list = append(list, a.String())
		}
	}
	return list
}

// observedMinutes returns for how many minutes of [from, to) each agent has
// rollup rows at all: the minutes in which a quiet entity had zero.
func (s *Store) observedMinutes(ctx context.Context, from, to time.Time) (map[string]int, error) {
	minutes := make(map[string]int)
	sql := "SELECT agent, uniqExact(minute) FROM flows_1m WHERE " + pastMinute + " GROUP BY agent"
	err := s.query(ctx, sql, params{"past_from": from, "past_to": to}, func(r driver.Rows) error {
		var (
			agent string
			n     uint64
		)
		err := r.Scan(&agent, &n)
		minutes[agent] = int(n)
		return err
	})
	return minutes, err
}

// pad adds the minutes without rows as zeros.
func pad(past []float64, minutes int) []float64 {
	for len(past) < minutes {
		past = append(past, 0)
	}
	return past
}

func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	return wrap(fmt.Sprintf("query %s", what), err)
}
