package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	agent "github.com/ebbwatch/ebbwatch/agent/app"
	analyzer "github.com/ebbwatch/ebbwatch/analyzer/app"
	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// The limits of stopping, which together stay under ten seconds.
const (
	agentLimit     = 2 * time.Second
	drainLimit     = 1500 * time.Millisecond
	collectorLimit = 1500 * time.Millisecond
	analyzerLimit  = time.Second
	natsLimit      = time.Second
	engineLimit    = 2500 * time.Millisecond
)

// compose returns the parts in the order in which they start.
func compose(cfg Config, dir *datadir.Dir, log *slog.Logger) ([]part, error) {
	for _, name := range []string{natsd.SecretName, engine.SecretPrefix + engine.Collector, engine.SecretPrefix + engine.Writer, engine.SecretPrefix + engine.Analyzer} {
		if _, err := dir.Secret(name); err != nil {
			return nil, err
		}
	}
	nats := natsd.New(cfg.NATS, dir, log)
	store := engine.New(cfg.ClickHouse, dir, log)

	cfg.Collector.NATS = nats.Client()
	connectStore(&cfg, dir.Path())
	c, err := collector.New(cfg.Collector, log.With("part", "collector"))
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	cfg.Analyzer.NATS = nats.Client()
	cfg.Analyzer.ClickHouse.Address = cfg.Collector.ClickHouse.Address
	cfg.Analyzer.ClickHouse.Database = cfg.Collector.ClickHouse.Database
	cfg.Analyzer.ClickHouse.User = engine.Analyzer
	cfg.Analyzer.ClickHouse.Password = password(dir.Path(), engine.Analyzer)
	z, err := analyzer.New(cfg.Analyzer, log.With("part", "analyzer"))
	if err != nil {
		return nil, fmt.Errorf("analyzer: %w", err)
	}

	cfg.Agent.NATS = nats.Client()
	a, err := agent.New(cfg.Agent, log.With("part", "agent"))
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return []part{
		{name: "ClickHouse", run: store.Run, ready: closed(store.Ready()), limit: engineLimit},
		{name: "NATS", run: nats.Run, ready: closed(nats.Ready()), limit: natsLimit},
		{name: "collector", run: c.Run, ready: healthy(cfg.Collector.Listen), limit: collectorLimit},
		{name: "analyzer", run: z.Run, ready: healthy(cfg.Analyzer.Listen), limit: analyzerLimit},
		{name: "agent", run: untilDelivered(a), ready: healthy(cfg.Agent.Listen), limit: agentLimit, drained: queueStored(cfg.Agent.NATS, log)},
	}, nil
}

// untilDelivered runs the agent until nothing of what it counted is left to deliver.
// It lets go of the interfaces, which can be many, while the other parts stop.
func untilDelivered(a *agent.App) func(context.Context) error {
	return func(ctx context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		select {
		case err := <-ended:
			return err
		case err := <-a.Delivered():
			return err
		}
	}
}

// closed returns the readiness of a part that closes c.
func closed(c <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// healthy returns the readiness of a part that serves /healthz at address; a
// part that serves nothing is taken to be ready.
func healthy(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		if address == "" {
			return nil
		}
		for {
			err := askHealth(ctx, "http://"+address+"/healthz")
			if err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func askHealth(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return errors.Join(fmt.Errorf("not healthy: %s", body), err)
	}
	return nil
}

// queueStored returns when the collector has stored every batch that is queued,
// or after drainLimit: NATS keeps the rest for the next start.
func queueStored(cfg natsconn.Config, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainLimit)
		defer cancel()
		conn, err := natsconn.Connect("standalone", cfg, log)
		if err != nil {
			return err
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return fmt.Errorf("use JetStream: %w", err)
		}
		queued := uint64(0) // when the stream answered last
		for {
			stream, err := js.Stream(ctx, ebbwatch.FlowStream) // asks for its state
			if err == nil {
				if queued = stream.CachedInfo().State.Msgs; queued == 0 {
					return nil
				}
			}
			select {
			case <-ctx.Done():
				if queued > 0 {
					log.Warn("batches stay queued for the next start", "batches", queued)
				} else {
					log.Warn("cannot tell whether batches stay queued for the next start", "error", err)
				}
				return nil
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}
