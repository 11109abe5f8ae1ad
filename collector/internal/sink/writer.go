package sink

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/failpoint"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says how inserts are made and repeated.
type Config struct {
	// Timeout bounds one attempt; after it the connection is renewed.
	Timeout time.Duration `yaml:"timeout"`
	// RetryMin and RetryMax bound the pause between attempts, which doubles.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
	// MinFreePercent is the share of each disk of the server that inserts leave
	// free, at most 1 GiB; 0 leaves none. MaxParts is the number of parts in one
	// partition beyond which they wait for merges; 0 waits for no merge. The server
	// is asked once in a PressureInterval.
	MinFreePercent   float64       `yaml:"min_free_percent"`
	MaxParts         int           `yaml:"max_parts"`
	PressureInterval time.Duration `yaml:"pressure_interval"`
}

// DefaultConfig returns the configuration for a server that is near, and that
// slows inserts down from 1,000 parts of a partition (parts_to_delay_insert).
func DefaultConfig() Config {
	return Config{
		Timeout: 2 * time.Minute, RetryMin: 200 * time.Millisecond, RetryMax: 15 * time.Second,
		MinFreePercent: 5, MaxParts: 800, PressureInterval: 5 * time.Second,
	}
}

// Validate names the keys that are wrong.
func (c Config) Validate() error {
	return config.All(
		config.Wrong(c.Timeout < time.Second, "insert.timeout: must be at least 1s"),
		config.Wrong(c.RetryMin < time.Millisecond || c.RetryMax < c.RetryMin, "insert.retry_min: must be from 1ms to retry_max"),
		config.Wrong(c.MinFreePercent < 0 || c.MinFreePercent > 90, "insert.min_free_percent: must be from 0 to 90"),
		config.Wrong(c.MaxParts < 0, "insert.max_parts: must not be negative"),
		config.Wrong(c.PressureInterval < 100*time.Millisecond, "insert.pressure_interval: must be at least 100ms"),
	)
}

// Writer inserts blocks, one at a time. It is not safe for concurrent use,
// except for Health.
type Writer struct {
	cfg     Config
	conn    chconn.Config
	log     *slog.Logger
	metrics metrics
	client  *ch.Client
	trouble *atomic.Pointer[trouble] // of all siblings: the last that any of them met
	alarmed time.Time                // when the last alarm was logged

	asked     time.Time // when the server was asked last whether it has room
	cannotAsk bool      // the last question failed
}

// trouble is why nothing is inserted, and since when: the first of those that
// came one after the other without an insert that succeeded.
type trouble struct {
	err   error
	since time.Time
}

type metrics struct {
	rows    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	retries *prometheus.CounterVec
	paused  *prometheus.GaugeVec
}

// NewWriter returns a writer that has not connected yet.
func NewWriter(cfg Config, conn chconn.Config, log *slog.Logger, reg prometheus.Registerer) *Writer {
	w := &Writer{cfg: cfg, conn: conn, log: log, trouble: new(atomic.Pointer[trouble])}
	w.metrics = metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_collector_inserted_rows_total",
			Help: "Rows committed to ClickHouse, by table. If it stands still while the lag grows, look at ebbwatch_collector_insert_retries_total and the collector's log.",
		}, []string{"table"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ebbwatch_collector_insert_seconds",
			Help:    "Seconds of each insert that succeeded, by table. If most exceed ingest.block_age, ClickHouse is the bottleneck: look at its merges, or give it more cores or faster disks.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}, []string{"table"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_collector_insert_retries_total",
			Help: "Inserts that failed and are repeated; nothing is lost. network: check that ClickHouse runs and is reachable. pressure: ClickHouse is short of memory, disk or merges. schema: tables or grants do not fit this build; read the log.",
		}, []string{"class"}),
	}
	w.metrics.paused = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ebbwatch_collector_insert_paused",
		Help: "1 while inserts wait for room in ClickHouse, by what it is short of; nothing is lost, batches wait in NATS. disk: make room on its disk, or lower store.retention_days. parts: its merges are behind, it needs more cores or faster disks.",
	}, []string{"short_of"})
	reg.MustRegister(w.metrics.rows, w.metrics.seconds, w.metrics.retries, w.metrics.paused)
	for _, name := range shortages {
		w.metrics.paused.WithLabelValues(name)
	}
	for _, c := range []class{network, pressure, schema} {
		w.metrics.retries.WithLabelValues(c.String())
	}
	return w
}

// sibling returns a writer with a connection of its own, to where conn says, that
// counts into the same metrics and shares Health.
func (w *Writer) sibling(conn chconn.Config) *Writer {
	return &Writer{cfg: w.cfg, conn: conn, log: w.log, metrics: w.metrics, trouble: w.trouble}
}

