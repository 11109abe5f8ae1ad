package sink

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

var update = flag.Bool("update", false, "write the table into docs/exactly-once.md")

const (
	matrixPage  = "../../../docs/exactly-once.md"
	matrixBegin = "<!-- deduplication matrix: made by the test, do not edit -->\n"
	matrixEnd   = "<!-- end of the matrix -->\n"

	matrixRows   = 1000 // of an insert, over two partitions
	matrixWindow = 4    // parts that a table remembers: two inserts into two partitions
)

// setup is one way to have ClickHouse remember inserts.
type setup struct {
	name             string
	raw, targets     int // window of the table and of the views' targets
	dependent, async int // settings of the insert
}

var setups = []setup{
	{"no window", 0, 0, 1, 0},
	{"window on raw", matrixWindow, 0, 0, 0},
	{"window on raw, `dependent`", matrixWindow, 0, 1, 0},
	{"windows on all", matrixWindow, matrixWindow, 0, 0},
	{"**windows on all, `dependent`**", matrixWindow, matrixWindow, 1, 0},
	{"the same with `async_insert`", matrixWindow, matrixWindow, 1, 1},
}

// cell is one table with its cascade of views.
type cell struct {
	setup
	db, prefix string
	conn       chconn.Config
}

func (c *cell) create(t *testing.T, server *proctest.ClickHouse, slow bool) {
	t.Helper()
	delay := ""
	if slow { // long enough to be killed in it
		delay = " WHERE sleepEachRow(0.005) = 0"
	}
	for _, statement := range []string{
		"CREATE TABLE %s_raw (t DateTime('UTC'), host LowCardinality(String), bytes UInt64) ENGINE = MergeTree PARTITION BY toDate(t) ORDER BY t SETTINGS non_replicated_deduplication_window = " + fmt.Sprint(c.raw),
		"CREATE TABLE %s_1m (t DateTime('UTC'), host LowCardinality(String), bytes UInt64, records UInt64) ENGINE = SummingMergeTree PARTITION BY toDate(t) ORDER BY (t, host) SETTINGS non_replicated_deduplication_window = " + fmt.Sprint(c.targets),
		"CREATE TABLE %s_1h (t DateTime('UTC'), host LowCardinality(String), bytes UInt64, records UInt64) ENGINE = SummingMergeTree PARTITION BY toDate(t) ORDER BY (t, host) SETTINGS non_replicated_deduplication_window = " + fmt.Sprint(c.targets),
		"CREATE MATERIALIZED VIEW %s_1m_mv TO %[1]s_1m AS SELECT toStartOfMinute(t) AS t, host, sum(bytes) AS bytes, count() AS records FROM %[1]s_raw" + delay + " GROUP BY t, host",
		"CREATE MATERIALIZED VIEW %s_1h_mv TO %[1]s_1h AS SELECT toStartOfHour(t) AS t, host, sum(bytes) AS bytes, sum(records) AS records FROM %[1]s_1m GROUP BY t, host",
	} {
		if err := server.Conn.Exec(t.Context(), fmt.Sprintf(statement, c.db+"."+c.prefix)); err != nil {
			t.Fatal(err)
		}
	}
}

// columns are those of the table. Each insert of the test has the same rows but
// for the first value of bytes.
type columns struct {
	at    proto.ColDateTime
	names proto.ColStr
	host  *proto.ColLowCardinality[string]
	bytes proto.ColUInt64
	input proto.Input
}

func newColumns() *columns {
	c := &columns{}
	c.host = proto.NewLowCardinality(&c.names)
	c.input = proto.Input{{Name: "t", Data: &c.at}, {Name: "host", Data: c.host}, {Name: "bytes", Data: &c.bytes}}
	return c
}

// fill replaces the rows by those of the given numbers.
func (c *columns) fill(first uint64, numbers []int) {
	c.input.Reset()
	evening := time.Date(2026, 1, 1, 23, 30, 0, 0, time.UTC) // so that the rows fall into two partitions
	for _, i := range numbers {
		c.at.Append(evening.Add(time.Duration(i) * 4 * time.Second))
		c.host.Append(fmt.Sprintf("host-%d", i%7))
		c.bytes.Append(first + uint64(i))
	}
}

// whole returns the numbers of all rows, in one block.
func whole() [][]int { return split(matrixRows) }

func backwards() [][]int {
	blocks := whole()
	slices.Reverse(blocks[0])
	return blocks
}

