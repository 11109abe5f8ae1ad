// Package app composes the collector.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/ingest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// App is a collector.
type App struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	writer   *sink.Writer
	metrics  *ingest.Metrics
	enricher *enrich.Enricher
	migrated atomic.Bool
	ingester atomic.Pointer[ingest.Ingester]

	mu     sync.Mutex
	pools  map[string]*sink.Pool // by address
	record *stored.Pool
}

// New returns a collector that has not started.
func New(cfg Config, log *slog.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, log: log, registry: ops.NewRegistry(), pools: make(map[string]*sink.Pool), record: stored.NewPool(cfg.ClickHouse)}
	a.writer = sink.NewWriter(cfg.Insert, cfg.ClickHouse, log, a.registry)
	a.metrics = ingest.NewMetrics(a.registry)
	a.enricher = enrich.New(cfg.Enrich, log, a.registry)
	return a, nil
}

// Run migrates the database and then moves batches into it until ctx ends; then
// it stores what it has read and returns nil. It waits for NATS and ClickHouse
// as long as it takes, and fails only where waiting cannot help.
func (a *App) Run(ctx context.Context) error {
	conn, err := natsconn.Connect("collector", a.cfg.NATS, a.log)
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
	group.Go(func() error { a.metrics.Watch(ctx, js); return nil })
	group.Go(func() error {
		if err := a.migrate(ctx, conn, js); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		a.migrated.Store(true)
		a.enricher.Load(ctx) // before the first row
		group.Go(func() error { a.enricher.Run(ctx); return nil })
		ingester := &ingest.Ingester{
			Config: a.cfg.Ingest, Streams: a.cfg.Streams, JS: js, Connect: a.backend, Enricher: a.enricher, Metrics: a.metrics, Log: a.log,
		}
		a.ingester.Store(ingester)
		defer a.closePools()
		return ingester.Run(ctx)
	})
	return group.Wait()
}

// backend returns the database for one shard of the stream. In a cluster its rows
// go to one server, and all servers are asked for what is stored: the agents of a
// shard were another's before its number was changed.
func (a *App) backend(shard consume.Shard) ingest.Backend {
	conn := a.cfg.ClickHouse.Shard(shard.Number)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools[conn.Address] == nil {
		a.pools[conn.Address] = a.writer.Pool(conn)
	}
	return ingest.Backend{Server: conn.Address, Store: a.pools[conn.Address], Record: a.record}
}

// closePools closes the connections once nothing is ingested any more.
func (a *App) closePools() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pool := range a.pools {
		pool.Close()
	}
	a.record.Close()
}

// migrate repeats until the schema is that of this build.
func (a *App) migrate(ctx context.Context, conn *nats.Conn, js jetstream.JetStream) error {
	m, err := a.migrator(js)
	if err != nil {
		return err
	}
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		applied, err := m.Run(ctx)
		if err == nil {
			a.log.Info("schema is up to date", "database", a.cfg.ClickHouse.Database, "applied", len(applied.Migrations), "changed", applied.Changes)
			return nil
		}
		if schema.Permanent(err) || ctx.Err() != nil {
			return err
		}
		if away := natsconn.Connected(conn); away != nil {
			err = away // the cause, where err is what it led to
		}
		a.log.Warn("cannot migrate yet, repeating", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (a *App) migrator(js jetstream.JetStream) (*schema.Migrator, error) {
	all, err := migrations.All()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	lock := &schema.KVLock{JS: js, Holder: fmt.Sprintf("%s, process %d", host, os.Getpid()), TTL: 30 * time.Second, Log: a.log, Replicas: a.cfg.Streams.Replicas}
	return &schema.Migrator{ClickHouse: a.cfg.ClickHouse, Store: &a.cfg.Store, Migrations: all, Lock: lock, Log: a.log, By: "ebbwatch-collector " + cli.Version()}, nil
}

func (a *App) checks(conn *nats.Conn) map[string]ops.Check {
	return map[string]ops.Check{
		"nats": func(context.Context) error {
			if err := natsconn.Connected(conn); err != nil {
				return fmt.Errorf("%s: %w", a.cfg.NATS.Redacted(), err)
			}
			return nil
		},
		"clickhouse": func(ctx context.Context) error {
			if err := a.writer.Health(); err != nil {
				return err
			}
			client, err := a.cfg.ClickHouse.Open("")
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Ping(ctx)
		},
		"enrichment": func(context.Context) error {
			if err := a.enricher.Health(); err != nil {
				return ops.Tolerable(err)
			}
			return nil
		},
		"ingest": func(context.Context) error {
			if !a.migrated.Load() {
				return errors.New("the database is not migrated yet")
			}
			if i := a.ingester.Load(); i != nil {
				return i.Health()
			}
			return nil
		},
	}
}
