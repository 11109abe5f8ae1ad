package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// verify waits until the stream is empty, and holds the tables against what was
// sent.
func (p *play) verify(ctx context.Context, s *sent) (*result, error) {
	if err := p.drained(ctx); err != nil {
		return nil, err
	}
	r := &result{Kills: p.kills, Killed: p.killed, Seed: p.seed, Collectors: p.options.collectors, Shards: p.shards, NATSServers: p.nodes, Leaf: p.leaf, Durability: p.durability}
	if p.power {
		r.Power = &power{Cuts: len(p.cuts), LeftInStream: p.left}
	}
	// Every flow record sent has a src_ip of its own.
	var distinct, storedBytes uint64
	query := "SELECT count(), uniqExact(src_ip), sum(src_bytes + dst_bytes) FROM " + database + ".flows"
	if err := p.clickhouse.Conn.QueryRow(ctx, query).Scan(&r.Stored, &distinct, &storedBytes); err != nil {
		return nil, fmt.Errorf("count: %w", err)
	}
	missing, err := p.missing(ctx, s.batches)
	if err != nil {
		return nil, err
	}
	r.Copies = s.copies
	r.Doubled = int64(r.Stored - distinct)
	var bytes uint64
	kept := make(map[agentRun][]uint64)
	for i := range s.batches {
		e := &s.batches[i]
		r.Batches++
		r.Sent += e.Flows
		age, excused := p.excuse(e.Made)
		if excused {
			r.Power.AllowedUnsynced += e.Flows
		}
		lost := missing[e]
		if lost == 0 {
			bytes += e.Bytes
			kept[agentRun{e.Name, e.Boot}] = append(kept[agentRun{e.Name, e.Boot}], e.Sequence)
			continue
		}
		if !excused {
			r.Lost += int64(lost)
			progress("batch %d of %s in run %s, made at %s, is lost", e.Sequence, e.Name, e.Boot, e.Made.Format("15:04:05.000"))
			continue
		}
		r.Power.LostUnsynced += lost
		r.Power.OldestLost = max(r.Power.OldestLost, age.Seconds())
	}
	if r.Lost == 0 && r.Doubled == 0 && storedBytes != bytes && !p.mayDiffer() {
		return nil, fmt.Errorf("sent %d bytes in all flows, stored %d", bytes, storedBytes)
	}
	if err := p.compareRollups(ctx, r); err != nil {
		return nil, err
	}
	return r, p.compareBatches(ctx, r, kept)
}

// drained returns when no batch is in the stream, and there never was a dead letter.
func (p *play) drained(ctx context.Context) error {
	progress("waiting for the stream to be empty")
	ctx, cancel := context.WithTimeout(ctx, p.settle)
	defer cancel()
	conn, err := nats.Connect(p.natsURL("collector"))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	for {
		if err := p.unexpected(); err != nil {
			return err
		}
		empty, err := p.empty(ctx, js)
		if err == nil && empty {
			break
		}
		select {
		case <-ctx.Done():
			said := ""
			for _, k := range p.collectors {
				said += "\n" + k.Output()
			}
			for _, s := range p.nats {
				said += "\n" + s.Output()
			}
			said += "\n" + describe(js)
			return fmt.Errorf("%s after the last kill the stream is not empty: %w; the collectors and servers say:%s", p.settle, ctx.Err(), said)
		case <-time.After(100 * time.Millisecond):
		}
	}
	letters, err := js.Stream(ctx, ebbwatch.DeadLetterStream)
	if err != nil {
		return fmt.Errorf("look for dead letters: %w", err)
	}
	if n := letters.CachedInfo().State.LastSeq; n > 0 {
		return fmt.Errorf("%d batches were refused", n)
	}
	return nil
}

// empty reports whether nothing is left in the stream that will be read.
func (p *play) empty(ctx context.Context, js jetstream.JetStream) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a cluster without a leader does not answer
	defer cancel()
	stream, err := js.Stream(ctx, ebbwatch.FlowStream)
	if err != nil {
		return false, err
	}
	p.left = stream.CachedInfo().State.Msgs
	return p.left == 0 || p.power && p.idle(ctx, stream), nil
}

// idle reports whether all shards have readers that have read and acknowledged all
// that they get: what is left then are messages whose removal a power cut undid.
func (p *play) idle(ctx context.Context, stream jetstream.Stream) bool {
	consumers := stream.ListConsumers(ctx)
	n := 0
	for c := range consumers.Info() {
		if n++; c.NumPending > 0 || c.NumAckPending > 0 {
			return false
		}
	}
	return consumers.Err() == nil && n == p.shards
}

// describe tells what the stream has and where its consumers are.
func describe(js jetstream.JetStream) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, ebbwatch.FlowStream)
	if err != nil {
		return err.Error()
	}
	state := stream.CachedInfo().State
	said := fmt.Sprintf("%d messages from %d to %d", state.Msgs, state.FirstSeq, state.LastSeq)
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		said += fmt.Sprintf("\n%s: delivered %d, acknowledged to %d, %d pending, %d not acknowledged, %d redelivered, %d requests, memory %v",
			c.Name, c.Delivered.Stream, c.AckFloor.Stream, c.NumPending, c.NumAckPending, c.NumRedelivered, c.NumWaiting, c.Config.MemoryStorage)
	}
	return said
}

