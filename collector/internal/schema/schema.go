// Package schema brings a ClickHouse database to the schema of this build:
// forward only, checked against what was applied before, one collector at a
// time. Then it brings time to live and indices to the configuration.
package schema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// Errors that no repetition cures.
var (
	// ErrChanged says that an applied migration is not the one of this build.
	ErrChanged = errors.New("an applied migration was changed")
	// ErrNewer says that the database was migrated by a newer build.
	ErrNewer = errors.New("the database is newer than this build")
	// ErrRefused says that ClickHouse refused a statement.
	ErrRefused = errors.New("ClickHouse refuses a statement")
)

// Locker keeps two collectors from migrating at the same time.
type Locker interface {
	// Lock waits for the lock and returns a context that ends when it is lost,
	// and a function that gives it back.
	Lock(ctx context.Context) (context.Context, func(), error)
}

// Migrator applies migrations to one database.
type Migrator struct {
	ClickHouse chconn.Config
	Store      *Config // how tables are to be; nil: as the migrations make them, or as they are
	Migrations []migrations.Migration
	Lock       Locker
	Log        *slog.Logger
	By         string // who applies, noted in schema_migrations: the build

	layout *layout // of Run
}

// Applied is what a run did.
type Applied struct {
	Migrations []migrations.Migration
	Changes    int // statements that brought tables to the configuration
}

// Run creates the database if needed, applies what it lacks, brings its tables to
// the configuration, and returns what it did. What it applied before an error
// stays applied; a file that failed in the middle is repeated from its start by
// the next run.
func (m *Migrator) Run(ctx context.Context) (Applied, error) {
	m.layout = newLayout(m.ClickHouse, m.Migrations)
	server, err := m.ClickHouse.Open("")
	if err != nil {
		return Applied{}, err
	}
	defer server.Close()
	db, err := m.ClickHouse.Open(m.layout.local)
	if err != nil {
		return Applied{}, err
	}
	defer db.Close()
	if done, err := m.nothingToDo(ctx, server, db); done || err != nil {
		return Applied{}, err // and needs no lock
	}
	ctx, unlock, err := m.Lock.Lock(ctx)
	if err != nil {
		return Applied{}, fmt.Errorf("lock the migrations: %w", err)
	}
	defer unlock()
	if err := m.createDatabases(ctx, server); err != nil {
		return Applied{}, err
	}
	missing, err := m.missing(ctx, db) // again: another collector may have been faster
	if err != nil {
		return Applied{}, err
	}
	if len(missing) > 0 {
		if err := m.exec(ctx, db, journal); err != nil {
			return Applied{}, fmt.Errorf("create table schema_migrations: %w", err)
		}
	}
	views, err := m.ClickHouse.Open(m.ClickHouse.Database)
	if err != nil {
		return Applied{}, err
	}
	defer views.Close()
	for i, migration := range missing {
		if err := m.apply(ctx, db, views, migration); err != nil {
			return Applied{Migrations: missing[:i]}, err
		}
	}
	changes, err := m.reconcile(ctx, db)
	return Applied{missing, changes}, err
}

func (m *Migrator) nothingToDo(ctx context.Context, server, db clickhouse.Conn) (bool, error) {
	if absent, err := m.absentDatabases(ctx, server); err != nil || len(absent) > 0 {
		return false, err
	}
	missing, err := m.missing(ctx, db)
	if err != nil || len(missing) > 0 {
		return false, err
	}
	changes, err := m.changes(ctx, db)
	return len(changes) == 0, err
}

const journal = `CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number of the migration',
    file String COMMENT 'Its file',
    checksum String COMMENT 'SHA-256 of the file in hexadecimal: an applied file must never change',
    applied DateTime64(3, 'UTC') COMMENT 'When its last step ended',
    duration_ms UInt64 COMMENT 'Milliseconds that its steps took',
    applied_by String COMMENT 'Build that applied it'
)
ENGINE = ReplacingMergeTree(applied)
ORDER BY version
COMMENT 'Migrations that were applied to this database. Written by the collector; do not edit.'`