// split returns the numbers of all rows in blocks.
func split(size int) [][]int {
	var all []int
	for i := range matrixRows {
		all = append(all, i)
	}
	return slices.Collect(slices.Chunk(all, size))
}

// insert sends the rows of the given numbers, block by block.
func (c *cell) insert(ctx context.Context, first uint64, blocks [][]int, token string) error {
	client, err := c.conn.Dial(ctx, time.Minute)
	if err != nil {
		return err
	}
	defer client.Close()
	in := newColumns()
	in.fill(first, blocks[0])
	query := ch.Query{
		Body: in.input.Into(c.prefix + "_raw"), Input: in.input,
		OnInput: func(context.Context) error {
			if blocks = blocks[1:]; len(blocks) == 0 {
				in.input.Reset() // what stands there is sent once more
				return io.EOF
			}
			in.fill(first, blocks[0])
			return nil
		},
		Settings: []ch.Setting{
			ch.SettingInt("async_insert", c.async), ch.SettingInt("wait_for_async_insert", 1), ch.SettingInt("async_insert_deduplicate", 1),
			ch.SettingInt("insert_deduplicate", 1), ch.SettingInt("deduplicate_blocks_in_dependent_materialized_views", c.dependent), ch.SettingInt("optimize_on_insert", 0),
			ch.SettingInt("function_sleep_max_microseconds_per_block", 600_000_000),
		},
	}
	if token != "" {
		query.Settings = append(query.Settings, ch.Setting{Key: "insert_deduplication_token", Value: token, Important: true})
	}
	return client.Do(ctx, query)
}

func (c *cell) count(t *testing.T, server *proctest.ClickHouse) (rows uint64) {
	t.Helper()
	must(t, server.Conn.QueryRow(t.Context(), "SELECT count() FROM "+c.db+"."+c.prefix+"_raw").Scan(&rows))
	return rows
}

// found returns how often raw, 1m and 1h hold what was to be stored, as "1 1 1".
func (c *cell) found(t *testing.T, server *proctest.ClickHouse, expected int) string {
	t.Helper()
	var raw, minute, hour uint64
	query := fmt.Sprintf("SELECT (SELECT count() FROM %[1]s_raw), (SELECT sum(records) FROM %[1]s_1m), (SELECT sum(records) FROM %[1]s_1h)", c.db+"."+c.prefix)
	if err := server.Conn.QueryRow(t.Context(), query).Scan(&raw, &minute, &hour); err != nil {
		t.Fatal(err)
	}
	times := func(n uint64) string {
		return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(expected)), "0"), ".")
	}
	return times(raw) + " " + times(minute) + " " + times(hour)
}

// must fails the test on an error of an insert.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scenario makes inserts of which each expected one is to be stored once.
type scenario struct {
	name     string
	expected int // inserts that differ
	run      func(t *testing.T, c *cell)
}

var scenarios = []scenario{
	{"the same token and rows again", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 1, whole(), "a"))
	}},
	{"the same token, the rows in another order", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 1, backwards(), "a"))
	}},
	{"the same token and rows, in five blocks of the protocol instead of one", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 1, split(matrixRows/5), "a"))
	}},
	{"the same token, half of the rows", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 1, split(matrixRows / 2)[:1], "a"))
	}},
	{"the same token, other values in all rows", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 2, whole(), "a"))
	}},
	{"the same rows under another token", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 1, whole(), "b"))
	}},
	{"the same rows, no token", 1, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), ""))
		must(t, c.insert(t.Context(), 1, whole(), ""))
	}},
	{"other rows that roll up to the same keys, two tokens", 2, func(t *testing.T, c *cell) {
		must(t, c.insert(t.Context(), 1, whole(), "a"))
		must(t, c.insert(t.Context(), 2, whole(), "b"))
	}},
	{"the same token after one other insert, with a window of two", 2, func(t *testing.T, c *cell) { overflow(t, c, 1) }},
	{"the same token after two other inserts, with a window of two", 3, func(t *testing.T, c *cell) { overflow(t, c, 2) }},
}

func overflow(t *testing.T, c *cell, others int) {
	t.Helper()
	must(t, c.insert(t.Context(), 0, whole(), "a"))
	for i := range others {
		must(t, c.insert(t.Context(), uint64(i+1), whole(), fmt.Sprint("other-", i)))
	}
	must(t, c.insert(t.Context(), 0, whole(), "a"))
}

