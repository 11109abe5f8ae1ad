package schema_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// everyRetention keeps the list of tables complete: one that a migration adds
// needs a key.
func everyRetention(t *testing.T, b *bed) {
	m := b.migrator(t, shipped(t))
	m.Store = nil
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var dump strings.Builder
	if err := config.Dump(&dump, schema.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	lifetimes := b.ch.Query(t, "SELECT name, extract(engine_full, ' TTL .*toIntervalDay.([0-9]+)') FROM system.tables WHERE engine LIKE '%MergeTree' AND engine_full LIKE '% TTL %' AND database = '"+b.conn.Database+"'")
	if n := strings.Count(lifetimes, "\n") + 1; n < 11 {
		t.Fatalf("only %d tables with a time to live", n)
	}
	for line := range strings.SplitSeq(lifetimes, "\n") {
		if table, days, _ := strings.Cut(line, "\t"); !strings.Contains(dump.String(), "\n  "+table+": "+days+"\n") {
			t.Errorf("%s is kept for %s days by the migrations; the default configuration says something else:\n%s", table, days, dump.String())
		}
	}
	if applied, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil || applied.Changes != 0 {
		t.Errorf("the default configuration makes %d changes (%v): it is not what the migrations make", applied.Changes, err)
	}
}

func (b *bed) state(t *testing.T) string {
	return b.ch.Query(t, "SELECT extract(engine_full, ' TTL (.*) SETTINGS') FROM system.tables WHERE name = 'flows' AND database = '"+b.conn.Database+"'") + "|" +
		b.ch.Query(t, "SELECT arrayStringConcat(groupArray(name || ' ' || expr || ' ' || type_full || ' ' || toString(granularity)), ', ') FROM (SELECT * FROM system.data_skipping_indices WHERE table = 'flows' AND database = '"+b.conn.Database+"' ORDER BY name)")
}

func reconciled(t *testing.T, b *bed) {
	m := b.migrator(t, shipped(t))
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	const before = "toDateTime(start) + toIntervalDay(7)|dst_ip_bloom dst_ip bloom_filter(0.01) 4, src_ip_bloom src_ip bloom_filter(0.01) 4, start_minmax start minmax 1"
	if got := b.state(t); got != before {
		t.Fatalf("the migrations make %s, want %s", got, before)
	}
	// Parts of a month ago, which the new time to live must take with it.
	b.ch.Query(t, "SYSTEM STOP TTL MERGES "+b.conn.Database+".flows")
	b.ch.Query(t, "INSERT INTO "+b.conn.Database+".flows (agent, start, src_ip, sampling) VALUES ('old', now() - INTERVAL 3 DAY, '10.0.0.1', 1), ('new', now(), '10.0.0.1', 1)")
	m.Store.RetentionDays.Flows, m.Store.RetentionDays.Reports, m.Store.RetentionDays.Features = 2, 1000, 0
	m.Store.Indices = []schema.Index{
		{Table: "flows", Name: "dst_ip_bloom", Expression: "dst_ip", Type: "bloom_filter(0.001)", Granularity: 2}, // another type
		{Table: "flows", Name: "names", Expression: "lower( server_name )", Type: "ngrambf_v1(3, 1024, 2, 0)", Granularity: 4},
		{Table: "sources", Name: "addr_bloom", Expression: "addr", Type: "bloom_filter(0.01)", Granularity: 4},
		{Table: "of_a_later_build", Name: "a", Expression: "a", Type: "minmax", Granularity: 1},
	}
	var warnings bytes.Buffer
	m.Log = slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	applied, err := m.Run(t.Context())
	if got := warnings.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "2 days instead of 7") {
		t.Errorf("the warnings are %q, want one, that flows are kept for less", got)
	}
	if err != nil || applied.Changes != 7 || len(applied.Migrations) != 0 { // two TTLs; two indices gone, one changed by dropping and adding, one new
		t.Errorf("%d changes: %v, want 7", applied.Changes, err)
	}
	const after = "toDateTime(start) + toIntervalDay(2)|dst_ip_bloom dst_ip bloom_filter(0.001) 2, names lower(server_name) ngrambf_v1(3, 1024, 2, 0) 4"
	if got := b.state(t); got != after {
		t.Errorf("the configuration makes %s, want %s", got, after)
	}
	if applied, err := m.Run(t.Context()); err != nil || applied.Changes != 0 {
		t.Errorf("the next start makes %d changes: %v", applied.Changes, err)
	}
	// What is stored already follows: its parts know the new time.
	deadline := time.Now().Add(20 * time.Second)
	for b.ch.Query(t, "SELECT countIf(delete_ttl_info_max < now()) FROM system.parts WHERE active AND table = 'flows' AND database = '"+b.conn.Database+"'") != "1" {
		if time.Now().After(deadline) {
			t.Fatal("the part of three days ago does not know that it is over")
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ch.Query(t, "SYSTEM START TTL MERGES "+b.conn.Database+".flows")
	b.ch.Query(t, "OPTIMIZE TABLE "+b.conn.Database+".flows FINAL")
	if got := b.ch.Query(t, "SELECT agent FROM "+b.conn.Database+".flows"); got != "new" {
		t.Errorf("flows holds %q, want the new one only", got)
	}
	// The longest time that may be said is not beyond what ClickHouse can count.
	m.Store.RetentionDays.Flows = 21900
	if err := m.Store.Validate(time.Hour); err != nil {
		t.Error(err)
	}
	if _, err := m.Run(t.Context()); err != nil {
		t.Error(err)
	}
	b.ch.Query(t, "INSERT INTO "+b.conn.Database+".flows (agent, start, src_ip, sampling) VALUES ('newer', now() + INTERVAL 10 YEAR, '10.0.0.1', 1)")
	b.ch.Query(t, "OPTIMIZE TABLE "+b.conn.Database+".flows FINAL")
	if got := b.ch.Query(t, "SELECT agent FROM "+b.conn.Database+".flows ORDER BY start"); got != "new\nnewer" {
		t.Errorf("with 60 years of retention flows holds %q", got)
	}
	// And back.
	if applied, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil || applied.Changes != 7 || b.state(t) != before {
		t.Errorf("back by %d changes (%v) to %s, want %s", applied.Changes, err, b.state(t), before)
	}
}

// foreign is a time to live that an administrator made: moving parts to another
// disk, say. It is never overwritten.
func foreign(t *testing.T, b *bed) {
	m := b.migrator(t, shipped(t))
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ttl := range []string{
		"toDateTime(start) + INTERVAL 1 DAY WHERE agent = 'lab', toDateTime(start) + INTERVAL 7 DAY",
		"toDateTime(start) + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(9)), toDateTime(start) + INTERVAL 9 DAY",
		"toDateTime(start) + INTERVAL 1 MONTH",
		"toDateTime(start) + INTERVAL 9 DAY GROUP BY toStartOfFiveMinutes(start) SET sampling = max(sampling)",
	} {
		if _, err := b.ch.QueryAs(chtest.Collector, "ALTER TABLE "+b.conn.Database+".flows MODIFY TTL "+ttl); err != nil {
			t.Fatal(err)
		}
		before := b.state(t)
		if applied, err := m.Run(t.Context()); err != nil || applied.Changes != 0 || b.state(t) != before {
			t.Errorf("%s: %d changes (%v), and then %s", ttl, applied.Changes, err, b.state(t))
		}
	}
	b.ch.Query(t, "ALTER TABLE "+b.conn.Database+".flows REMOVE TTL")
	if applied, err := m.Run(t.Context()); err != nil || applied.Changes != 0 {
		t.Errorf("no time to live: %d changes (%v)", applied.Changes, err)
	}
}

func reconciledAtOnce(t *testing.T, b *bed) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i := range 4 {
		m := b.migrator(t, shipped(t))
		m.Lock = &schema.KVLock{JS: b.nats.JetStream(t), Holder: fmt.Sprint("collector ", i), TTL: 4 * time.Second, Log: m.Log}
		m.Store.RetentionDays.Flows = 9
		m.Store.Indices = m.Store.Indices[:1]
		wg.Go(func() {
			applied, err := m.Run(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += applied.Changes
		})
	}
	wg.Wait()
	if total != 4 { // one TTL, three indices dropped
		t.Errorf("four collectors made %d changes, want 4 together", total)
	}
}

// refusedChange is a configuration that ClickHouse cannot fulfil, and one that
// the user may not.
func refusedChange(t *testing.T, b *bed) {
	m := b.migrator(t, shipped(t))
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Store.Indices = append(m.Store.Indices, schema.Index{Table: "flows", Name: "wrong", Expression: "no_such_column", Type: "minmax", Granularity: 1})
	if _, err := m.Run(t.Context()); !errors.Is(err, schema.ErrRefused) || !strings.Contains(err.Error(), "store.indices") || !strings.Contains(err.Error(), "no_such_column") {
		t.Errorf("error is %v", err)
	}
	writer := *b
	writer.conn.User, writer.conn.Password = chtest.Writer, config.Secret(b.ch.WriterPassword)
	m = writer.migrator(t, shipped(t))
	m.Store.RetentionDays.Coverage = 30
	if _, err := m.Run(t.Context()); !errors.Is(err, schema.ErrRefused) || !strings.Contains(err.Error(), "30 days instead of 7") || !strings.Contains(err.Error(), "collector migrate") {
		t.Errorf("error of the writer is %v", err)
	}
}
