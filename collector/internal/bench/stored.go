package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
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

// stored measures what the records of real traffic take in table flows, stored
// through import as a person would and moved into the present: of Zeek's logs below
// the folder $TRAFFIC, of the captures there (agent replay makes their records), and
// of both.
func stored(ctx context.Context, verbose bool) (map[string]float64, error) {
	folder := os.Getenv("TRAFFIC")
	if folder == "" {
		fmt.Fprintln(os.Stderr, "bench: no stored_bytes_per_flow: set TRAFFIC to a folder of captures or of Zeek's logs")
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	sources := map[string]func(ctx context.Context, to access, folder, dir string) error{"zeek": importZeek, "captures": importCaptures}
	var databases []string
	for name := range sources {
		databases = append(databases, "ebbwatch_"+name)
	}
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), databases, verbose)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	values := make(map[string]float64)
	var rows float64
	for name, store := range sources {
		n, each, err := storedOf(ctx, access{ch, "ebbwatch_" + name}, func(to access) error { return store(ctx, to, folder, dir) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for figure, v := range each { // the mean of all flows
			values[figure] = (values[figure]*rows + v*n) / (rows + n)
		}
		if rows += n; n > 0 {
			values["stored_"+name+"_bytes_per_flow"] = each[storedFigure]
		}
	}
	if rows == 0 {
		return nil, fmt.Errorf("no capture and no log of Zeek below %s", folder)
	}
	return values, nil
}

const storedFigure = "stored_bytes_per_flow"

// storedOf returns the number of flows that store puts into a database, and what they take.
func storedOf(ctx context.Context, to access, store func(to access) error) (float64, map[string]float64, error) {
	conn, err := migrated(ctx, to.ch, to.database)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if err := store(to); err != nil {
		return 0, nil, err
	}
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM flows").Scan(&n); err != nil || n == 0 {
		return 0, nil, err
	}
	values := make(map[string]float64)
	if err := sizes(ctx, conn, to.database, "flows", storedFigure, values); err != nil {
		return 0, nil, err
	}
	// Columns of small parts stand in one file, of which ClickHouse tells no column's share.
	if err := conn.Exec(ctx, "ALTER TABLE flows MODIFY SETTING min_bytes_for_wide_part = 0"); err != nil {
		return 0, nil, err
	}
	return float64(n), values, columnSizes(ctx, conn, to.database, "flows", values)
}

// access is a database of an engine whose owner the importer logs in as.
type access struct {
	ch       *proctest.ClickHouse
	database string
}

// load runs import on what the arguments name.
func (a access) load(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, os.Getenv("EBBWATCH_BIN"), append([]string{"collector", "import"}, args...)...)
	cmd.Env = append(os.Environ(), "EBBWATCH_CLICKHOUSE_ADDRESS="+a.ch.Addr, "EBBWATCH_CLICKHOUSE_DATABASE="+a.database,
		"EBBWATCH_CLICKHOUSE_USER="+proctest.User, "EBBWATCH_CLICKHOUSE_PASSWORD="+a.ch.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import %v: %w: %s", args, err, out)
	}
	return nil
}

// importZeek stores the logs of each folder by themselves, because they are of many years.
func importZeek(ctx context.Context, to access, folder, _ string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if logs, err := filepath.Glob(filepath.Join(path, "conn*.log*")); err != nil || len(logs) == 0 {
			return err
		}
		if err := to.load(ctx, "zeek", path, "--shift", "now", "--old", "skip"); err != nil {
			return err
		}
		return filepath.SkipDir
	})
}

// importCaptures stores each capture by itself, for the same reason.
func importCaptures(ctx context.Context, to access, folder, dir string) error {
	n := 0
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".pcap", ".pcapng", ".trace"}, filepath.Ext(path)) {
			return err
		}
		lines, err := exec.CommandContext(ctx, os.Getenv("EBBWATCH_BIN"), "agent", "replay", path, "--json").Output()
		if len(lines) == 0 { // of another link layer; one that is cut has records all the same
			fmt.Fprintln(os.Stderr, "bench: left out", filepath.Base(path), "of which agent replay makes no record:", err)
			return nil
		}
		n++
		records := filepath.Join(dir, fmt.Sprintf("%d.json", n))
		if err := os.WriteFile(records, lines, 0o600); err != nil {
			return err
		}
		return to.load(ctx, "json", records, "--shift", "now", "--old", "skip")
	})
}

// migrated makes a database with the tables of this build and returns a connection to it.
func migrated(ctx context.Context, ch *proctest.ClickHouse, database string) (clickhouse.Conn, error) {
	all, err := migrations.All()
	if err != nil {
		return nil, err
	}
	m := schema.Migrator{ClickHouse: owner(ch, database), Migrations: all, Lock: noLock{}, Log: slog.New(slog.DiscardHandler), By: "bench"}
	if _, err := m.Run(ctx); err != nil {
		return nil, err
	}
	return m.ClickHouse.Open(database)
}

// owner is how the engine's owner logs in.
func owner(ch *proctest.ClickHouse, database string) chconn.Config {
	return chconn.Config{Address: ch.Addr, Database: database, User: proctest.User, Password: config.Secret(ch.Password), Compression: "none"}
}

// noLock is a lock for a database that nobody else knows.
type noLock struct{}

func (noLock) Lock(ctx context.Context) (context.Context, func(), error) { return ctx, func() {}, nil }

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
	return columnSizes(ctx, conn, database, table, values)
}

// columnSizes rewrites a table and notes the bytes a row of each column that takes
// more than a hundredth of a byte, of parts that have a file for each.
func columnSizes(ctx context.Context, conn clickhouse.Conn, database, table string, values map[string]float64) error {
	if err := merge(ctx, conn, database, table); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT column, sum(column_data_compressed_bytes) / sum(rows) AS size FROM system.parts_columns WHERE active AND table = ? AND database = ? GROUP BY column HAVING size > 0.01", table, database)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			column string
			size   float64
		)
		if err := rows.Scan(&column, &size); err != nil {
			return err
		}
		values[storedColumn+column+"_bytes_per_flow"] = size
	}
	return rows.Err()
}
