package schema_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// cluster returns a bed on each server of a cluster of two shards, migrated. They
// have no Keeper: each is migrated by itself.
func cluster(t *testing.T) []*bed {
	nats := natstest.Start(t)
	var beds []*bed
	for _, ch := range chtest.StartCluster(t, 2) {
		conn := chconn.Config{Address: ch.Addr, Database: ch.Database, User: chtest.Collector, Password: config.Secret(ch.CollectorPassword), Compression: "none", Cluster: chconn.DefaultCluster()}
		conn.Cluster.Name, conn.Cluster.OnCluster, conn.Cluster.Replicated = chtest.Cluster, false, false
		beds = append(beds, &bed{ch: ch, conn: conn, nats: nats, js: nats.JetStream(t)})
	}
	all := shipped(t)
	for _, b := range beds {
		if applied, err := b.migrator(t, all).Run(t.Context()); err != nil || len(applied.Migrations) != len(all) || applied.Changes != 0 {
			t.Fatalf("applied %d of %d, and %d changes: %v", len(applied.Migrations), len(all), applied.Changes, err)
		}
	}
	return beds
}

var inserted = regexp.MustCompile(`INSERT INTO (\w+)`)

// What collectors insert into the shards, and the analyzer through any server,
// answers every question of docs/sql.md as on one server, whichever is asked.
func TestAClusterAnswersAsOneServer(t *testing.T) {
	beds := cluster(t)
	data, err := os.ReadFile(questionsData)
	if err != nil {
		t.Fatal(err)
	}
	base := "toDateTime64('" + time.Now().UTC().Format(time.DateTime) + "', 3, 'UTC')"
	shard := 0
	for step := range strings.SplitSeq(string(data), "\n-- step\n") {
		into, user, database := beds[shard%2:shard%2+1], chtest.Writer, beds[0].conn.Local().Database
		switch match := inserted.FindStringSubmatch(step); {
		case match == nil: // a change of what is there
			into, user = beds, chtest.Collector
		case match[1] == "as_names": // each collector tells its own shard what it knows
			into = beds
		case slices.Contains([]string{"findings", "incidents", "reports", "deliveries"}, match[1]):
			user, database = chtest.Analyzer, beds[0].conn.Database
			step = strings.Replace(step, " VALUES", " SETTINGS distributed_foreground_insert = 1 VALUES", 1)
		}
		for _, b := range into {
			if _, err := b.ch.QueryIn(user, database, strings.ReplaceAll(step, "now64(3)", base)); err != nil {
				t.Fatalf("%.60s: %v", step, err)
			}
		}
		shard++
	}
	for i, b := range beds {
		for _, table := range []string{"flows", "flows_1m"} {
			if b.ch.Query(t, "SELECT count() > 0 FROM "+b.conn.Local().Database+"."+table) != "1" {
				t.Errorf("shard %d has no %s: the test shows nothing", i, table)
			}
		}
		t.Run(fmt.Sprintf("shard %d is asked", i), func(t *testing.T) {
			b.answer(t)
			b.everyView(t, chtest.Reader)
		})
	}
}

// A migration that fills a table does so in each shard, and never again: not where a
// materialized view fills it by now, on this server or on another.
func TestRowsAreFilledOnceInEachShard(t *testing.T) {
	beds := cluster(t)
	local := beds[0].conn.Local().Database
	count := func(b *bed) string {
		return b.ch.Query(t, "SELECT groupArray(a) FROM (SELECT a FROM "+local+".new ORDER BY a)")
	}
	for i, b := range beds {
		b.ch.Query(t, "CREATE TABLE "+local+".old (a UInt8) ENGINE = MergeTree ORDER BY a")
		b.ch.Query(t, "CREATE TABLE "+local+".new (a UInt8) ENGINE = MergeTree ORDER BY a")
		b.ch.Query(t, fmt.Sprintf("INSERT INTO %s.old VALUES (%d)", local, i+1))
	}
	everywhere := *beds[0]
	everywhere.conn.Cluster.OnCluster = true
	everywhere.conn.Cluster.Shards = []string{beds[0].conn.Address, beds[1].conn.Address}
	fill := func(b *bed, text string) {
		t.Helper()
		if err := schema.Fill(t.Context(), b.migrator(t, shipped(t)), text); err != nil {
			t.Fatal(err)
		}
	}
	const again = "INSERT INTO new\nSELECT a FROM old"
	fill(&everywhere, again)
	if a, b := count(beds[0]), count(beds[1]); a != "[1]" || b != "[2]" {
		t.Errorf("the shards have %s and %s, want [1] and [2]", a, b)
	}
	fill(&everywhere, "TRUNCATE TABLE new")
	if a, b := count(beds[0]), count(beds[1]); a != "[]" || b != "[]" {
		t.Errorf("emptied, the shards have %s and %s", a, b)
	}
	fill(&everywhere, again)
	beds[1].ch.Query(t, "CREATE MATERIALIZED VIEW "+local+".new_mv TO "+local+".new AS SELECT a FROM "+local+".old")
	for _, text := range []string{"TRUNCATE TABLE new", again} {
		fill(&everywhere, text)
		fill(beds[1], text) // and where each server is migrated by itself
	}
	if a, b := count(beds[0]), count(beds[1]); a != "[1]" || b != "[2]" {
		t.Errorf("a repetition leaves %s and %s, want [1] and [2]", a, b)
	}
	if fill(beds[0], again); count(beds[0]) != "[1,1]" { // no view of this server
		t.Errorf("a server that is migrated by itself has %s after it was filled again, want [1,1]", count(beds[0]))
	}
}

