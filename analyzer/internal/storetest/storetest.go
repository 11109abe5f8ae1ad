// Package storetest gives tests a store on a real ClickHouse with the schema of
// this build, and flows to put into it.
package storetest

import (
	"context"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// DB is a database of its own on a server that may be shared.
type DB struct {
	Server *chtest.Server
	Name   string
	conn   driver.Conn // as the collector
}

// New creates a database on server and applies the migrations.
func New(t testing.TB, server *chtest.Server) *DB {
	t.Helper()
	db := NewEmpty(t, server)
	db.Migrate(t)
	return db
}

// NewEmpty creates a database without tables.
func NewEmpty(t testing.TB, server *chtest.Server) *DB {
	t.Helper()
	db := &DB{Server: server, Name: server.NewDatabase(t)}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{server.Addr},
		Auth: clickhouse.Auth{Database: db.Name, Username: chtest.Collector, Password: server.CollectorPassword},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	db.conn = conn
	return db
}

// Migrate applies the migrations.
func (db *DB) Migrate(t testing.TB) {
	t.Helper()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		for _, step := range m.Steps {
			db.Exec(t, step)
		}
	}
}

// Exec runs a statement as the collector.
func (db *DB) Exec(t testing.TB, sql string) {
	t.Helper()
	if err := db.conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Config returns the store configuration of the analyzer's user.
func (db *DB) Config() store.Config {
	cfg := store.DefaultConfig()
	cfg.Address, cfg.Database, cfg.User = db.Server.Addr, db.Name, chtest.Analyzer
	cfg.Password = config.Secret(db.Server.AnalyzerPassword)
	return cfg
}

// Open returns a store of the analyzer's user that is closed with the test.
func (db *DB) Open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(db.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Value runs a query with one result as the analyzer's user.
func (db *DB) Value(t testing.TB, sql string) float64 {
	t.Helper()
	row := db.Row(t, sql)
	if len(row) != 1 {
		t.Fatalf("%s: gives %v, want one value", sql, row)
	}
	for _, value := range row {
		return value
	}
	return 0
}

// Row runs a query that gives one row of numbers, as the analyzer's user and
// without a current database, and returns them by the names of the columns.
func (db *DB) Row(t testing.TB, sql string) map[string]float64 {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{db.Server.Addr},
		Auth: clickhouse.Auth{Username: chtest.Analyzer, Password: db.Server.AnalyzerPassword},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rows, err := conn.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var dest []any
	for _, column := range rows.ColumnTypes() {
		dest = append(dest, reflect.New(column.ScanType()).Interface())
	}
	if !rows.Next() {
		t.Fatalf("%s: gives no row: %v", sql, rows.Err())
	}
	if err := rows.Scan(dest...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if rows.Next() {
		t.Fatalf("%s: gives more than one row", sql)
	}
	row := make(map[string]float64)
	for i, name := range rows.Columns() {
		value := reflect.Indirect(reflect.Indirect(reflect.ValueOf(dest[i]))) // Nullable gives a pointer
		number := reflect.TypeFor[float64]()
		if !value.IsValid() || !value.CanConvert(number) {
			t.Fatalf("%s: column %s is no number", sql, name)
		}
		row[name] = value.Convert(number).Float()
	}
	return row
}

// Insert stores flows as agent saw them.
func (db *DB) Insert(t testing.TB, agent string, flows []ebbwatch.Flow) {
	t.Helper()
	const sql = `INSERT INTO flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, vlan,
		src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, icmp_type, icmp_code, age_ms, final, sampling)`
	for len(flows) > 0 {
		n := min(len(flows), 100_000)
		db.insert(t, sql, func(b driver.Batch) error {
			for _, f := range flows[:n] {
				err := b.Append(agent, f.Interface, f.Start, uint32(f.End.Sub(f.Start).Milliseconds()), mapped(f.Src), mapped(f.Dst), f.SrcPort, f.DstPort,
					f.Proto, f.Initiator.String(), f.VLAN, f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes, uint16(f.SrcFlags), uint16(f.DstFlags),
					f.ConnState.String(), f.ICMPType, f.ICMPCode, f.AgeMS, f.Final, max(f.Sampling, 1))
				if err != nil {
					return err
				}
			}
			return nil
		})
		flows = flows[n:]
	}
}

// Beat is one row of coverage.
type Beat struct {
	Agent          string
	Time, Received time.Time
	Boot           string
	Sequence       uint64
	Interface      string
	Flows          uint32
	Seen, Overflow uint64 // packets; the rest is recorded
	Skipped        uint64 // packets of Seen that sampling left out
	NetNS          string
	Warning        bool // the batch holds early warnings alone
}

// Beats stores rows of coverage.
func (db *DB) Beats(t testing.TB, beats ...Beat) {
	t.Helper()
	const sql = `INSERT INTO coverage (time, received, agent, agent_version, boot, sequence, interval_ms, flows, interface, direction,
		seen_packets, seen_bytes, recorded_packets, recorded_bytes, overflow_packets, overflow_bytes, skipped_packets, netns, losses)`
	db.insert(t, sql, func(b driver.Batch) error {
		for _, c := range beats {
			interval, losses, recorded := uint32(5000), map[string]uint64{"queue_dropped_batches": 2}, c.Seen-c.Overflow-c.Skipped
			if c.Warning {
				interval, losses = 0, nil
			}
			err := b.Append(c.Time, c.Received, c.Agent, "v1", c.Boot, c.Sequence, interval, c.Flows, c.Interface, "ingress",
				c.Seen, 100*c.Seen, recorded, 100*recorded, c.Overflow, 100*c.Overflow, c.Skipped, c.NetNS, losses)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Source is one row of sources.
type Source struct {
	Time           time.Time
	Addr           string
	Others         bool
	IntervalMS     uint32
	Flows, Targets uint64
	Overflow       uint64 // packets
}

// Sources stores rows of sources as agent sent them.
func (db *DB) Sources(t testing.TB, agent string, rows ...Source) {
	t.Helper()
	const sql = "INSERT INTO sources (time, received, agent, addr, others, interval_ms, flows, targets, overflow_packets, overflow_bytes)"
	db.insert(t, sql, func(b driver.Batch) error {
		for _, r := range rows {
			err := b.Append(r.Time, r.Time, agent, mapped(netip.MustParseAddr(r.Addr)), r.Others, r.IntervalMS, r.Flows, r.Targets, r.Overflow, 60*r.Overflow)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (db *DB) insert(t testing.TB, sql string, fill func(driver.Batch) error) {
	t.Helper()
	batch, err := db.conn.PrepareBatch(context.Background(), sql)
	if err == nil {
		err = fill(batch)
	}
	if err == nil {
		err = batch.Send()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mapped returns a as the IPv6 columns hold it.
func mapped(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
