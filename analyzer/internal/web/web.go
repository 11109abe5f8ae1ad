// Package web serves the page: the state of every part, what is wrong now, and
// the reports. It only reads. Everything it shows was observed on a network that
// attackers write to, so everything is escaped and nothing is loaded from elsewhere.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// Findings is what the page shows of the detectors' work.
type Findings interface {
	Incidents(ctx context.Context, f store.IncidentFilter) ([]incident.Incident, int, error)
	Findings(ctx context.Context, f store.FindingFilter) ([]detect.Finding, int, error)
	Throughput(ctx context.Context, from, to time.Time) ([]store.ThroughputPoint, error)
	Exchanges(ctx context.Context, from, to time.Time, by store.Order, limit int) ([]store.Exchange, error)
	Programs(ctx context.Context, from, to time.Time, addresses []string, each int) (map[string][]store.Program, error)
}

// Reports is what the page shows of the reports and their way out.
type Reports interface {
	Reports(ctx context.Context, f store.ReportFilter) ([]store.Report, int, error)
	Report(ctx context.Context, id string) (store.Report, error)
	Deliveries(ctx context.Context, f store.DeliveryFilter) ([]store.Delivery, int, error)
}

// Statuser tells the state of every part.
type Statuser interface {
	Status(ctx context.Context) status.Status
}

//go:embed page static
var files embed.FS

// Web serves the page. It is safe for concurrent use; what several browsers ask
// for within two seconds is read once.
type Web struct {
	findings Findings
	reports  Reports
	status   Statuser
	log      *slog.Logger
	tmpl     *template.Template
	static   http.Handler

	mu    sync.Mutex
	last  *now
	asked time.Time
	talk  talk
}

// New returns a page over its sources.
func New(findings Findings, reports Reports, s Statuser, log *slog.Logger) (*Web, error) {
	tmpl, err := template.New("page").Funcs(funcs()).ParseFS(files, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, fmt.Errorf("open static files: %w", err)
	}
	return &Web{findings: findings, reports: reports, status: s, log: log, tmpl: tmpl, static: http.FileServerFS(static)}, nil
}

// Handler returns the handler of the page. It must stand behind Guard.
func (w *Web) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) { w.render(rw, r, "now.html") })
	mux.HandleFunc("GET /now", func(rw http.ResponseWriter, r *http.Request) { w.render(rw, r, "live") })
	mux.HandleFunc("GET /reports/{id}", w.report)
	mux.Handle("GET /static/", http.StripPrefix("/static/", cached(w.static)))
	mux.HandleFunc("GET /favicon.ico", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/static/icon.svg", http.StatusFound)
	})
	return mux
}

// cached lets browsers keep the files, but ask whether they changed: they are
// part of the binary, which has no times.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") || r.URL.Path == "" {
			http.NotFound(w, r) // no listing
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		next.ServeHTTP(w, r)
	})
}

func (w *Web) render(rw http.ResponseWriter, r *http.Request, name string) {
	var page bytes.Buffer
	if err := w.tmpl.ExecuteTemplate(&page, name, w.now(r.Context())); err != nil {
		w.log.Error("page could not be rendered", "error", err)
		http.Error(rw, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = page.WriteTo(rw)
}

// reportPolicy shuts a stored report in: no script, no form, nothing loaded, an
// origin of its own.
const reportPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"

// report serves a stored report: as a page, or as Markdown if the id ends in ".md".
func (w *Web) report(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readLimit)
	defer cancel()
	id, markdown := strings.CutSuffix(r.PathValue("id"), ".md")
	stored, err := w.reports.Report(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		http.Error(rw, "there is no such report", http.StatusNotFound)
		return
	case err != nil:
		w.log.Warn("report could not be read", "error", err)
		http.Error(rw, "ClickHouse does not answer; try again", http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set("Content-Security-Policy", reportPolicy)
	if markdown {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = rw.Write([]byte(stored.Markdown))
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = rw.Write([]byte(stored.HTML))
}
