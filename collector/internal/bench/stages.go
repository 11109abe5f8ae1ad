package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// stages measures what ClickHouse does with a flow, one thing after the other, in
// its processor time: the insert of the row and all rollups, the same without the
// rollups, and the merge of the parts of all tables into one each. Blocks are of
// the size that a busy collector inserts.
func stages(ctx context.Context, verbose bool) (map[string]float64, error) {
	const blocks, blockRows = 8, 300_000
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const database = "ebbwatch_stages"
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{database}, verbose)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	conn, err := migrated(ctx, ch, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	all, err := messages(blocks*blockRows, 1000, (*flowgen.Fleet).Next)
	if err != nil {
		return nil, err
	}
	writer := sink.NewWriter(sink.DefaultConfig(), owner(ch, database), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	defer writer.Close()
	if err := conn.Exec(ctx, "SYSTEM STOP MERGES"); err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	insert := func(name string) error {
		decoder, block, now := batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: 24 * time.Hour}), sink.NewBlock(), time.Now()
		var seconds float64
		for i := 0; i < len(all); {
			block.Reset()
			for ; i < len(all) && block.Rows() < blockRows; i++ {
				b, err := decoder.Decode(all[i].subject, all[i].data, now)
				if err != nil {
					return err
				}
				block.Append(b, now)
			}
			before := ch.CPUSeconds()
			if err := writer.WriteWithin(ctx, block, fmt.Sprint(name, i), time.Minute); err != nil {
				return err
			}
			seconds += ch.CPUSeconds() - before
		}
		values[name] = seconds * 1e9 / (blocks * blockRows)
		return nil
	}
	if err := insert("stage_insert_ns_per_flow"); err != nil {
		return nil, err
	}
	before := ch.CPUSeconds()
	if err := mergeAll(ctx, conn, database); err != nil {
		return nil, err
	}
	values["stage_merge_ns_per_flow"] = (ch.CPUSeconds() - before) * 1e9 / (blocks * blockRows)
	views, err := names(ctx, conn, "SELECT name FROM system.tables WHERE engine = 'MaterializedView' AND database = currentDatabase()")
	if err != nil {
		return nil, err
	}
	for _, view := range views {
		if err := conn.Exec(ctx, "DROP VIEW "+view); err != nil {
			return nil, err
		}
	}
	return values, insert("stage_insert_without_rollups_ns_per_flow")
}

// mergeAll leaves one part of each partition of each table.
func mergeAll(ctx context.Context, conn clickhouse.Conn, database string) error {
	if err := conn.Exec(ctx, "SYSTEM START MERGES"); err != nil {
		return err
	}
	tables, err := names(ctx, conn, "SELECT name FROM system.tables WHERE engine LIKE '%MergeTree' AND total_rows > 0 AND database = currentDatabase()")
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := merge(ctx, conn, database, table); err != nil {
			return err
		}
	}
	return conn.Exec(ctx, "SYSTEM STOP MERGES")
}

// names returns the first column of a query's answer.
func names(ctx context.Context, conn clickhouse.Conn, query string) ([]string, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}
