package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// forward passes each connection that ln accepts on to one that dial makes,
// until ctx ends.
func forward(ctx context.Context, ln net.Listener, dial func(context.Context) (net.Conn, error)) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		near, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("forward: %w", err)
		}
		open.Go(func() {
			defer near.Close()
			far, err := dial(ctx)
			if err != nil {
				return // the visitor sees a closed connection and comes again
			}
			defer far.Close()
			defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
			splice(near, far)
		})
	}
}

// splice copies both ways until both sides have finished. Errors are those of
// connections that ended early, which each side sees itself.
func splice(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// bringModel makes the model's endpoint, and nothing else of this machine's
// network, reachable on the watched host. It returns the base URL there.
func (s *stage) bringModel(ctx context.Context) (string, error) {
	target, err := url.Parse(s.opts.LLM.BaseURL)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return "", fmt.Errorf("EBBWATCH_LLM_BASE_URL %q: want an http or https URL", s.opts.LLM.BaseURL)
	}
	ln, err := s.lab.Host("watched").Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("bring the model into the lab: %w", err)
	}
	origin := &url.URL{Scheme: target.Scheme, Host: target.Host}
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(origin) },
			// The report says what became of a question; nothing is to be said here.
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		},
	}
	context.AfterFunc(ctx, func() { server.Close() })
	s.running.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("bring the model into the lab: %w", err)
		}
		return nil
	})
	return (&url.URL{Scheme: "http", Host: ln.Addr().String(), Path: target.Path}).String(), nil
}
