package schema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// errForm says that a statement of a migration is written in a way that cannot be
// rewritten for a cluster.
var errForm = errors.New("cannot be rewritten for a cluster")

// layout turns a statement of the migrations, which are written for one server,
// into what a cluster needs. Names in the statements have no database: what makes
// or fills a table runs in the local database, where everything has the name that
// it has on one server; views run in the database, where a Distributed table
// stands under the name of each table. Without a cluster both are one.
type layout struct {
	cluster chconn.Cluster
	local   string          // database
	views   map[string]bool // names; ALTER TABLE does not tell them from tables
}

// step is a statement for a place.
type step struct {
	text  string
	local bool   // runs in the local database
	table string // that it makes, changes or fills
	fills bool   // it changes rows, of each shard by itself; else the table, and its Distributed table follows
}

func newLayout(conn chconn.Config, all []migrations.Migration) *layout {
	l := &layout{cluster: conn.Cluster, local: conn.Local().Database, views: make(map[string]bool)}
	for _, m := range all {
		for _, text := range m.Steps {
			if match := headForm.FindStringSubmatch(text); match != nil && match[1] == createView {
				l.views[match[2]] = true
			}
		}
	}
	return l
}

// What the statements of migrations begin with.
const (
	createTable  = "CREATE TABLE IF NOT EXISTS"
	createFiller = "CREATE MATERIALIZED VIEW IF NOT EXISTS"
	createView   = "CREATE OR REPLACE VIEW"
	alterTable   = "ALTER TABLE"
	truncate     = "TRUNCATE TABLE"
	insert       = "INSERT INTO"
)

var (
	headForm   = regexp.MustCompile("^(" + createTable + "|" + createFiller + "|" + createView + "|" + alterTable + "|" + truncate + "|" + insert + ") ([a-z0-9_]+)\\b")
	engineForm = regexp.MustCompile(`(?m)^ENGINE = ([A-Za-z]*MergeTree)(?:\(([^()\n]*)\))?$`)

	windowForm = regexp.MustCompile(`\bnon_replicated_deduplication_window = (\d+)`)
)

// rewrite returns the statement for this layout.
func (l *layout) rewrite(text string) (step, error) {
	match := headForm.FindStringSubmatch(text)
	if match != nil && (match[1] == truncate || match[1] == insert) {
		return step{text: text, local: true, table: match[2], fills: true}, nil
	}
	if l.cluster.Name == "" {
		return step{text: text}, nil
	}
	if match == nil {
		return step{}, fmt.Errorf("%w: it begins with %q", errForm, head(text))
	}
	kind, name := match[1], match[2]
	s := step{local: true}
	if kind == createTable {
		var err error
		if text, err = l.engine(text); err != nil {
			return step{}, err
		}
	}
	switch {
	case kind == createView || kind == alterTable && l.views[name]:
		s.local = false
	case kind != createFiller:
		s.table = name
	}
	s.text = kind + " " + name + l.onCluster() + text[len(match[0]):]
	return s, nil
}

func (l *layout) onCluster() string {
	if l.cluster.Name == "" || !l.cluster.OnCluster {
		return ""
	}
	return " ON CLUSTER `" + l.cluster.Name + "`"
}

// engine makes the engine of a CREATE TABLE replicated, if that is wanted. The
// window of replicated tables is bounded in time, too: seven days are as long as a
// batch may wait by default.
func (l *layout) engine(text string) (string, error) {
	if n := len(engineForm.FindAllString(text, -1)); n != 1 {
		return "", fmt.Errorf("%w: %q has %d lines of the form ENGINE = …MergeTree", errForm, head(text), n)
	}
	if !l.cluster.Replicated {
		return text, nil
	}
	text = engineForm.ReplaceAllStringFunc(text, func(line string) string {
		match := engineForm.FindStringSubmatch(line)
		arguments := fmt.Sprintf("'%s', '%s'", l.cluster.KeeperPath, l.cluster.Replica)
		if match[2] != "" {
			arguments += ", " + match[2]
		}
		return "ENGINE = Replicated" + match[1] + "(" + arguments + ")"
	})
	return windowForm.ReplaceAllString(text, "replicated_deduplication_window = $1, replicated_deduplication_window_seconds = 604800"), nil
}

// distribute returns the statement that makes the Distributed table over a local
// one, anew if it exists: it has the columns and the comment of the local one as
// they are now.
func (l *layout) distribute(ctx context.Context, local clickhouse.Conn, table string) (string, error) {
	var engine, key, comment string
	err := local.QueryRow(ctx, "SELECT engine, sorting_key, comment FROM system.tables WHERE database = ? AND name = ?", l.local, table).Scan(&engine, &key, &comment)
	if err != nil {
		return "", fmt.Errorf("look at %s.%s: %w", l.local, table, refusal(err))
	}
	var columns []string
	err = query(ctx, local, "SELECT name, type, default_kind, default_expression, comment FROM system.columns WHERE database = currentDatabase() AND table = "+quote(table)+" ORDER BY position", func(rows scanner) error {
		var name, kind, defaults, expression, about string
		if err := rows.Scan(&name, &kind, &defaults, &expression, &about); err != nil {
			return err
		}
		// An ALIAS is put into the text of the query for the shards, with its name, and
		// sum(bytes) AS bytes then has two meanings there (seen in 26.7). What is MATERIALIZED
		// is asked for by name, and the shard knows the alias; SELECT * leaves out both.
		if defaults == "ALIAS" {
			defaults = "MATERIALIZED"
		}
		columns = append(columns, strings.TrimSpace(fmt.Sprintf("`%s` %s %s %s", name, kind, defaults, expression))+" COMMENT "+quote(about))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look at the columns of %s.%s: %w", l.local, table, err)
	}
	// Collectors do not insert through it. Others do, and of a table that keeps the
	// last version of each key, all versions must be in one shard.
	sharding := "rand()"
	if strings.Contains(engine, "Replacing") {
		sharding = "cityHash64(" + key + ")"
	}
	return fmt.Sprintf("CREATE OR REPLACE TABLE `%s`%s\n(\n    %s\n)\nENGINE = Distributed('%s', '%s', '%s', %s)\nCOMMENT %s",
		table, l.onCluster(), strings.Join(columns, ",\n    "), l.cluster.Name, l.local, table, sharding, quote(comment)), nil
}

// filler counts the materialized views that fill a table.
const filler = " WHERE engine = 'MaterializedView' AND database = ? AND extract(create_table_query, ' TO [a-zA-Z0-9_]+\\.([a-z0-9_]+)') = ?"

// filled reports whether a table has its rows: from the materialized views, which
// a migration makes once it has filled the table from what was there before, or by
// replication. To fill it once more would lose what is older than its source, and
// double what comes meanwhile.
func (l *layout) filled(ctx context.Context, local clickhouse.Conn, table string) (bool, error) {
	questions := []string{"SELECT count() FROM system.tables" + filler}
	switch {
	case l.cluster.Name != "" && l.cluster.OnCluster: // on all servers at once
		questions[0] = "SELECT count() FROM clusterAllReplicas('" + l.cluster.Name + "', system.tables)" + filler
	case l.cluster.Name != "" && l.cluster.Replicated: // this one may join others that have the rows
		questions = append(questions, "SELECT countIf(total_replicas > 1) FROM system.replicas WHERE database = ? AND table = ?")
	}
	for _, question := range questions {
		var n uint64
		if err := local.QueryRow(ctx, question, l.local, table).Scan(&n); err != nil {
			return false, fmt.Errorf("look at what fills %s.%s: %w", l.local, table, refusal(err))
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// quote returns text as a string of SQL.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
