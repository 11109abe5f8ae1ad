package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/api"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/web"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// handler returns the page, the API, /metrics and /healthz.
func (a *App) handler(conn *nats.Conn, js jetstream.JetStream, notifier *notify.Notifier) (http.Handler, error) {
	state := &status.Collector{Store: a.store, JetStream: js, Webhooks: notifier.States, Log: a.log}
	state.Detectors = func(ctx context.Context) ([]status.Detector, error) { return a.progress(ctx, js) }
	if a.cfg.LLM.Enabled() {
		state.Model = a.cfg.LLM.Model
	}
	page, err := web.New(a.store, a.store, state, a.log)
	if err != nil {
		return nil, err
	}
	operations := (&ops.Server{Registry: a.registry, Checks: a.checks(conn), Hosts: a.cfg.Web.Hosts(), Log: a.log}).Handler()
	mux := http.NewServeMux()
	mux.Handle("/metrics", operations)
	mux.Handle("/healthz", operations)
	mux.Handle("/api/v1/", web.Guard(a.cfg.Web, api.New(a.store, a.store, state, a.log).Handler()))
	mux.Handle("/", web.Guard(a.cfg.Web, page.Handler()))
	return mux, nil
}

// progress tells how far the detectors are: from the scheduler if it runs here,
// otherwise from the marks of the analyzer that works.
func (a *App) progress(ctx context.Context, js jetstream.JetStream) ([]status.Detector, error) {
	detectors := a.cfg.Detectors.list(a.store)
	until := make(map[string]time.Time)
	if s := a.leading.Load(); s != nil {
		until = s.Progress()
	} else {
		kv, err := js.KeyValue(ctx, schedule.Bucket)
		if err != nil {
			return nil, fmt.Errorf("read marks: %w", err)
		}
		for _, d := range detectors {
			if until[d.Name()], err = (schedule.KVMarks{KV: kv}).Load(ctx, d.Name()); err != nil {
				return nil, err
			}
		}
	}
	list := make([]status.Detector, len(detectors))
	for i, d := range detectors {
		list[i] = status.Detector{Name: d.Name(), Until: until[d.Name()]}
	}
	return list, nil
}

// serve serves handler until ctx ends. An address that cannot be bound is an
// error at once.
func (a *App) serve(ctx context.Context, handler http.Handler) error {
	if a.cfg.Listen == "" {
		<-ctx.Done()
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	a.log.Info("serving the page, the API, metrics and health", "address", ln.Addr().String())
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

func (a *App) checks(conn *nats.Conn) map[string]ops.Check {
	return map[string]ops.Check{
		"nats": func(context.Context) error {
			if err := natsconn.Connected(conn); err != nil {
				return fmt.Errorf("%s: %w", a.cfg.NATS.Redacted(), err)
			}
			return nil
		},
		"clickhouse": a.store.Ping,
	}
}