// settings make an insert synchronous, and repeatable with the same token:
// neither the table nor any table behind a materialized view stores it twice.
func settings(token string) []ch.Setting {
	return []ch.Setting{
		ch.SettingInt("async_insert", 0), // 1 by default since 26.2, and then tokens mean something else
		ch.SettingInt("insert_deduplicate", 1),
		ch.SettingInt("deduplicate_blocks_in_dependent_materialized_views", 1),
		{Key: "insert_deduplication_token", Value: token, Important: true},
		ch.SettingInt("materialized_views_ignore_errors", 0),
		ch.SettingInt("max_partitions_per_insert_block", 0), // a backlog may span more days than the 100 of the default, which would be refused for ever
		ch.SettingInt("optimize_on_insert", 0),              // a view's GROUP BY leaves nothing to collapse; saves a tenth of the insert
	}
}

// Write stores the block, one table after the other, under tokens that derive
// from token. It repeats until all are committed and returns an error only when
// ctx ends first, and then it is unknown whether they are: write the same block
// under the same token again.
func (w *Writer) Write(ctx context.Context, b *Block, token string) error {
	return w.WriteWithin(ctx, b, token, 0)
}

// WriteWithin is Write for a tool: it gives up when ClickHouse refuses an insert
// for good, or takes none for as long as patience. 0 is Write's.
func (w *Writer) WriteWithin(ctx context.Context, b *Block, token string, patience time.Duration) error {
	if err := w.room(ctx, patience); err != nil {
		return err
	}
	for _, t := range b.tables() {
		if t.rows == 0 {
			continue
		}
		if err := w.repeat(ctx, t.name, t.input, token+":"+t.name, patience); err != nil {
			return err
		}
		w.metrics.rows.WithLabelValues(t.name).Add(float64(t.rows))
		failpoint.Here("after " + t.name)
	}
	return nil
}

func (w *Writer) repeat(ctx context.Context, table string, input proto.Input, token string, patience time.Duration) error {
	pause, began := w.cfg.RetryMin, time.Now()
	for {
		started := time.Now()
		err := w.insert(ctx, table, input, token)
		if err == nil {
			w.metrics.seconds.WithLabelValues(table).Observe(time.Since(started).Seconds())
			if was := w.trouble.Swap(nil); was != nil {
				w.log.Info("inserts go on again", "table", table, "paused", time.Since(was.since).Round(time.Millisecond), "was", was.err)
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("insert into %s: %w", table, context.Cause(ctx))
		}
		c := classify(err)
		if patience > 0 && (c == schema || time.Since(began) >= patience) {
			return err
		}
		w.metrics.retries.WithLabelValues(c.String()).Inc()
		w.report(c, table, err)
		if c == schema {
			pause = w.cfg.RetryMax
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)): // jitter, so that collectors do not come back in step
		}
		pause = min(2*pause, w.cfg.RetryMax)
	}
}

func (w *Writer) connect(ctx context.Context) error {
	if w.client != nil && !w.client.IsClosed() {
		return nil
	}
	client, err := w.conn.Dial(ctx, w.cfg.Timeout)
	if err != nil {
		return err
	}
	w.client = client
	return nil
}

// insert makes one attempt. After an error the connection is not used again,
// because it may be in the middle of a message.
func (w *Writer) insert(ctx context.Context, table string, input proto.Input, token string) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.connect(ctx); err != nil {
		return err
	}
	err := w.client.Do(ctx, ch.Query{Body: input.Into(table), Input: input, Settings: settings(token)})
	if err != nil {
		w.Close()
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// note keeps err for Health, and reports whether inserts had no trouble before.
func (w *Writer) note(err error) bool {
	for {
		was, is := w.trouble.Load(), &trouble{err, time.Now()}
		if was != nil {
			is.since = was.since
		}
		if w.trouble.CompareAndSwap(was, is) {
			return was == nil
		}
	}
}

// report notes the trouble for Health and logs it: at once when it is new, and
// every minute while it lasts.
func (w *Writer) report(c class, table string, err error) {
	if isNew := w.note(err); !isNew && time.Since(w.alarmed) < time.Minute {
		return
	}
	w.alarmed = time.Now()
	if c == schema {
		w.log.Error("clickhouse refuses inserts; nothing is dropped, batches wait in nats until this is repaired", "table", table, "error", err)
		return
	}
	w.log.Warn("insert failed, repeating", "table", table, "class", c.String(), "error", err)
}

// Health returns why the last insert, of a sibling perhaps, failed, nil if it
// succeeded. It may be called concurrently.
func (w *Writer) Health() error {
	if is := w.trouble.Load(); is != nil {
		return is.err
	}
	return nil
}

// Close closes the connection; Write opens a new one.
func (w *Writer) Close() {
	if w.client != nil {
		_ = w.client.Close() // nothing is pending: an insert is over when Do returns
		w.client = nil
	}
}
