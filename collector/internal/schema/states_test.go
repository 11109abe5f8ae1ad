package schema_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// A state is what a released build leaves in a database: testdata/states/NNNN.sql,
// after migration NNNN, has its tables, some rows of each, and its views, as
// statements. A release keeps one:
//
//	go test ./internal/schema -run EveryReleasedState -keep 10
//
// and it is never changed after that.
const stateFiles = "testdata/states"

var keep = flag.Uint("keep", 0, "write the state after this migration into "+stateFiles)

// stateRows fill every table; each stands behind the migration that it needs.
// Their times are far ahead, so that no time to live takes them.
var stateRows = []struct {
	since      uint32
	statements []string
}{
	{1, []string{sampleFlows, sampleCoverage}},
	{2, append([]string{sampleFindings}, sampleConclusions...)},
	{4, []string{sampleDrops, attributeFlows, attributeCoverage, attributeWarnings, attributeSources}},
	{6, []string{runsCoverage}},
	{8, []string{`INSERT INTO %.refused_batches (time, agent, reason, subject, detail, message_id, bytes, sequence) VALUES (now64(3), 'web-1', 'ancient', 'ebbwatch.flows.web-1', 'old', 'web-1:boot-a:7', 100, 7)`}},
	{10, []string{`INSERT INTO %.imports (id, version, agent, format, file, digest, size, begun, blocks, records, rows, done, updated) VALUES ('i', 1, 'zeek-1', 'zeek', '/conn.log', 'd', 100, true, 1, 2, 2, true, now64(3))`}},
}

const stateTime = "toDateTime64('2100-01-15 12:00:00', 3, 'UTC')"

// tablesFirst orders what is in a database so that each stands behind what it reads.
const tablesFirst = "multiIf(engine LIKE '%MergeTree', 0, engine = 'MaterializedView', 1, 2), name"

func TestUpgradesFromEveryReleasedState(t *testing.T) {
	b := &bed{ch: chtest.Start(t), nats: natstest.Start(t)}
	b.js = b.nats.JetStream(t)
	next := func(t *testing.T) *bed {
		c := *b
		c.conn = chconn.Config{Address: b.ch.Addr, Database: b.ch.NewDatabase(t), User: chtest.Collector, Password: config.Secret(b.ch.CollectorPassword), Compression: "none"}
		return &c
	}
	if *keep > 0 {
		next(t).keepState(t, uint32(*keep))
	}
	files, err := filepath.Glob(filepath.Join(stateFiles, "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no states in %s: %v", stateFiles, err)
	}
	fresh := next(t)
	if _, err := fresh.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := fresh.definitions(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { next(t).upgrade(t, file, want) })
	}
}

// upgrade restores a state, runs the migrations of this build, and looks whether
// the rows are there, every view answers, and nothing differs from a fresh database.
func (b *bed) upgrade(t *testing.T, file string, want map[string]string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for step := range strings.SplitSeq(strings.ReplaceAll(string(text), "DATABASE.", b.conn.Database+"."), "\n-- step\n") {
		if _, err := b.ch.QueryIn(chtest.Collector, b.conn.Database, step); err != nil {
			t.Fatalf("restore: %.80s: %v", step, err)
		}
	}
	before := make(map[string][]string) // table to columns and rows
	for _, table := range b.tables(t) {
		columns := b.columns(t, table)
		if before[table] = []string{columns, b.rows(t, table, columns)}; before[table][1] == "" {
			t.Errorf("%s has no rows in this state", table)
		}
	}
	views := b.names(t, "engine = 'View'")
	if len(before) < 11 {
		t.Fatalf("the state has %d tables", len(before))
	}
	applied, err := b.migrator(t, shipped(t)).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d migrations, %d changes", len(applied.Migrations), applied.Changes)
	for table, was := range before {
		if got := b.rows(t, table, was[0]); table != "schema_migrations" && got != was[1] {
			t.Errorf("rows of %s are\n%s\nwere\n%s", table, got, was[1])
		}
	}
	got := b.definitions(t)
	for name, definition := range want {
		if got[name] != definition {
			t.Errorf("%s is after the upgrade\n%s\nand in a fresh database\n%s", name, got[name], definition)
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("%s is not in a fresh database", name)
		}
	}
	for name, definition := range got {
		if !strings.Contains(definition, "CREATE VIEW") {
			continue
		}
		switch answer, err := b.ch.QueryIn(chtest.Reader, b.conn.Database, "SELECT * FROM "+name+centuries.Replace(arguments[name])); {
		case err != nil:
			t.Errorf("view %s: %v", name, err)
		case answer == "" && arguments[name] == "" && slices.Contains(views, name):
			t.Errorf("view %s has no row of this state", name)
		}
	}
}

