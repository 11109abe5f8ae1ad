// Package app composes the analyzer: detectors over the store, incidents,
// reports, and the page with its API.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/llm"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/periodic"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/publish"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// App is an analyzer.
type App struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  *schedule.Metrics
	store    *store.Store
	builder  *report.Builder
	leading  atomic.Pointer[schedule.Scheduler] // nil while another analyzer works
}

// New returns an analyzer that has not started. It connects to nothing.
func New(cfg Config, log *slog.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s, err := store.Open(cfg.ClickHouse)
	if err != nil {
		return nil, err
	}
	registry := ops.NewRegistry()
	builder, err := newBuilder(cfg, registry, log)
	if err != nil {
		return nil, err
	}
	return &App{cfg: cfg, log: log, registry: registry, metrics: schedule.NewMetrics(registry), store: s, builder: builder}, nil
}

// newBuilder returns a report builder, with a model if one is configured.
func newBuilder(cfg Config, registry *prometheus.Registry, log *slog.Logger) (*report.Builder, error) {
	if !cfg.LLM.Enabled() {
		return report.New(cfg.Report, nil, nil, registry, log)
	}
	model, err := llm.New(cfg.LLM)
	if err != nil {
		return nil, err
	}
	key, err := cfg.LLM.PseudonymKey.Value()
	if err != nil {
		return nil, fmt.Errorf("llm.pseudonym_key: %w", err)
	}
	names, err := report.NewPseudonyms([]byte(key))
	if err != nil {
		return nil, fmt.Errorf("llm.pseudonym_key: %w", err)
	}
	return report.New(cfg.Report, model, names, registry, log)
}

// Run analyzes until ctx ends; then it stops at once, because whatever was not
// finished is taken up by the next run, and returns nil. It waits for NATS,
// ClickHouse and the collector's tables as long as it takes, and fails only where
// waiting cannot help: a port that is taken, a configuration that cannot work.
func (a *App) Run(ctx context.Context) error {
	defer a.store.Close()
	conn, err := natsconn.Connect("analyzer", a.cfg.NATS, a.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	notifier, err := notify.New(a.cfg.Notify, js, a.store, a.registry, a.log)
	if err != nil {
		return err
	}
	pipeline := &publish.Pipeline{
		Builder: a.builder, Reports: a.store, History: a.store, Period: a.store, Sender: notifier,
		PageURL: strings.TrimSuffix(a.cfg.Web.PublicURL, "/"), FollowUp: a.cfg.Report.FollowUp, Log: a.log,
	}
	schedules, err := periodic.New(a.cfg.Periodic, periodic.NewKV(js), pipeline.Periodic, a.registry, a.log)
	if err != nil {
		return err
	}
	handler, err := a.handler(conn, js, notifier)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serve(ctx, handler) })
	group.Go(func() error {
		kv, err := a.await(ctx, js)
		if err != nil {
			return nil // ctx ended
		}
		group.Go(func() error { return notifier.Run(ctx) })
		group.Go(func() error { return pipeline.Run(ctx) })
		group.Go(func() error { return schedules.Run(ctx) })
		return a.analyze(ctx, kv, pipeline)
	})
	return group.Wait()
}

// analyze runs the scheduler while this analyzer holds the lease.
func (a *App) analyze(ctx context.Context, kv jetstream.KeyValue, tell teller) error {
	lease := schedule.Lease{KV: kv, Key: "leader", Name: holder(), TTL: a.cfg.Scheduler.Lease, Log: a.log}
	return lease.Run(ctx, func(ctx context.Context) {
		scheduler := &schedule.Scheduler{
			Config: a.cfg.Scheduler, Incidents: a.cfg.Incidents, Detectors: a.cfg.Detectors.list(a.store), Explain: a.store.Explain,
			Clock:  newClock(a.store, a.cfg.Scheduler, a.metrics, a.log),
			Keeper: keeper{store: a.store, tell: tell, log: a.log},
			Marks:  schedule.KVMarks{KV: kv}, Metrics: a.metrics, Log: a.log,
		}
		a.leading.Store(scheduler)
		a.metrics.Leader.Set(1)
		defer a.metrics.Leader.Set(0)
		defer a.leading.Store(nil)
		if err := scheduler.Run(ctx); err != nil {
			a.log.Error("the scheduler ended", "error", err)
		}
	})
}

// holder names this process among the analyzers.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%d", host, os.Getpid(), time.Now().UnixNano())
}

// await returns the key-value bucket as soon as JetStream has it and ClickHouse
// has the tables. It says once what it waits for.
func (a *App) await(ctx context.Context, js jetstream.JetStream) (kv jetstream.KeyValue, err error) {
	err = a.until(ctx, "jetstream", func(ctx context.Context) (err error) {
		kv, err = natsconn.EnsureKeyValue(ctx, js, jetstream.KeyValueConfig{
			Bucket: schedule.Bucket, Description: "marks and the lease of the analyzer", History: 1, MaxBytes: 16 << 20,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return kv, a.until(ctx, "clickhouse", a.store.Ping)
}

// until calls do until it succeeds, and logs for what it waits when the reason
// is new. It returns an error only when ctx has ended.
func (a *App) until(ctx context.Context, what string, do func(context.Context) error) error {
	said := ""
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := do(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != said {
			said = err.Error()
			a.log.Info("waiting", "for", what, "reason", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
