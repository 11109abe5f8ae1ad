package schema_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/migrations"
)

func TestMigrator(t *testing.T) {
	ch, nats := chtest.Start(t), natstest.Start(t)
	for name, test := range map[string]func(*testing.T, *bed){
		"a fresh database gets everything, a second run does nothing": fresh,
		"rows from before an upgrade have defaults in new columns":    upgraded,
		"a changed migration is refused by name":                      changed,
		"a newer database is refused by name":                         newer,
		"a failed step is named and the next run goes on from there":  failedStep,
		"rows that are filled stay when a step fails":                 repeatedFill,
		"many collectors at once apply each migration once":           atOnce,
		"of many collectors at once one creates the database":         createdAtOnce,
		"every retention is a key":                                    everyRetention,
		"tables are brought to the configuration":                     reconciled,
		"a foreign time to live is left alone":                        foreign,
		"many collectors at once change a table once":                 reconciledAtOnce,
		"a change that is refused names its key":                      refusedChange,
		"every view runs":                                             views,
		"views give the known answers":                                answers,
		"views on attributes give the known answers":                  attributeAnswers,
		"docs/columns.md tells what the database has":                 columnsDocument,
		"every table and column has a comment":                        comments,
		"the reader can read every view":                              readerViews,
		"the writer sees that nothing is to be done":                  writerLooks,
		"a lock whose holder died becomes free":                       deadHolder,
		"a lock that cannot be renewed is given up":                   lostLock,
	} {
		t.Run(name, func(t *testing.T) {
			conn := chconn.Config{
				Address: ch.Addr, Database: ch.NewDatabase(t), User: chtest.Collector,
				Password: config.Secret(ch.CollectorPassword), Compression: "none",
			}
			test(t, &bed{ch: ch, conn: conn, nats: nats, js: nats.JetStream(t)})
		})
	}
}

type bed struct {
	ch   *chtest.Server
	conn chconn.Config
	nats *natstest.Server
	js   jetstream.JetStream
}

func (b *bed) migrator(t *testing.T, all []migrations.Migration) *schema.Migrator {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	store := schema.DefaultConfig()
	return &schema.Migrator{
		ClickHouse: b.conn, Store: &store, Migrations: all, Log: log, By: "test build",
		Lock: &schema.KVLock{JS: b.js, Holder: "test", TTL: 4 * time.Second, Log: log},
	}
}