// absentDatabases returns which of the database and that of the local tables in a
// cluster do not exist.
func (m *Migrator) absentDatabases(ctx context.Context, server clickhouse.Conn) (absent []string, err error) {
	names := []string{m.ClickHouse.Database}
	if m.layout.local != m.ClickHouse.Database {
		names = append(names, m.layout.local)
	}
	for _, name := range names {
		var exists uint64
		if err := server.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", name).Scan(&exists); err != nil {
			return nil, fmt.Errorf("look for database %s: %w", name, refusal(err))
		}
		if exists == 0 {
			absent = append(absent, name)
		}
	}
	return absent, nil
}

// createDatabases makes those that do not exist: a user that may not create databases
// can still migrate.
func (m *Migrator) createDatabases(ctx context.Context, server clickhouse.Conn) error {
	absent, err := m.absentDatabases(ctx, server)
	if err != nil {
		return err
	}
	for _, name := range absent {
		statement := fmt.Sprintf("CREATE DATABASE IF NOT EXISTS `%s`%s COMMENT 'Ebbwatch: flows of every host, and what was concluded from them'", name, m.layout.onCluster())
		if err := m.exec(ctx, server, statement); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
		m.Log.Info("database created", "database", name)
	}
	return nil
}

// missing returns the migrations that are not applied, after it has held the
// applied ones against those of this build.
func (m *Migrator) missing(ctx context.Context, db clickhouse.Conn) ([]migrations.Migration, error) {
	applied, err := m.applied(ctx, db)
	if err != nil {
		return nil, err
	}
	last := uint32(len(m.Migrations))
	for version, a := range applied {
		if version > last {
			return nil, fmt.Errorf("%w: it has migration %s, this build ends at %s. Run the build that applied it (%s) or a later one",
				ErrNewer, a.file, m.Migrations[last-1].File, a.by)
		}
	}
	var missing []migrations.Migration
	for _, want := range m.Migrations {
		a, ok := applied[want.Version]
		switch {
		case !ok:
			missing = append(missing, want)
		case a.checksum != want.Checksum:
			return nil, fmt.Errorf("%w: %s was applied with SHA-256 %s and now has %s. Restore the file as it was, and put the change into a new migration",
				ErrChanged, want.File, a.checksum, want.Checksum)
		case len(missing) > 0:
			return nil, fmt.Errorf("%w: %s is applied and %s before it is not. Restore table schema_migrations from a backup", ErrChanged, want.File, missing[0].File)
		}
	}
	return missing, nil
}

type entry struct{ file, checksum, by string }

