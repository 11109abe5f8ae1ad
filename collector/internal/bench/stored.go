package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// storedColumn precedes the name of a column in that of the figure about it.
const storedColumn = "stored_column_"

// stored measures what the records of real traffic take: those of all captures
// below the folder $CAPTURES, made by agent replay, in a table with the
// columns, codecs and order of flows. It has no partitions, because captures are
// of few records each and of many days.
func stored(ctx context.Context, verbose bool) (map[string]float64, error) {
	folder := os.Getenv("CAPTURES")
	if folder == "" {
		fmt.Fprintln(os.Stderr, "bench: no stored_replayed_bytes_per_flow: set CAPTURES to a folder of captures")
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const database = "ebbwatch_replayed"
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{database}, verbose)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	if err := createReplayed(ctx, ch, database); err != nil {
		return nil, err
	}
	if err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".pcap", ".pcapng", ".trace"}, filepath.Ext(path)) {
			return err
		}
		return replay(ctx, ch, database, path)
	}); err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	return values, sizes(ctx, ch.Conn, database, "replayed", "stored_replayed_bytes_per_flow", values)
}

func createReplayed(ctx context.Context, ch *proctest.ClickHouse, database string) error {
	conn, err := migrated(ctx, ch, database)
	if err != nil {
		return err
	}
	defer conn.Close()
	var key string
	if err := conn.QueryRow(ctx, "SELECT sorting_key FROM system.tables WHERE database = ? AND name = 'flows'", database).Scan(&key); err != nil {
		return err
	}
	return conn.Exec(ctx, "CREATE TABLE replayed AS flows ENGINE = MergeTree ORDER BY ("+key+") SETTINGS min_bytes_for_wide_part = 0")
}

// migrated makes a database with the tables of this build and returns a connection to it.
func migrated(ctx context.Context, ch *proctest.ClickHouse, database string) (clickhouse.Conn, error) {
	all, err := migrations.All()
	if err != nil {
		return nil, err
	}
	m := schema.Migrator{ClickHouse: access(ch, database), Migrations: all, Lock: noLock{}, Log: slog.New(slog.DiscardHandler), By: "bench"}
	if _, err := m.Run(ctx); err != nil {
		return nil, err
	}
	return m.ClickHouse.Open(database)
}

// access is how the engine's owner logs in.
func access(ch *proctest.ClickHouse, database string) chconn.Config {
	return chconn.Config{Address: ch.Addr, Database: database, User: proctest.User, Password: config.Secret(ch.Password), Compression: "none"}
}

// noLock is a lock for a database that nobody else knows.
type noLock struct{}

func (noLock) Lock(ctx context.Context) (context.Context, func(), error) { return ctx, func() {}, nil }

// replay inserts the records of one capture.
func replay(ctx context.Context, ch *proctest.ClickHouse, database, path string) error {
	lines, err := exec.CommandContext(ctx, os.Getenv("EBBWATCH_BIN"), "agent", "replay", path, "--json").Output()
	if len(lines) == 0 { // of another link layer; one that is cut has records all the same
		fmt.Fprintln(os.Stderr, "bench: left out", filepath.Base(path), "of which agent replay makes no record:", err)
		return nil
	}
	var rows bytes.Buffer
	for line := range bytes.Lines(lines) {
		if !bytes.HasPrefix(line, []byte(`{"totals"`)) {
			rows.Write(line)
		}
	}
	query := url.Values{
		"user": {proctest.User}, "password": {ch.Password}, "database": {database}, "query": {"INSERT INTO replayed FORMAT JSONEachRow"},
		"async_insert": {"0"}, "date_time_input_format": {"best_effort"}, "input_format_skip_unknown_fields": {"1"},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ch.HTTP()+"/?"+query.Encode(), &rows)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return fmt.Errorf("insert the records of %s: %s", path, text)
	}
	return nil
}

// merge leaves one part of each partition. One OPTIMIZE does not while other
// merges run: then it does nothing, and says so to nobody.
func merge(ctx context.Context, conn clickhouse.Conn, database, table string) error {
	for range 120 {
		if err := conn.Exec(ctx, "OPTIMIZE TABLE "+database+"."+table+" FINAL"); err != nil {
			return err
		}
		var most uint64
		if err := conn.QueryRow(ctx, "SELECT max(parts) FROM (SELECT count() AS parts FROM system.parts WHERE active AND table = ? AND database = ? GROUP BY partition_id)", table, database).Scan(&most); err != nil {
			return err
		}
		if most <= 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	return fmt.Errorf("table %s is not merged into one part a partition within a minute", table)
}

// sizes merges a table and notes its bytes a row under name: columns, indices and
// marks, without what a part has once, however many rows it has. It notes those
// of each column that takes more than a hundredth of a byte, too.
func sizes(ctx context.Context, conn clickhouse.Conn, database, table, name string, values map[string]float64) error {
	if err := merge(ctx, conn, database, table); err != nil {
		return err
	}
	var size float64
	if err := conn.QueryRow(ctx, "SELECT sum(data_compressed_bytes + secondary_indices_compressed_bytes + marks_bytes) / sum(rows) FROM system.parts WHERE active AND table = ? AND database = ?", table, database).Scan(&size); err != nil {
		return err
	}
	values[name] = size
	var indices, marks float64
	if err := conn.QueryRow(ctx, "SELECT sum(secondary_indices_compressed_bytes) / sum(rows), sum(marks_bytes) / sum(rows) FROM system.parts WHERE active AND table = ? AND database = ?", table, database).Scan(&indices, &marks); err != nil {
		return err
	}
	values[storedColumn+"(indices)_bytes_per_flow"], values[storedColumn+"(marks)_bytes_per_flow"] = indices, marks
	rows, err := conn.Query(ctx, "SELECT column, sum(column_data_compressed_bytes) / sum(rows) AS size FROM system.parts_columns WHERE active AND table = ? AND database = ? GROUP BY column HAVING size > 0.01", table, database)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var column string
		if err := rows.Scan(&column, &size); err != nil {
			return err
		}
		values[storedColumn+column+"_bytes_per_flow"] = size
	}
	return rows.Err()
}
