// Package api serves what the analyzer knows as JSON. openapi.yaml describes it
// and a test holds the answers against the description.
package api

import (
	"context"
	_ "embed" // openapi.yaml
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/status"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// Findings is what the API tells of the detectors' work.
type Findings interface {
	Findings(ctx context.Context, f store.FindingFilter) ([]detect.Finding, int, error)
	Incidents(ctx context.Context, f store.IncidentFilter) ([]incident.Incident, int, error)
	Incident(ctx context.Context, id string) (incident.Incident, error)
}

// Reports is what the API tells of the reports and their way out.
type Reports interface {
	Reports(ctx context.Context, f store.ReportFilter) ([]store.Report, int, error)
	Report(ctx context.Context, id string) (store.Report, error)
	Deliveries(ctx context.Context, f store.DeliveryFilter) ([]store.Delivery, int, error)
}

// Statuser tells the state of every part.
type Statuser interface {
	Status(ctx context.Context) status.Status
}

//go:embed openapi.yaml
var description []byte

// Description returns the OpenAPI description of the API.
func Description() []byte { return description }

// API serves the API. It is safe for concurrent use.
type API struct {
	findings Findings
	reports  Reports
	status   Statuser
	log      *slog.Logger
}

// New returns an API over its sources.
func New(findings Findings, reports Reports, s Statuser, log *slog.Logger) *API {
	return &API{findings, reports, s, log}
}

// answerLimit bounds the time of one request.
const answerLimit = 15 * time.Second

// Handler returns the handler of everything below /api/v1/. It must stand behind
// a guard that refuses foreign host names and methods other than GET and HEAD.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(context.Context, *query) (any, error){
		"GET /api/v1/status":         a.getStatus,
		"GET /api/v1/findings":       a.listFindings,
		"GET /api/v1/incidents":      a.listIncidents,
		"GET /api/v1/incidents/{id}": a.getIncident,
		"GET /api/v1/reports":        a.listReports,
		"GET /api/v1/reports/{id}":   a.getReport,
		"GET /api/v1/deliveries":     a.listDeliveries,
	} {
		mux.HandleFunc(pattern, a.serve(handle))
	}
	mux.HandleFunc("GET /api/v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(description)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			a.fail(w, &problem{http.StatusMethodNotAllowed, "method_not_allowed", "the API only reads: use GET"})
			return
		}
		a.fail(w, &problem{http.StatusNotFound, "not_found", "there is no such resource; /api/v1/openapi.yaml lists all"})
	})
	return mux
}

// problem is an error that the caller may see.
type problem struct {
	status        int
	code, message string
}

func (p *problem) Error() string { return p.message }

// serve reads the parameters, calls handle, refuses what handle did not ask for,
// and writes the answer.
func (a *API) serve(handle func(context.Context, *query) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
		defer cancel()
		q := newQuery(r)
		answer, err := handle(ctx, q)
		if err != nil {
			a.fail(w, err)
			return
		}
		a.write(w, http.StatusOK, answer)
	}
}

func (a *API) fail(w http.ResponseWriter, err error) {
	var p *problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, store.ErrNotFound):
		p = &problem{http.StatusNotFound, "not_found", "nothing has this id"}
	case errors.Is(err, store.ErrNotReady):
		p = &problem{http.StatusServiceUnavailable, "unavailable", store.ErrNotReady.Error()}
	default:
		a.log.Warn("the API could not read the store", "error", err)
		p = &problem{http.StatusServiceUnavailable, "unavailable", "ClickHouse does not answer; try again"}
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	a.write(w, p.status, map[string]any{"error": map[string]string{"code": p.code, "message": p.message}})
}

func (a *API) write(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		a.log.Error("an answer could not be written", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"unavailable","message":"the answer could not be written"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