func (m *Migrator) applied(ctx context.Context, db clickhouse.Conn) (map[uint32]entry, error) {
	var exists uint64
	err := db.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = 'schema_migrations'", m.layout.local).Scan(&exists)
	if err != nil {
		return nil, fmt.Errorf("look for table schema_migrations: %w", refusal(err))
	}
	if exists == 0 {
		return nil, nil
	}
	applied := make(map[uint32]entry)
	err = query(ctx, db, "SELECT version, file, checksum, applied_by FROM schema_migrations FINAL", func(rows scanner) error {
		var version uint32
		var e entry
		err := rows.Scan(&version, &e.file, &e.checksum, &e.by)
		applied[version] = e
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", err)
	}
	return applied, nil
}

func (m *Migrator) apply(ctx context.Context, db, views clickhouse.Conn, migration migrations.Migration) error {
	started := time.Now()
	for i, text := range migration.Steps {
		m.Log.Info("migrating", "file", migration.File, "step", fmt.Sprintf("%d/%d", i+1, len(migration.Steps)), "statement", head(text))
		if err := m.step(ctx, db, views, text); err != nil {
			return fmt.Errorf("migration %s, step %d of %d (%s): %w. What came before stays applied: remove the cause and start again, it goes on with this file",
				migration.File, i+1, len(migration.Steps), head(text), err)
		}
	}
	err := m.exec(ctx, db, "INSERT INTO schema_migrations (version, file, checksum, applied, duration_ms, applied_by) SETTINGS async_insert = 0 VALUES (?, ?, ?, now64(3), ?, ?)",
		migration.Version, migration.File, migration.Checksum, uint64(time.Since(started).Milliseconds()), m.By)
	if err != nil {
		return fmt.Errorf("note migration %s as applied: %w", migration.File, err)
	}
	return nil
}

// step executes a statement of a migration where it belongs: db has the tables,
// views the views, and in a cluster the Distributed tables.
func (m *Migrator) step(ctx context.Context, db, views clickhouse.Conn, text string) error {
	s, err := m.layout.rewrite(text)
	if err != nil {
		return err
	}
	if s.fills {
		return m.fill(ctx, db, s)
	}
	conn := views
	if s.local {
		conn = db
	}
	if err := m.exec(ctx, conn, s.text); err != nil || s.table == "" {
		return err
	}
	over, err := m.layout.distribute(ctx, db, s.table)
	if err != nil {
		return err
	}
	return m.exec(ctx, views, over)
}

// fill executes a statement that changes the rows of a table, unless it has them:
// here or, if statements run on all servers at once, in each shard.
func (m *Migrator) fill(ctx context.Context, db clickhouse.Conn, s step) error {
	if done, err := m.layout.filled(ctx, db, s.table); done || err != nil {
		if done {
			m.Log.Info("the table has its rows already", "table", s.table)
		}
		return err
	}
	if !m.ClickHouse.Cluster.OnCluster || len(m.ClickHouse.Cluster.Shards) == 0 {
		return m.exec(ctx, db, s.text)
	}
	for i := range m.ClickHouse.Cluster.Shards {
		shard := m.ClickHouse.Shard(i)
		conn, err := shard.Open(shard.Database)
		if err != nil {
			return err
		}
		err = m.exec(ctx, conn, s.text)
		if err := errors.Join(err, conn.Close()); err != nil {
			return fmt.Errorf("server %s: %w", shard.Address, err)
		}
	}
	return nil
}

// exec executes a statement, and says now and then that it still does.
func (m *Migrator) exec(ctx context.Context, conn clickhouse.Conn, statement string, args ...any) error {
	done := make(chan struct{})
	defer close(done)
	go func() {
		const pause = 10 * time.Second
		for elapsed := pause; ; elapsed += pause {
			select {
			case <-done:
				return
			case <-time.After(pause):
				m.Log.Info("a statement is still running", "elapsed", elapsed, "statement", head(statement))
			}
		}
	}()
	if err := conn.Exec(ctx, statement, args...); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return refusal(err)
	}
	return nil
}

// head returns the first line of a statement.
func head(statement string) string {
	line, _, _ := strings.Cut(statement, "\n")
	return line
}

// scanner is a row of an answer.
type scanner interface{ Scan(into ...any) error }

// query calls row for each row of the answer.
func query(ctx context.Context, db clickhouse.Conn, text string, row func(scanner) error) error {
	rows, err := db.Query(ctx, text)
	if err != nil {
		return refusal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return refusal(rows.Err())
}

// refusal marks an error with which the server answered, unless it passes by
// itself (timeout, memory, read-only replica, too many queries, keeper).
func refusal(err error) error {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return err
	}
	switch exception.Code {
	case 159, 202, 209, 210, 236, 241, 242, 279, 425, 517, 999:
		return err
	case 497: // ACCESS_DENIED
		return fmt.Errorf("%w: %w. Make the roles of deploy/clickhouse anew, or run `collector migrate` as the owner", ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Permanent reports whether err needs somebody to act before a repetition can
// succeed.
func Permanent(err error) bool {
	return errors.Is(err, ErrChanged) || errors.Is(err, ErrNewer) || errors.Is(err, ErrRefused) || errors.Is(err, errForm)
}
