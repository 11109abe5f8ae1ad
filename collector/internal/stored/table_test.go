package stored_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/migrations"
)

func TestTheTableTellsWhatIsStored(t *testing.T) {
	ch := chtest.Start(t)
	conn := chconn.Config{
		Address: ch.Addr, Database: ch.NewDatabase(t), User: chtest.Collector,
		Password: config.Secret(ch.CollectorPassword), Compression: "none",
	}
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m := &schema.Migrator{
		ClickHouse: conn, Migrations: all, Log: log,
		Lock: &schema.KVLock{JS: natstest.Start(t).JetStream(t), Holder: "test", TTL: 5 * time.Second, Log: log},
	}
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	insert := func(b stored.Batch) {
		t.Helper()
		for direction := range 2 { // two attach points
			ch.Query(t, fmt.Sprintf(`INSERT INTO %s.coverage (time, agent, boot, sequence, direction) VALUES ('%s', '%s', '%s', %d, %d)`,
				conn.Database, b.Time.Format("2006-01-02 15:04:05.000"), b.Agent, b.Boot, b.Sequence, direction))
		}
	}
	one, two, hostile := stored.Run{Agent: "web-1", Boot: "a"}, stored.Run{Agent: "web-1", Boot: "b"}, stored.Run{Agent: "web-2", Boot: "x') OR 1 OR agent IN ('"}
	old := stored.Batch{Run: one, Sequence: 1, Time: now.Add(-48 * time.Hour)}
	insert(old)
	other := stored.Batch{Run: one, Sequence: 7, Time: now}
	third := stored.Batch{Run: two, Sequence: 1<<64 - 1, Time: now.Add(-time.Millisecond)}
	insert(other)
	insert(third)

	table := stored.NewPool(conn)
	defer table.Close()
	connected := func() int {
		n, err := strconv.Atoi(ch.Query(t, "SELECT value FROM system.metrics WHERE metric = 'TCPConnection'"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := connected()
	var shards errgroup.Group
	for range 64 {
		shards.Go(func() error {
			last, err := table.Last(t.Context(), []stored.Run{one})
			if err == nil && last[one] != 7 {
				err = fmt.Errorf("last are %v", last)
			}
			return err
		})
	}
	if err := shards.Wait(); err != nil {
		t.Error(err)
	}
	if n := connected() - before; n < 1 || n > 4 {
		t.Errorf("64 shards ask over %d connections", n)
	}
	last, err := table.Last(t.Context(), []stored.Run{one, two, hostile, {Agent: "web-3", Boot: "a"}})
	if want := map[stored.Run]uint64{one: 7, two: 1<<64 - 1}; err != nil || !reflect.DeepEqual(last, want) {
		t.Errorf("last are %v (%v), want %v", last, err, want)
	}
	found, err := table.Contains(t.Context(), []stored.Batch{
		old, third,
		{Run: one, Sequence: 2, Time: now},                        // a gap
		{Run: two, Sequence: 7, Time: now},                        // another run
		{Run: one, Sequence: 7, Time: now.Add(-time.Millisecond)}, // another time
		{Run: hostile, Sequence: 7, Time: now},                    // no SQL
		{Run: stored.Run{Agent: "web-9"}, Sequence: 7, Time: now}, // another agent
	})
	got := make(map[stored.Batch]bool)
	for _, b := range found {
		got[b] = true
	}
	if want := map[stored.Batch]bool{{Run: one, Sequence: 1}: true, {Run: two, Sequence: 1<<64 - 1}: true}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found are %v (%v), want %v", found, err, want)
	}
}