// The table of docs/exactly-once.md: what this engine makes of a repeated insert.
func TestDeduplicationIsAsDocumented(t *testing.T) {
	server := matrixServer(t)
	var table strings.Builder
	var version string
	must(t, server.Conn.QueryRow(t.Context(), "SELECT version()").Scan(&version))
	fmt.Fprintf(&table, "\nClickHouse %s. Cells: how many times each insert is in the table, in its one-minute rollup, and in the one-hour rollup of that.\n\n| repeated insert |", version)
	for _, s := range setups {
		fmt.Fprintf(&table, " %s |", s.name)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(setups)) + "\n")
	cells := make([][]string, len(scenarios))
	t.Run("setups", func(t *testing.T) {
		for i, s := range scenarios {
			cells[i] = make([]string, len(setups))
			for j, setup := range setups {
				t.Run(s.name+", "+setup.name, func(t *testing.T) {
					t.Parallel()
					c := newCell(server, setup, fmt.Sprintf("s%d_%d", i, j))
					c.create(t, server, false)
					s.run(t, c)
					cells[i][j] = c.found(t, server, s.expected*matrixRows)
				})
			}
		}
	})
	for i, s := range scenarios {
		fmt.Fprintf(&table, "| %s | %s |\n", s.name, strings.Join(cells[i], " | "))
	}
	table.WriteString(killed(t, server))
	checkMatrix(t, table.String())
}

func newCell(server *proctest.ClickHouse, s setup, prefix string) *cell {
	return &cell{setup: s, db: "ebbwatch", prefix: prefix, conn: chconn.Config{
		Address: server.Addr, Database: "ebbwatch", User: proctest.User, Password: config.Secret(server.Password), Compression: "none",
	}}
}

// killed kills the engine while a view works, looks, and repeats the insert.
func killed(t *testing.T, server *proctest.ClickHouse) string {
	var inserts sync.WaitGroup
	var cells []*cell
	for i, s := range setups {
		c := newCell(server, s, fmt.Sprintf("k%d", i))
		c.create(t, server, true)
		cells = append(cells, c)
		inserts.Go(func() {
			if err := c.insert(t.Context(), 1, whole(), "a"); err == nil {
				t.Errorf("%s: the insert ended before the engine was killed", c.name)
			}
		})
	}
	for _, c := range cells {
		for deadline := time.Now().Add(10 * time.Second); c.count(t, server) == 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: no row after 10 s", c.name)
			}
		}
	}
	server.Kill()
	inserts.Wait()
	must(t, server.Start(t.Context()))
	left, after := make([]string, len(cells)), make([]string, len(cells))
	for i, c := range cells {
		left[i] = c.found(t, server, matrixRows)
		inserts.Go(func() {
			if err := c.insert(t.Context(), 1, whole(), "a"); err != nil {
				t.Errorf("%s: repeat: %v", c.name, err)
			}
		})
	}
	inserts.Wait()
	for i, c := range cells {
		after[i] = c.found(t, server, matrixRows)
	}
	return fmt.Sprintf("| kill -9 while the first view works: left behind | %s |\n| … and after the same token and rows again | %s |\n", strings.Join(left, " | "), strings.Join(after, " | "))
}

func matrixServer(t *testing.T) *proctest.ClickHouse {
	t.Helper()
	t.Setenv("EBBWATCH_BIN", chtest.Binary(t))
	server, err := proctest.NewClickHouse(t.Context(), t.TempDir(), []string{"ebbwatch"}, false)
	if errors.Is(err, proctest.ErrNoEngine) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { server.Stop() })
	must(t, server.Conn.Exec(t.Context(), "CREATE DATABASE ebbwatch"))
	return server
}

// checkMatrix holds the table against the page, or writes it there.
func checkMatrix(t *testing.T, table string) {
	t.Helper()
	page, err := os.ReadFile(filepath.FromSlash(matrixPage))
	must(t, err)
	before, rest, ok := strings.Cut(string(page), matrixBegin)
	was, after, ok2 := strings.Cut(rest, matrixEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table between %q and %q", matrixPage, matrixBegin, matrixEnd)
	}
	if *update {
		must(t, os.WriteFile(matrixPage, []byte(before+matrixBegin+table+matrixEnd+after), 0o644))
		return
	}
	if was != table {
		t.Errorf("%s says\n%s\nand this engine gives\n%s\nRun the test with -update, and read what changed.", matrixPage, was, table)
	}
}