// shipped returns the migrations of this build.
func shipped(t *testing.T) []migrations.Migration {
	t.Helper()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// load returns migrations made of the texts.
func load(t *testing.T, texts ...string) []migrations.Migration {
	t.Helper()
	fsys := fstest.MapFS{}
	for i, text := range texts {
		fsys[fmt.Sprintf("%04d_m.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	all, err := migrations.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const (
	one = "CREATE TABLE IF NOT EXISTS one (a UInt8) ENGINE = MergeTree ORDER BY a"
	two = "CREATE TABLE IF NOT EXISTS two (a UInt8) ENGINE = MergeTree ORDER BY a"
)

func fresh(t *testing.T, b *bed) {
	b.ch.Query(t, "DROP DATABASE "+b.conn.Database) // the migrator creates it
	all := shipped(t)
	applied, err := b.migrator(t, all).Run(t.Context())
	if err != nil || len(applied.Migrations) != len(all) || applied.Changes != 0 {
		t.Fatalf("applied %d of %d, and %d changes that the default configuration should not need: %v", len(applied.Migrations), len(all), applied.Changes, err)
	}
	applied, err = b.migrator(t, all).Run(t.Context())
	if err != nil || len(applied.Migrations) != 0 || applied.Changes != 0 {
		t.Fatalf("the second run did %+v: %v", applied, err)
	}
	got := b.ch.Query(t, "SELECT version, file, applied_by FROM "+b.conn.Database+".schema_migrations ORDER BY version LIMIT 1")
	if got != "1\t0001_flows.sql\ttest build" {
		t.Errorf("schema_migrations begins with %q", got)
	}
}

func upgraded(t *testing.T, b *bed) {
	all := shipped(t)
	if _, err := b.migrator(t, all[:3]).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := b.conn.Database
	b.ch.Query(t, "INSERT INTO "+db+".flows (agent, interface, start, src_ip, dst_ip, src_packets, sampling) VALUES ('a', 'eth7', now64(3), '10.0.0.1', '10.0.0.2', 3, 1)")
	b.ch.Query(t, "INSERT INTO "+db+".coverage (time, agent, sequence, interval_ms, seen_packets, recorded_packets) VALUES (now64(3), 'a', 1, 5000, 3, 3)")
	if _, err := b.migrator(t, all).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"SELECT interfaces, tunnel, app, src_pid, server_name, src_packets FROM " + db + ".flows": "eth7\t\t\t0\t\t3",
		"SELECT netns, skipped_packets, reasons, seen_packets FROM " + db + ".coverage":           "\t0\t{}\t3",
		"SELECT coverage_percent, unaccounted_packets FROM " + db + ".agents":                     "100\t0",
		"SELECT sum(records) FROM " + db + ".flows_1m":                                            "1",
	} {
		if got := b.ch.Query(t, query); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
}

func changed(t *testing.T, b *bed) {
	if _, err := b.migrator(t, load(t, one, two)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.migrator(t, load(t, one+" COMMENT 'changed'", two)).Run(t.Context())
	if !errors.Is(err, schema.ErrChanged) || !schema.Permanent(err) || !strings.Contains(err.Error(), "0001_m.sql") || !strings.Contains(err.Error(), "new migration") {
		t.Errorf("error is %v", err)
	}
}

func newer(t *testing.T, b *bed) {
	if _, err := b.migrator(t, load(t, one, two)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.migrator(t, load(t, one)).Run(t.Context())
	if !errors.Is(err, schema.ErrNewer) || !schema.Permanent(err) || !strings.Contains(err.Error(), "0002_m.sql") || !strings.Contains(err.Error(), "test build") {
		t.Errorf("error is %v", err)
	}
}

func failedStep(t *testing.T, b *bed) {
	broken := two + "\n-- step\nCREATE TABLE IF NOT EXISTS three (a Nonsense) ENGINE = MergeTree ORDER BY a"
	applied, err := b.migrator(t, load(t, one, broken)).Run(t.Context())
	if !errors.Is(err, schema.ErrRefused) || !strings.Contains(err.Error(), "0002_m.sql, step 2 of 2 (CREATE TABLE IF NOT EXISTS three") {
		t.Errorf("error is %v", err)
	}
	if len(applied.Migrations) != 1 {
		t.Errorf("%d are applied, want the first only", len(applied.Migrations))
	}
	applied, err = b.migrator(t, load(t, one, strings.Replace(broken, "Nonsense", "UInt8", 1))).Run(t.Context())
	if err != nil || len(applied.Migrations) != 1 {
		t.Errorf("after the repair %d are applied: %v", len(applied.Migrations), err)
	}
}

// repeatedFill is a migration that fills a table and fails behind that. Rows come
// meanwhile, and what it was filled from is partly gone.
func repeatedFill(t *testing.T, b *bed) {
	filled := one + `
-- step
CREATE TABLE IF NOT EXISTS sums (a UInt8) ENGINE = MergeTree ORDER BY a
-- step
TRUNCATE TABLE sums
-- step
INSERT INTO sums
SELECT a FROM one
-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS sums_mv TO sums AS
SELECT a FROM one
-- step
CREATE TABLE IF NOT EXISTS three (a Nonsense) ENGINE = MergeTree ORDER BY a`
	if _, err := b.migrator(t, load(t, one)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := b.conn.Database
	b.ch.Query(t, "INSERT INTO "+db+".one VALUES (1), (2)")
	for range 2 {
		if _, err := b.migrator(t, load(t, one, filled)).Run(t.Context()); !errors.Is(err, schema.ErrRefused) {
			t.Fatalf("error is %v", err)
		}
	}
	b.ch.Query(t, "INSERT INTO "+db+".one VALUES (3)")
	b.ch.Query(t, "TRUNCATE TABLE "+db+".one")
	if _, err := b.migrator(t, load(t, one, strings.Replace(filled, "Nonsense", "UInt8", 1))).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.ch.Query(t, "SELECT groupArray(a) FROM (SELECT a FROM "+db+".sums ORDER BY a)"); got != "[1,2,3]" {
		t.Errorf("the table has %s, want [1,2,3]", got)
	}
}

func atOnce(t *testing.T, b *bed) {
	all := shipped(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 4 {
		m := b.migrator(t, all)
		m.Lock = &schema.KVLock{JS: b.nats.JetStream(t), Holder: "one of four", TTL: 4 * time.Second, Log: m.Log}
		wg.Go(func() {
			applied, err := m.Run(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += len(applied.Migrations)
		})
	}
	wg.Wait()
	if total != len(all) {
		t.Errorf("%d were applied by four collectors, want %d", total, len(all))
	}
	if got := b.ch.Query(t, "SELECT count() FROM "+b.conn.Database+".schema_migrations"); got != fmt.Sprint(len(all)) {
		t.Errorf("schema_migrations has %s rows, want %d", got, len(all))
	}
}

// arguments of the views that have parameters.
var arguments = map[string]string{
	"service_rtt_between":        "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"process_traffic_between":    "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"hours_of":                   "(address = '2001:db8::1', since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"top_talkers_between":        "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"addresses_between":          "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"countries_between":          "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"autonomous_systems_between": "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"networks_between":           "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"tags_between":               "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"network_pairs_between":      "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"new_pairs_since":            "(since = '2026-01-01 00:00:00')",
	"conversations_of":           "(address = '192.0.2.1', since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"processes_between":          "(since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"lookups_of":                 "(name = 'example.com', since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
	"peers_of":                   "(address = '2001:db8::1', since = '2026-01-01 00:00:00', until = '2026-01-02 00:00:00')",
}

func (b *bed) everyView(t *testing.T, user string) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(b.ch.Query(t, "SELECT name FROM system.tables WHERE engine = 'View' AND database = '"+b.conn.Database+"'"))
	if len(names) < 24 {
		t.Fatalf("only %d views: %v", len(names), names)
	}
	for _, name := range names {
		if _, err := b.ch.QueryAs(user, "SELECT * FROM "+b.conn.Database+"."+name+arguments[name]); err != nil {
			t.Errorf("view %s: %v", name, err)
		}
	}
}

func views(t *testing.T, b *bed)       { b.everyView(t, chtest.Collector) }
func readerViews(t *testing.T, b *bed) { b.everyView(t, chtest.Reader) }

func comments(t *testing.T, b *bed) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.ch.Query(t, "SELECT name FROM system.tables WHERE comment = '' AND database = '"+b.conn.Database+"'")
	if got != "" {
		t.Errorf("tables and views without a comment: %s", got)
	}
	got = b.ch.Query(t, "SELECT table || '.' || name FROM system.columns WHERE comment = '' AND database = '"+b.conn.Database+
		"' AND table NOT IN (SELECT name FROM system.tables WHERE engine = 'MaterializedView' AND database = '"+b.conn.Database+"')")
	if got != "" {
		t.Errorf("columns without a comment: %s", got)
	}
	// ClickHouse keeps no columns of views with parameters: theirs are commented in
	// the view that they repeat, or named in their own comment.
	for view, values := range arguments {
		head, err := b.ch.QueryIn(chtest.Reader, b.conn.Database, "SELECT * FROM "+view+values+" LIMIT 0 FORMAT TSVWithNames")
		if err != nil || head == "" {
			t.Fatalf("columns of %s: %q, %v", view, head, err)
		}
		known := b.ch.Query(t, "SELECT name FROM system.columns WHERE database = '"+b.conn.Database+"' AND match('"+view+"', '^' || table || '_(between|since|of)$')") +
			" " + b.ch.Query(t, "SELECT comment FROM system.tables WHERE database = '"+b.conn.Database+"' AND name = '"+view+"'")
		words := strings.FieldsFunc(known, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		for column := range strings.FieldsSeq(head) {
			if !slices.Contains(words, column) {
				t.Errorf("nothing says what %s of %s is", column, view)
			}
		}
	}
	if got := b.ch.Query(t, "SELECT count() FROM system.columns WHERE database = '"+b.conn.Database+"'"); len(got) < 3 {
		t.Errorf("system.columns shows %s columns: the test looks at nothing", got)
	}
}

// writerLooks is a collector that has the role of the writer alone, beside an
// administrator who runs collector migrate.
func writerLooks(t *testing.T, b *bed) {
	all := shipped(t)
	if _, err := b.migrator(t, all[:len(all)-1]).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer := *b
	writer.conn.User, writer.conn.Password = chtest.Writer, config.Secret(b.ch.WriterPassword)
	if applied, err := writer.migrator(t, all).Run(t.Context()); !errors.Is(err, schema.ErrRefused) || len(applied.Migrations) != 0 || !strings.Contains(err.Error(), "collector migrate") {
		t.Errorf("before the migration the writer applied %d: %v", len(applied.Migrations), err)
	}
	if _, err := b.migrator(t, all).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if applied, err := writer.migrator(t, all).Run(t.Context()); err != nil || len(applied.Migrations) != 0 {
		t.Errorf("after the migration the writer applied %d: %v", len(applied.Migrations), err)
	}
	// A table that no service may fill lacks a grant in internal/access.
	for _, table := range strings.Fields(b.ch.Query(t, "SELECT name FROM system.tables WHERE engine LIKE '%MergeTree' AND name != 'schema_migrations' AND database = '"+b.conn.Database+
		"' AND name NOT IN (SELECT extract(create_table_query, ' TO [a-z0-9_]+\\.([a-z0-9_]+)') FROM system.tables WHERE engine = 'MaterializedView' AND database = '"+b.conn.Database+"')")) {
		fillers := 0
		for _, user := range []string{chtest.Writer, chtest.Analyzer} {
			granted, err := b.ch.QueryAs(user, "CHECK GRANT INSERT ON "+b.conn.Database+"."+table)
			if err != nil {
				t.Fatal(err)
			}
			if granted == "1" {
				fillers++
			}
		}
		if fillers != 1 {
			t.Errorf("%d of writer and analyzer may insert into %s, want one: see writes and concludes in internal/access", fillers, table)
		}
	}
}

func deadHolder(t *testing.T, b *bed) {
	log := slog.New(slog.DiscardHandler)
	kv, err := b.js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: schema.LockBucket, TTL: 2 * time.Second, History: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "lock", []byte("dead")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	lock := &schema.KVLock{JS: b.js, Holder: "heir", TTL: 2 * time.Second, Log: log}
	_, unlock, err := lock.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	_, unlock, err = lock.Lock(ctx) // and at once after it was given back
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func lostLock(t *testing.T, b *bed) {
	lock := &schema.KVLock{JS: b.js, Holder: "robbed", TTL: time.Second, Log: slog.New(slog.DiscardHandler)}
	held, unlock, err := lock.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	kv, err := b.js.KeyValue(t.Context(), schema.LockBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "lock", []byte("robber")); err != nil {
		t.Fatal(err)
	}
	defer kv.Purge(t.Context(), "lock")
	select {
	case <-held.Done():
		if !errors.Is(context.Cause(held), schema.ErrLockLost) {
			t.Errorf("the migration ends with %v", context.Cause(held))
		}
	case <-time.After(5 * time.Second):
		t.Error("the migration goes on without the lock")
	}
}

func createdAtOnce(t *testing.T, b *bed) {
	b.ch.Query(t, "DROP DATABASE "+b.conn.Database)
	var log bytes.Buffer // a handler writes one record at a time
	said := slog.New(slog.NewTextHandler(&log, nil))
	var wg sync.WaitGroup
	for i := range 4 {
		m := b.migrator(t, shipped(t)[:1])
		m.Log, m.Store = said, nil
		m.Lock = &schema.KVLock{JS: b.nats.JetStream(t), Holder: fmt.Sprint("collector ", i), TTL: 4 * time.Second, Log: said}
		wg.Go(func() {
			if _, err := m.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(log.String(), "database created"); n != 1 {
		t.Errorf("%d collectors say that they created the database:\n%s", n, &log)
	}
}