// The rewritten statements of a cluster with Keeper cannot run here: ClickHouse
// reads them, and the test looks for what must be in them.
func TestStatementsForReplicatedTablesAreClickHouses(t *testing.T) {
	ch := chtest.Start(t)
	conn := chconn.Config{Database: "ebbwatch", Cluster: chconn.DefaultCluster()}
	conn.Cluster.Name = "fleet"
	tables, fillers, views := 0, 0, 0
	for _, m := range shipped(t) {
		for i, text := range m.Steps {
			got, err := schema.Rewrite(conn, shipped(t), text)
			if err != nil {
				t.Fatalf("%s, step %d: %v", m.File, i+1, err)
			}
			read, err := ch.QueryAs(chtest.Reader, "SELECT formatQuery('"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(got)+"') FORMAT TSVRaw")
			if err != nil {
				t.Errorf("%s, step %d: %v\n%s", m.File, i+1, err, got)
				continue
			}
			head, _, _ := strings.Cut(read, "\n")
			switch rows := strings.HasPrefix(read, "INSERT ") || strings.HasPrefix(read, "TRUNCATE "); {
			case rows != !strings.Contains(head, " ON CLUSTER fleet"): // those of a table go to each shard by themselves
				t.Errorf("%s, step %d: runs on one server only: %s", m.File, i+1, head)
			case strings.HasPrefix(read, "CREATE TABLE"):
				tables++
				if !regexp.MustCompile(`(?m)^ENGINE = Replicated\w*MergeTree\('/clickhouse/tables/\{shard\}/\{database\}/\{table\}', '\{replica\}'[,)]`).MatchString(read) || strings.Contains(read, " non_replicated") {
					t.Errorf("%s, step %d: is not replicated:\n%s", m.File, i+1, read)
				}
				if strings.Contains(text, "non_replicated_deduplication_window = 10000") && !strings.Contains(read, "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800") {
					t.Errorf("%s, step %d: repeated inserts are not known for as long as a batch may wait:\n%s", m.File, i+1, read)
				}
			case strings.HasPrefix(read, "CREATE MATERIALIZED VIEW"):
				fillers++
			case strings.HasPrefix(read, "CREATE OR REPLACE VIEW"):
				views++
			}
		}
	}
	if tables < 12 || fillers < 2 || views < 24 {
		t.Errorf("%d tables, %d materialized views and %d views: the test looks at too little", tables, fillers, views)
	}
}

func TestRewrite(t *testing.T) {
	const path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
	one := chconn.Config{Database: "ebbwatch"}
	local := chconn.Config{Database: "ebbwatch", Cluster: chconn.Cluster{Name: "c"}}
	full := chconn.Config{Database: "ebbwatch", Cluster: chconn.DefaultCluster()}
	full.Cluster.Name = "c"
	const table = "CREATE TABLE IF NOT EXISTS t\n(\n    `a` UInt8 COMMENT 'ENGINE = MergeTree'\n)\nENGINE = ReplacingMergeTree(version)\nORDER BY (a)\nSETTINGS non_replicated_deduplication_window = 100"
	for name, test := range map[string]struct {
		conn       chconn.Config
		text, want string
	}{
		"without a cluster nothing is changed":           {one, table, table},
		"a table of a shard alone stays as it is":        {local, table, table},
		"a table is made everywhere and replicated":      {full, table, "CREATE TABLE IF NOT EXISTS t ON CLUSTER `c`\n(\n    `a` UInt8 COMMENT 'ENGINE = MergeTree'\n)\nENGINE = ReplicatedReplacingMergeTree(" + path + ", version)\nORDER BY (a)\nSETTINGS replicated_deduplication_window = 100, replicated_deduplication_window_seconds = 604800"},
		"an engine without arguments has those":          {full, "CREATE TABLE IF NOT EXISTS t (a UInt8)\nENGINE = MergeTree\nORDER BY a", "CREATE TABLE IF NOT EXISTS t ON CLUSTER `c` (a UInt8)\nENGINE = ReplicatedMergeTree(" + path + ")\nORDER BY a"},
		"a materialized view is made everywhere":         {full, "CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS\nSELECT 1", "CREATE MATERIALIZED VIEW IF NOT EXISTS v ON CLUSTER `c` TO t AS\nSELECT 1"},
		"a view is made everywhere":                      {full, "CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v ON CLUSTER `c` AS SELECT 1"},
		"a change is made everywhere":                    {full, "ALTER TABLE t ADD COLUMN IF NOT EXISTS a UInt8", "ALTER TABLE t ON CLUSTER `c` ADD COLUMN IF NOT EXISTS a UInt8"},
		"an engine that is not on its own line is none":  {full, "CREATE TABLE IF NOT EXISTS t (a UInt8) ENGINE = MergeTree ORDER BY a", "error"},
		"an engine of another family is refused":         {full, "CREATE TABLE IF NOT EXISTS t (a UInt8)\nENGINE = Log", "error"},
		"a statement that cannot be repeated is refused": {full, "CREATE TABLE t (a UInt8)\nENGINE = MergeTree\nORDER BY a", "error"},
		"another statement is refused":                   {full, "OPTIMIZE TABLE t", "error"},
		"rows are changed in each shard by itself":       {full, "INSERT INTO t\nSELECT 1", "INSERT INTO t\nSELECT 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := schema.Rewrite(test.conn, load(t, test.text), test.text)
			if test.want == "error" {
				if err == nil || !strings.Contains(err.Error(), "cluster") {
					t.Errorf("it becomes %q (%v), want an error", got, err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("it becomes\n%s\nwant\n%s\n%v", got, test.want, err)
			}
		})
	}
}
