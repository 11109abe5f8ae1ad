// Package ops serves what an operator asks of a running service: Prometheus
// metrics at /metrics and health at /healthz.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check reports why a part does not work at the moment, nil if it does. It must
// return soon after ctx ends and may be called concurrently.
type Check func(ctx context.Context) error

// tolerableError is an error that does not make a service unhealthy.
type tolerableError struct{ error }

func (t tolerableError) Unwrap() error { return t.error }

// Tolerable marks the reason of a Check as one that people should know but that
// starting the service again does not mend, nor waiting for it: /healthz tells
// it and still answers 200.
func Tolerable(reason error) error { return tolerableError{reason} }

// Server is the operations endpoint of one service.
type Server struct {
	// Listen is the address, as "127.0.0.1:8471"; "" serves nothing.
	Listen   string
	Registry *prometheus.Registry
	Checks   map[string]Check
	// Hosts are the names, in lower case, beside localhost and addresses, that
	// requests to a loopback address may be for.
	Hosts map[string]bool
	Log   *slog.Logger
}

// CheckListen reports why address cannot be listened on, as far as its text
// tells. "" is valid: nothing is served.
func CheckListen(address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: %q is not a port (0 to 65535)", address, port)
	}
	return nil
}

// NewRegistry returns a registry with the Go and process collectors.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Run serves until ctx ends. An address that cannot be bound is an error at once.
func (s *Server) Run(ctx context.Context) error {
	if s.Listen == "" {
		<-ctx.Done()
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	s.Log.Info("serving metrics and health", "address", ln.Addr().String())
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Handler returns the handler of /metrics and /healthz.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", s.health)
	return s.guard(mux)
}

// health answers 200 if every check passes or fails tolerably and 503
// otherwise, with a JSON object of the checks' names and "ok" or the reason.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	status, answer := http.StatusOK, make(map[string]string, len(s.Checks))
	for name, check := range s.Checks {
		answer[name] = "ok"
		err := check(ctx)
		if err == nil {
			continue
		}
		answer[name] = err.Error()
		if !errors.As(err, new(tolerableError)) {
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}
