// Package app composes the analyzer: detectors over the store, incidents,
// reports, and the page with its API.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

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
	return &App{cfg: cfg, log: log, registry: registry, metrics: schedule.NewMetrics(registry), store: s}, nil
}

// Run analyzes until ctx ends; then it finishes the window in hand and returns
// nil. It waits for NATS, ClickHouse and the collector's tables as long as it
// takes, and fails only where waiting cannot help: a port that is taken, a
// configuration that cannot work.
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
	group, ctx := errgroup.WithContext(ctx)
	server := ops.Server{Listen: a.cfg.Listen, Registry: a.registry, Checks: a.checks(conn), Log: a.log}
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error { return a.analyze(ctx, js) })
	return group.Wait()
}

// analyze runs the scheduler while this analyzer holds the lease.
func (a *App) analyze(ctx context.Context, js jetstream.JetStream) error {
	kv, err := a.bucket(ctx, js)
	if err != nil {
		return nil // ctx ended
	}
	scheduler := &schedule.Scheduler{
		Config: a.cfg.Schedule, Incidents: a.cfg.Incidents, Detectors: a.cfg.Detectors.list(a.store),
		Explain: a.store.Explain,
		Clock:   clock{a.store, a.cfg.Schedule},
		Keeper:  keeper{store: a.store, log: a.log},
		Marks:   schedule.KVMarks{KV: kv},
		Metrics: a.metrics, Log: a.log,
	}
	lease := schedule.Lease{KV: kv, Key: "leader", Name: holder(), TTL: a.cfg.Schedule.Lease, Log: a.log}
	return lease.Run(ctx, func(ctx context.Context) {
		a.metrics.Leader.Set(1)
		defer a.metrics.Leader.Set(0)
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

// bucket creates the key-value bucket, or takes the one that is there.
func (a *App) bucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	said := false
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		kv, err := js.CreateOrUpdateKeyValue(try, jetstream.KeyValueConfig{
			Bucket: schedule.Bucket, Description: "marks and the lease of the analyzer", History: 1, MaxBytes: 16 << 20,
		})
		cancel()
		if err == nil {
			return kv, nil
		}
		if ctx.Err() == nil && !said {
			said = true
			a.log.Info("waiting for JetStream", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (a *App) checks(conn *nats.Conn) map[string]ops.Check {
	return map[string]ops.Check{
		"nats": func(context.Context) error {
			if !conn.IsConnected() {
				return fmt.Errorf("not connected to NATS at %s: %s", a.cfg.NATS.URL, conn.Status())
			}
			return nil
		},
		"clickhouse": a.store.Ping,
	}
}