// centuries moves the arguments of views to the time of the states.
var centuries = strings.NewReplacer("2026-", "2100-")

// definitions returns the statement that makes each table and view.
func (b *bed) definitions(t *testing.T) map[string]string {
	all := make(map[string]string)
	for _, name := range b.names(t, "1") {
		all[name] = b.definition(t, name)
	}
	return all
}

func (b *bed) definition(t *testing.T, name string) string {
	return strings.ReplaceAll(b.ch.Query(t, "SHOW CREATE TABLE "+b.conn.Database+"."+name+" FORMAT TSVRaw"), b.conn.Database+".", "DATABASE.")
}

func (b *bed) tables(t *testing.T) []string { return b.names(t, "engine LIKE '%MergeTree'") }

func (b *bed) names(t *testing.T, condition string) []string {
	return strings.Fields(b.ch.Query(t, "SELECT name FROM system.tables WHERE database = '"+b.conn.Database+"' AND "+condition+" ORDER BY "+tablesFirst))
}

// columns returns those that rows are inserted into, with commas between.
func (b *bed) columns(t *testing.T, table string) string {
	return b.ch.Query(t, "SELECT arrayStringConcat(groupArray('`' || name || '`'), ', ') FROM (SELECT name FROM system.columns WHERE default_kind != 'ALIAS' AND table = '"+table+"' AND database = '"+b.conn.Database+"' ORDER BY position)")
}

// rows returns the rows of a table as JSON, in an order that depends on them only.
func (b *bed) rows(t *testing.T, table, columns string) string {
	lines := strings.Split(b.ch.Query(t, "SELECT "+columns+" FROM "+b.conn.Database+"."+table+" FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// keepState writes the state after the migration of that number.
func (b *bed) keepState(t *testing.T, version uint32) {
	file := filepath.Join(stateFiles, fmt.Sprintf("%04d.sql", version))
	if _, err := os.Stat(file); err == nil {
		t.Fatalf("%s is kept already; a released state never changes", file)
	}
	m := b.migrator(t, shipped(t)[:version])
	m.Store = nil
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, rows := range stateRows {
		for _, statement := range rows.statements {
			if rows.since <= version {
				b.ch.Query(t, strings.NewReplacer("%", b.conn.Database, "now64(3)", stateTime).Replace(statement))
			}
		}
	}
	steps := []string{fmt.Sprintf("-- What a build leaves whose newest migration is %04d. Made by TestUpgradesFromEveryReleasedState; never changed.", version)}
	for _, name := range b.tables(t) {
		columns := b.columns(t, name)
		steps = append(steps, b.definition(t, name), "INSERT INTO DATABASE."+name+" ("+columns+") FORMAT JSONEachRow\n"+b.rows(t, name, columns))
	}
	for _, name := range b.names(t, "engine LIKE '%View'") { // after the rows, which would run through them again
		steps = append(steps, b.definition(t, name))
	}
	steps[1] = steps[0] + "\n" + steps[1]
	if err := os.MkdirAll(stateFiles, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Join(steps[1:], "\n-- step\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