// rollups are the tables that sum up: for each its counters by its key, and the
// same from the table that it sums up.
var rollups = []struct{ table, is, of string }{
	{
		"flows_1m",
		"SELECT (minute, agent, src_ip, dst_ip, dst_port, proto) AS k, [records, src_packets, src_bytes, dst_packets, dst_bytes, connections, unanswered] AS c FROM DB.flows_1m",
		`SELECT (toStartOfMinute(toDateTime(start, 'UTC')), agent, src_ip, dst_ip, dst_port, proto) AS k,
			[1, src_packets, src_bytes, dst_packets, dst_bytes, age_ms = 0, ` + unanswered + `] AS c FROM DB.flows`,
	},
	{
		"flows_1h",
		"SELECT (hour, agent, src_ip, dst_ip, dst_port, proto) AS k, [src_packets, src_bytes, dst_packets, dst_bytes, connections, unanswered] AS c FROM DB.flows_1h",
		"SELECT (toStartOfHour(minute), agent, src_ip, dst_ip, dst_port, proto) AS k, [src_packets, src_bytes, dst_packets, dst_bytes, connections, unanswered] AS c FROM DB.flows_1m",
	},
	{
		"pairs",
		"SELECT (src_ip, dst_ip, dst_port, proto) AS k, [src_bytes, dst_bytes, connections] AS c FROM DB.pairs",
		"SELECT (src_ip, dst_ip, dst_port, proto) AS k, [src_bytes, dst_bytes, connections] AS c FROM DB.flows_1m",
	},
	{
		"service_rtt_5m",
		"SELECT (time, dst_ip, dst_port) AS k, [records] AS c FROM DB.service_rtt_5m",
		"SELECT (toStartOfFiveMinutes(toDateTime(start, 'UTC')), dst_ip, dst_port) AS k, [1] AS c FROM DB.flows WHERE rtt_us > 0 AND proto = 6",
	},
	{
		"processes_5m",
		"SELECT (time, agent, process, unit, container, toString(role)) AS k, [sent_bytes, received_bytes, connections, failed, retransmits, drops] AS c FROM DB.processes_5m",
		`SELECT (toStartOfFiveMinutes(toDateTime(start, 'UTC')), agent, src_process, src_unit, src_container, 'client') AS k,
			[src_bytes, dst_bytes, age_ms = 0, ` + unanswered + `, src_retransmits, src_drops] AS c FROM DB.flows WHERE src_pid > 0
		UNION ALL SELECT (toStartOfFiveMinutes(toDateTime(start, 'UTC')), agent, dst_process, dst_unit, dst_container, 'server'),
			[dst_bytes, src_bytes, age_ms = 0, ` + unanswered + `, dst_retransmits, dst_drops] FROM DB.flows WHERE dst_pid > 0`,
	},
}

// unanswered is how the rollups know a conversation without a useful answer.
const unanswered = "age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')"

// compareRollups sums up, over all keys of all rollups, by how much each counter
// differs from what it sums up.
func (p *play) compareRollups(ctx context.Context, r *result) error {
	for _, rollup := range rollups {
		query := fmt.Sprintf(`
			SELECT toUInt64(sum(arraySum(x -> abs(x), difference))), count() FROM
			(
				SELECT sumForEach(arrayMap(x -> sign * toInt64(x), c)) AS difference
				FROM (SELECT k, c, 1 AS sign FROM (%s) UNION ALL SELECT k, c, -1 FROM (%s))
				GROUP BY k
			)`, rollup.is, rollup.of)
		var difference, keys uint64
		if err := p.clickhouse.Conn.QueryRow(ctx, strings.ReplaceAll(query, "DB.", database+".")).Scan(&difference, &keys); err != nil {
			return fmt.Errorf("compare the rollup %s: %w", rollup.table, err)
		}
		if difference > 0 || keys == 0 {
			progress("the rollup %s differs by %d, of %d keys", rollup.table, difference, keys)
		}
		if keys == 0 && r.Stored > 0 {
			return fmt.Errorf("the rollup %s is empty, and so nothing is shown", rollup.table)
		}
		r.RollupDifference += difference
	}
	return nil
}

// compareBatches holds coverage and runs against the batches sent. It tells on
// standard error what r already says in flows.
func (p *play) compareBatches(ctx context.Context, r *result, kept map[agentRun][]uint64) error {
	rows, err := p.clickhouse.Conn.Query(ctx, fmt.Sprintf(`
		SELECT stored.*, highest FROM
		(
			SELECT toString(agent) AS agent, toString(boot) AS boot, count(), uniqExact(sequence), min(sequence), max(sequence)
			FROM %[1]s.coverage GROUP BY agent, boot
		) AS stored
		LEFT JOIN (SELECT toString(agent) AS agent, boot, toUInt64(max(last_sequence)) AS highest FROM %[1]s.runs GROUP BY agent, boot) AS known USING (agent, boot)`, database))
	if err != nil {
		return fmt.Errorf("compare batches: %w", err)
	}
	defer rows.Close()
	wrong, seen := 0, 0
	for rows.Next() {
		var agent, boot string
		var count, distinct, lowest, highest, known uint64
		if err := rows.Scan(&agent, &boot, &count, &distinct, &lowest, &highest, &known); err != nil {
			return fmt.Errorf("compare batches: %w", err)
		}
		seen++
		batches := kept[agentRun{agent, boot}]
		n := uint64(len(batches))
		if n == 0 || count != n || distinct != n || lowest != slices.Min(batches) || highest != slices.Max(batches) || known != highest {
			wrong++
			progress("of %d batches of %s in run %s, coverage has %d rows and %d numbers from %d to %d; runs has %d", n, agent, boot, count, distinct, lowest, highest, known)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("compare batches: %w", err)
	}
	if wrong > 0 || seen != len(kept) {
		progress("coverage has %d of %d runs, %d of them wrong", seen, len(kept), wrong)
		if r.Lost == 0 && r.Doubled == 0 && !p.mayDiffer() {
			return fmt.Errorf("the flow records are right, and coverage or runs is not")
		}
	}
	return nil
}
