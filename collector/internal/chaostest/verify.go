package main

import (
	"context"
	"fmt"
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
	r := &result{Kills: p.kills, Killed: p.killed, Seed: p.seed, Collectors: p.options.collectors, Shards: p.shards, Durability: p.durability}
	var bytes uint64
	last := make(map[[2]string]uint64)
	for _, run := range s.Runs {
		r.Batches += run.Batches
		r.Sent += run.Flows
		r.Copies += run.Copies
		bytes += run.Bytes
		last[[2]string{run.Agent, run.Boot}] = run.Batches
	}
	// Every flow record sent has a src_ip of its own.
	var distinct, storedBytes uint64
	query := "SELECT count(), uniqExact(src_ip), sum(src_bytes + dst_bytes) FROM " + database + ".flows"
	if err := p.clickhouse.Conn.QueryRow(ctx, query).Scan(&r.Stored, &distinct, &storedBytes); err != nil {
		return nil, fmt.Errorf("count: %w", err)
	}
	r.Lost, r.Doubled = int64(r.Sent-distinct), int64(r.Stored-distinct)
	if r.Lost == 0 && r.Doubled == 0 && storedBytes != bytes {
		return nil, fmt.Errorf("sent %d bytes in all flows, stored %d", bytes, storedBytes)
	}
	if err := p.compareRollup(ctx, r); err != nil {
		return nil, err
	}
	return r, p.compareBatches(ctx, r, last)
}

// drained returns when no batch is in the stream, and there never was a dead letter.
func (p *play) drained(ctx context.Context) error {
	progress("waiting for the stream to be empty")
	ctx, cancel := context.WithTimeout(ctx, p.settle)
	defer cancel()
	conn, err := nats.Connect(p.natsURL())
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
		stream, err := js.Stream(ctx, ebbwatch.FlowStream)
		if err == nil && stream.CachedInfo().State.Msgs == 0 {
			break
		}
		select {
		case <-ctx.Done():
			said := ""
			for _, k := range p.collectors {
				said += "\n" + k.Output()
			}
			return fmt.Errorf("%s after the last kill the stream is not empty: %w; the collectors say:%s", p.settle, ctx.Err(), said)
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

// compareRollup sums up, over all keys, by how much the rollup and the raw rows
// differ, in each of its columns.
func (p *play) compareRollup(ctx context.Context, r *result) error {
	query := `
		SELECT toUInt64(sum(abs(records) + abs(a) + abs(b) + abs(c) + abs(d) + abs(e) + abs(f))) FROM
		(
			SELECT sum(r) AS records, sum(sp) AS a, sum(sb) AS b, sum(dp) AS c, sum(db) AS d, sum(co) AS e, sum(un) AS f FROM
			(
				SELECT minute, agent, src_ip, dst_ip, dst_port, proto, toInt64(records) AS r, toInt64(src_packets) AS sp, toInt64(src_bytes) AS sb,
					toInt64(dst_packets) AS dp, toInt64(dst_bytes) AS db, toInt64(connections) AS co, toInt64(unanswered) AS un
				FROM %[1]s.flows_1m
				UNION ALL
				SELECT toStartOfMinute(toDateTime(start, 'UTC')), agent, src_ip, dst_ip, dst_port, proto, -1, -toInt64(src_packets), -toInt64(src_bytes),
					-toInt64(dst_packets), -toInt64(dst_bytes), -toInt64(age_ms = 0), -toInt64(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH'))
				FROM %[1]s.flows
			)
			GROUP BY minute, agent, src_ip, dst_ip, dst_port, proto
		)`
	if err := p.clickhouse.Conn.QueryRow(ctx, fmt.Sprintf(query, database)).Scan(&r.RollupDifference); err != nil {
		return fmt.Errorf("compare the rollup: %w", err)
	}
	return nil
}

// compareBatches holds coverage and runs against the batches sent. It tells on
// standard error what r already says in flows.
func (p *play) compareBatches(ctx context.Context, r *result, last map[[2]string]uint64) error {
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
		if n := last[[2]string{agent, boot}]; count != n || distinct != n || lowest != 1 || highest != n || known != n {
			wrong++
			progress("of %d batches of %s in run %s, coverage has %d rows and %d numbers from %d to %d; runs has %d", n, agent, boot, count, distinct, lowest, highest, known)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("compare batches: %w", err)
	}
	if wrong > 0 || seen != len(last) {
		progress("coverage has %d of %d runs, %d of them wrong", seen, len(last), wrong)
		if r.Lost == 0 && r.Doubled == 0 {
			return fmt.Errorf("the flow records are right, and coverage or runs is not")
		}
	}
	return nil
}
