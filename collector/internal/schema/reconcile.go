package schema

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// change is one statement that brings a table to the configuration.
type change struct {
	table, statement string
	why              string // for the log: from what to what
	deletes          bool   // rows that are stored
}

// reconcile changes what differs from the configuration and returns how much that was.
func (m *Migrator) reconcile(ctx context.Context, db clickhouse.Conn) (int, error) {
	changes, err := m.changes(ctx, db)
	if err != nil {
		return 0, err
	}
	for i, c := range changes {
		level := slog.LevelInfo
		if c.deletes {
			level = slog.LevelWarn
		}
		m.Log.Log(ctx, level, "changing a table to the configuration", "table", c.table, "change", c.why, "statement", c.statement)
		if err := m.exec(ctx, db, c.statement); err != nil {
			return i, fmt.Errorf("bring table %s to the configuration (%s): %w", c.table, c.why, err)
		}
	}
	return len(changes), nil
}

// changes returns what is to be done for the tables that exist.
func (m *Migrator) changes(ctx context.Context, db clickhouse.Conn) ([]change, error) {
	if m.Store == nil {
		return nil, nil
	}
	engines := make(map[string]string)
	err := query(ctx, db, "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'", func(rows scanner) error {
		var name, engine string
		err := rows.Scan(&name, &engine)
		engines[name] = engine
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the tables' time to live: %w", err)
	}
	var all []change
	for _, r := range m.Store.RetentionDays.tables() {
		engine, ok := engines[r.table]
		if !ok || r.days == 0 {
			continue
		}
		expression, days, ok := timeToLive(engine)
		if !ok {
			m.Log.Warn("a table's time to live was made by somebody else and is left as it is; to silence this, say so with 0 days",
				"table", r.table, "key", "store.retention_days."+r.table, "engine", engine)
			continue
		}
		if days == r.days {
			continue
		}
		all = append(all, change{
			r.table, m.alter(r.table, fmt.Sprintf("MODIFY TTL %s + INTERVAL %d DAY", expression, r.days)),
			fmt.Sprintf("rows are kept for %d days instead of %d", r.days, days), r.days < days,
		})
	}
	indices, err := m.indexChanges(ctx, db, engines)
	return append(all, indices...), err
}

// timeToLiveForm is that of the migrations, and of a change.
var timeToLiveForm = regexp.MustCompile(`^(?:.* )?TTL ((?:toDateTime\()?[a-z_]+\)?) \+ toIntervalDay\((\d+)\)(?: SETTINGS .*)?$`)

// timeToLive takes it from the text of an engine. ok is false if it has another form.
func timeToLive(engine string) (expression string, days uint32, ok bool) {
	match := timeToLiveForm.FindStringSubmatch(engine)
	if match == nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(match[2], 10, 32)
	return match[1], uint32(n), err == nil
}

// indexChanges compares the skip indices. Old parts get an added one when they
// are merged.
func (m *Migrator) indexChanges(ctx context.Context, db clickhouse.Conn, engines map[string]string) ([]change, error) {
	wanted := slices.DeleteFunc(slices.Clone(m.Store.Indices), func(i Index) bool { _, exists := engines[i.Table]; return !exists })
	var all []change
	err := query(ctx, db, "SELECT table, name, expr, type_full, granularity FROM system.data_skipping_indices WHERE database = currentDatabase() AND name NOT LIKE 'auto_minmax_index_%' ORDER BY table, name", func(rows scanner) error {
		var has Index
		if err := rows.Scan(&has.Table, &has.Name, &has.Expression, &has.Type, &has.Granularity); err != nil {
			return err
		}
		i := slices.IndexFunc(wanted, func(w Index) bool { return w.same(has) })
		if i >= 0 {
			wanted = slices.Delete(wanted, i, i+1)
			return nil
		}
		all = append(all, change{
			has.Table, m.alter(has.Table, fmt.Sprintf("DROP INDEX IF EXISTS `%s`", has.Name)),
			fmt.Sprintf("index %s (%s) is not in store.indices", has.Name, has.definition()), false,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the tables' indices: %w", err)
	}
	for _, w := range wanted {
		all = append(all, change{
			w.Table, m.alter(w.Table, fmt.Sprintf("ADD INDEX IF NOT EXISTS `%s` %s", w.Name, w.definition())),
			fmt.Sprintf("index %s is in store.indices; rows that are there get it when they are merged", w.Name), false,
		})
	}
	return all, nil
}

func (i Index) definition() string {
	return fmt.Sprintf("%s TYPE %s GRANULARITY %d", i.Expression, i.Type, i.Granularity)
}

// same compares as ClickHouse reads: it prints expressions with spaces of its own.
func (i Index) same(o Index) bool {
	compact := func(s string) string { return strings.NewReplacer(" ", "", "`", "").Replace(s) }
	return i.Table == o.Table && i.Name == o.Name && i.Granularity == o.Granularity &&
		compact(i.Expression) == compact(o.Expression) && compact(i.Type) == compact(o.Type)
}

// alter returns the statement that changes one of the tables.
func (m *Migrator) alter(table, how string) string {
	return fmt.Sprintf("ALTER TABLE `%s`%s %s", table, m.layout.onCluster(), how)
}
