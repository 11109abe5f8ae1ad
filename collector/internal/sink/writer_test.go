package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
	"github.com/ebbwatch/ebbwatch/migrations"
)

func TestClassify(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want class
	}{
		"a broken connection":       {io.ErrUnexpectedEOF, network},
		"a refused connection":      {&net.OpError{Op: "dial", Err: errors.New("refused")}, network},
		"an attempt that timed out": {context.DeadlineExceeded, network},
		"timeout exceeded":          {&ch.Exception{Code: 159}, pressure},
		"memory limit":              {&ch.Exception{Code: 241}, pressure},
		"read-only table":           {&ch.Exception{Code: 242}, pressure},
		"too many parts":            {&ch.Exception{Code: 252}, pressure},
		"cannot assign alter":       {&ch.Exception{Code: 517}, pressure},
		"no such column":            {&ch.Exception{Code: 16}, schema},
		"no such table":             {&ch.Exception{Code: 60}, schema},
		"not enough privileges":     {&ch.Exception{Code: 497}, schema},
		"a code that nobody knows":  {&ch.Exception{Code: 99999}, schema},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classify(fmt.Errorf("insert: %w", test.err)); got != test.want {
				t.Errorf("class is %s, want %s", got, test.want)
			}
		})
	}
}

// tables creates the tables of package migrations in a new database.
func tables(t *testing.T, server *chtest.Server) chconn.Config {
	t.Helper()
	conn := chconn.Config{
		Address: server.Addr, Database: server.NewDatabase(t), User: chtest.Collector,
		Password: config.Secret(server.CollectorPassword), Compression: "lz4",
	}
	client, err := conn.Dial(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, migration := range all {
		for _, step := range migration.Steps {
			if err := client.Do(t.Context(), ch.Query{Body: step}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return conn
}

func filled(t *testing.T, batches int) *Block {
	t.Helper()
	block := NewBlock()
	fleet := flowgen.New(1, 3, time.Now().Add(-time.Minute), 5*time.Second)
	var b ebbwatch.Batch
	for range batches {
		fleet.Next(&b, 10)
		block.Append(&b, time.Now())
	}
	return block
}

func TestWriter(t *testing.T) {
	server := chtest.Start(t)
	for name, test := range map[string]func(*testing.T, *chtest.Server, chconn.Config, *Writer, *prometheus.Registry){
		"the same block under the same token is stored once, in every table": sameToken,
		"a missing table raises the alarm and nothing is dropped":            missingTable,
		"a block can be filled again after a write":                          reuse,
		"a stop ends the repetition":                                         stopped,
		"a block may span more days than ClickHouse takes by default":        manyDays,
		"what ends a pause says how long it was":                             paused,
	} {
		t.Run(name, func(t *testing.T) {
			conn := tables(t, server)
			reg := prometheus.NewRegistry()
			w := NewWriter(Config{Timeout: 10 * time.Second, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond}, conn, slog.New(slog.NewTextHandler(t.Output(), nil)), reg)
			defer w.Close()
			test(t, server, conn, w, reg)
		})
	}
}

func want(t *testing.T, server *chtest.Server, query, want string) {
	t.Helper()
	if got := server.Query(t, query); got != want {
		t.Errorf("%s gives %q, want %q", query, got, want)
	}
}

func sameToken(t *testing.T, server *chtest.Server, conn chconn.Config, w *Writer, _ *prometheus.Registry) {
	block := filled(t, 20)
	for range 3 {
		if err := w.Write(t.Context(), block, "one"); err != nil {
			t.Fatal(err)
		}
	}
	want(t, server, "SELECT count() FROM "+conn.Database+".flows", "200")
	want(t, server, "SELECT sum(records) FROM "+conn.Database+".flows_1m", "200")
	want(t, server, "SELECT count() FROM "+conn.Database+".coverage", "20")
	want(t, server, "SELECT count() FROM "+conn.Database+".features", fmt.Sprint(block.features.rows()))
	want(t, server, "SELECT count() FROM "+conn.Database+".sources", fmt.Sprint(block.sources.rows()))
	if err := w.Write(t.Context(), block, "two"); err != nil { // equal content is no reason to drop it
		t.Fatal(err)
	}
	want(t, server, "SELECT count() FROM "+conn.Database+".flows", "400")
	want(t, server, "SELECT sum(records) FROM "+conn.Database+".flows_1m", "400")
}

func missingTable(t *testing.T, server *chtest.Server, conn chconn.Config, w *Writer, _ *prometheus.Registry) {
	server.Query(t, "RENAME TABLE "+conn.Database+".coverage TO "+conn.Database+".gone")
	done := make(chan error, 1)
	go func() { done <- w.Write(t.Context(), filled(t, 4), "token") }()
	deadline := time.Now().Add(10 * time.Second)
	for w.Health() == nil || testutil.ToFloat64(w.metrics.retries.WithLabelValues("schema")) < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("health is %v", w.Health())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(w.Health().Error(), "coverage") {
		t.Errorf("health does not name the table: %v", w.Health())
	}
	server.Query(t, "RENAME TABLE "+conn.Database+".gone TO "+conn.Database+".coverage")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := w.Health(); err != nil {
		t.Errorf("after the repair health is %v", err)
	}
	want(t, server, "SELECT count() FROM "+conn.Database+".flows", "40")
	want(t, server, "SELECT count() FROM "+conn.Database+".coverage", "4")
}

func reuse(t *testing.T, server *chtest.Server, conn chconn.Config, w *Writer, _ *prometheus.Registry) {
	block := filled(t, 20)
	for i := range 3 {
		if err := w.Write(t.Context(), block, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		block.Reset()
		if block.Rows() != 0 || block.coverage.rows() != 0 {
			t.Fatal("rows after Reset")
		}
		fleet := flowgen.New(uint64(i), 5, time.Now().Add(-time.Minute), 5*time.Second)
		var b ebbwatch.Batch
		fleet.Next(&b, 7)
		block.Append(&b, time.Now())
	}
	want(t, server, "SELECT count() FROM "+conn.Database+".flows", "214")
	want(t, server, "SELECT countIf(agent = '' OR interface = '') FROM "+conn.Database+".flows", "0")
}

func stopped(t *testing.T, _ *chtest.Server, conn chconn.Config, _ *Writer, _ *prometheus.Registry) {
	conn.Address = "127.0.0.1:1" // nobody listens
	w := NewWriter(DefaultConfig(), conn, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	started := time.Now()
	if err := w.Write(ctx, filled(t, 1), "token"); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if w.Health() == nil {
		t.Error("health does not say that ClickHouse is away")
	}
}

func TestDictionary(t *testing.T) {
	var d dictionary
	d.init()
	d.repeat(d.key("eth0"), 2)
	d.repeat(d.key("eth1"), 1)
	d.repeat(d.key("eth0"), 1)
	if got := fmt.Sprint(d.Keys32, d.values.Rows()); got != "[0 0 1 0] 2" {
		t.Errorf("keys and values are %s", got)
	}
	for i := range 1<<16 + 1 {
		d.key(fmt.Sprint(i))
	}
	d.Reset()
	if d.Rows() != 0 || len(d.keys) != 0 || d.key("new") != 0 {
		t.Error("not empty after Reset")
	}
}

func TestAppendAllocatesNothingPerFlow(t *testing.T) {
	var b ebbwatch.Batch
	flowgen.New(1, 1, time.Now(), time.Second).Next(&b, 1000)
	block := NewBlock()
	now := time.Now()
	block.Append(&b, now)
	if got := testing.AllocsPerRun(50, func() { block.Reset(); block.Append(&b, now) }); got > 1 {
		t.Errorf("appending 1000 flows allocates %v times", got)
	}
}

var _ proto.ColInput = (*lossMap)(nil)

// record keeps what is logged.
type record struct {
	mu  sync.Mutex
	all []slog.Record
}

func (r *record) Enabled(context.Context, slog.Level) bool { return true }
func (r *record) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *record) WithGroup(string) slog.Handler            { return r }

func (r *record) Handle(_ context.Context, line slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, line)
	return nil
}

// at returns what was logged at level.
func (r *record) at(level slog.Level) []slog.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.all), func(line slog.Record) bool { return line.Level != level })
}

// paused lets two writers, as those of two shards, wait while a partition has too many parts.
func paused(t *testing.T, server *chtest.Server, conn chconn.Config, _ *Writer, _ *prometheus.Registry) {
	many := conn.Database + ".many_parts"
	server.Query(t, "CREATE TABLE "+many+" (n UInt8) ENGINE = MergeTree ORDER BY n")
	server.Query(t, "SYSTEM STOP MERGES "+many)
	const parts = 6
	for n := range parts {
		server.Query(t, fmt.Sprintf("INSERT INTO %s VALUES (%d)", many, n))
	}
	cfg := DefaultConfig()
	cfg.MinFreePercent, cfg.MaxParts, cfg.PressureInterval = 0, parts-1, 50*time.Millisecond
	var log record
	w := NewWriter(cfg, conn, slog.New(&log), prometheus.NewRegistry())
	defer w.Close()
	other := w.sibling(conn)
	defer other.Close()
	began := time.Now()
	done := make(chan error, 2)
	for i, w := range []*Writer{w, other} {
		go func() { done <- w.Write(t.Context(), filled(t, 4), fmt.Sprint("token ", i)) }()
	}
	for deadline := time.Now().Add(20 * time.Second); len(log.at(slog.LevelWarn)) < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("20 s later nothing says that inserts wait")
		}
	}
	both := time.Now()
	time.Sleep(300 * time.Millisecond) // it is told as what it was, not from the last question on
	if lines := log.at(slog.LevelInfo); len(lines) > 0 {
		t.Errorf("while they wait the log says %q", lines[0].Message)
	}
	atLeast := time.Since(both)
	server.Query(t, "DROP TABLE "+many+" SYNC")
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	atMost := time.Since(began)
	lines := log.at(slog.LevelInfo)
	if len(lines) != 1 || lines[0].Message != "inserts go on again" {
		t.Fatalf("the log says %v, want one line", lines)
	}
	attrs := map[string]slog.Value{}
	lines[0].Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value; return true })
	if d := attrs["paused"].Duration(); d < atLeast.Round(time.Millisecond) || d > atMost+time.Millisecond {
		t.Errorf("it says %s, and they waited from %s to %s", d, atLeast, atMost)
	}
	if why := attrs["was"].String(); !strings.Contains(why, "many_parts") {
		t.Errorf("it says that the reason was %s", why)
	}
	if w.Health() != nil {
		t.Errorf("health is %v", w.Health())
	}
}

func manyDays(t *testing.T, server *chtest.Server, conn chconn.Config, _ *Writer, _ *prometheus.Registry) {
	const days = 105
	for _, table := range []string{"flows", "flows_1m"} { // what is expired would go at the insert
		server.Query(t, "ALTER TABLE "+conn.Database+"."+table+" REMOVE TTL")
	}
	block, fleet := NewBlock(), flowgen.New(1, 3, time.Now(), 5*time.Second)
	var b ebbwatch.Batch
	for day := range days {
		fleet.Next(&b, 1)
		b.Start[0] -= int64(day) * 24 * time.Hour.Microseconds()
		block.Append(&b, time.Now())
	}
	cfg := DefaultConfig()
	cfg.RetryMax = time.Second
	w := NewWriter(cfg, conn, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := w.Write(ctx, block, "days"); err != nil {
		t.Fatalf("%v: %v", err, w.Health())
	}
	want(t, server, "SELECT count(), uniqExact(toDate(start)) FROM "+conn.Database+".flows", "105\t105")
	want(t, server, "SELECT sum(records) FROM "+conn.Database+".flows_1m", "105")
}
