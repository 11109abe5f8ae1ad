// Package beacon finds conversations that one host opens with another at
// regular times, as malware that calls home does (kind beacon).
//
// For each (initiator, responder, port, protocol) the intervals d between the
// beginnings of its answered conversations are taken; those nearer together
// than Collapse count as one. With m the median of d:
//
//	dispersion = median(|d − m|) / m
//	k          = number of d − Collapse within half of its median, (m − Collapse)/2, of it
//	p          = P(X ≥ k),  X ~ Binomial(n, 0.354)
//	score      = (1 − dispersion/0.694) · k/n · n/(n + MinConnections/2)
//
// The dispersion is the robust form of the coefficient of variation that RITA
// and BAYWATCH (Hu et al. 2016) use: a few missed or doubled calls do not move
// it. The null model is a Poisson process: exponential intervals fall within
// half their median of it with probability 2^-0.5 − 2^-1.5 = 0.354, and have
// dispersion 0.694. What collapsing leaves of such a process are exponential
// intervals plus Collapse, which is why k is counted without it. A finding needs p to survive Benjamini–Hochberg over all
// pairs with enough conversations, dispersion ≤ MaxDispersion, and the minima
// of the configuration.
//
// Popularity, as in BAYWATCH's local whitelist: a port with MaxPeers regular
// clients is a service that is polled, and a client with MaxPeers regular
// servers on one port is a monitor; neither is reported. To count here half of
// MinConnections and p ≤ 0.01 suffice, so that the first of many is not reported
// before the others. A port with MaxClients clients of any kind in the recent past
// is a public service, at which brute forcers and crawlers keep time too; MaxClients
// is for short windows, which cannot tell them apart. No port number has a meaning of its own, so a lone NTP client or a health check of one server is
// reported: it is a beacon in every respect that flows show.
//
// What it cannot see: calls within one long connection (HTTP/2, WebSocket);
// jitter above about half of the interval; fewer than MinConnections calls a
// window; calls that are never answered; more than MaxPeers infected hosts that
// call one port; a client that makes other connections to the same port in
// between more often than it calls.
package beacon

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/stat"
)

// Kind is the kind of the findings.
const Kind = "beacon"

// What exponential intervals show: the share of them within half their median of
// it, 2^-0.5 − 2^-1.5, and their MAD/median, asinh(1/2)/ln 2.
const (
	chanceInBand     = math.Sqrt2 / 4
	chanceDispersion = 0.6942419136306174
)

// Row is what one initiator opened to one port of one responder in a window.
type Row struct {
	Agent    string // the agent that saw the most of it
	Src, Dst netip.Addr
	Port     uint16
	Proto    uint8
	Starts   []time.Time // of answered conversations, in order
	Bytes    uint64      // both ways
}

// Source provides the rows of a window with at least minStarts and at most
// maxStarts conversations, those with the most first, limit at most.
type Source interface {
	Conversations(ctx context.Context, w detect.Window, minStarts, maxStarts, limit int) ([]Row, error)
	// Clients returns how many addresses opened conversations with each of
	// services in w.
	Clients(ctx context.Context, w detect.Window, services []Service) (map[Service]uint64, error)
}

// Service is a port of a responder.
type Service struct {
	Addr  netip.Addr
	Port  uint16
	Proto uint8
}

// Detector implements detect.Detector.
type Detector struct {
	name   string
	cfg    Config
	source Source
}

// New returns a detector that is known as name.
func New(name string, cfg Config, source Source) *Detector { return &Detector{name, cfg, source} }

// Name implements detect.Detector.
func (d *Detector) Name() string { return d.name }

// Cadence implements detect.Detector.
func (d *Detector) Cadence() detect.Cadence { return d.cfg.Cadence }

// Evaluate implements detect.Detector.
func (d *Detector) Evaluate(ctx context.Context, w detect.Window) ([]detect.Finding, error) {
	rows, err := d.source.Conversations(ctx, w, d.cfg.MinConnections/2, d.cfg.maxConnections(), d.cfg.MaxRows)
	if err != nil {
		return nil, fmt.Errorf("read conversations: %w", err)
	}
	candidates := Candidates(d.cfg, rows)
	if len(candidates) == 0 || d.cfg.MaxClients == 0 {
		return Findings(d.cfg, w, candidates, nil), nil
	}
	services := make([]Service, len(candidates))
	for i, c := range candidates {
		services[i] = c.server()
	}
	clients, err := d.source.Clients(ctx, detect.Window{Start: w.End.Add(-d.cfg.ClientHistory), End: w.End}, services)
	if err != nil {
		return nil, fmt.Errorf("read clients of services: %w", err)
	}
	return Findings(d.cfg, w, candidates, clients), nil
}

// Rhythm is what the intervals of one row show.
type Rhythm struct {
	row         *Row
	n, inBand   int
	median      float64 // seconds
	dispersion  float64
	p, score    float64
	first, last time.Time
}

func measure(cfg Config, r *Row) Rhythm {
	var starts []time.Time
	for _, t := range r.Starts {
		if len(starts) == 0 || t.Sub(starts[len(starts)-1]) >= cfg.Collapse {
			starts = append(starts, t)
		}
	}
	if len(starts) < max(3, cfg.MinConnections/2) {
		return Rhythm{row: r, p: 1}
	}
	intervals := make([]float64, len(starts)-1)
	for i := range intervals {
		intervals[i] = starts[i+1].Sub(starts[i]).Seconds()
	}
	m := Rhythm{row: r, n: len(intervals), first: starts[0], last: starts[len(starts)-1]}
	m.median = stat.Median(intervals)
	for _, d := range intervals {
		if math.Abs(d-m.median) <= (m.median-cfg.Collapse.Seconds())/2 {
			m.inBand++
		}
	}
	_, mad := stat.MedianMAD(intervals)
	m.dispersion = mad / m.median
	m.p = stat.BinomialTail(uint64(m.inBand), uint64(m.n), chanceInBand)
	n := float64(m.n)
	m.score = max(0, 1-m.dispersion/chanceDispersion) * float64(m.inBand) / n * stat.Saturate(n, float64(cfg.MinConnections)/2)
	return m
}

// peerP is the p-value up to which a pair counts for popularity.
const peerP = 0.01

// regular reports whether m counts for popularity.
func (m *Rhythm) regular(cfg Config) bool {
	return m.n > 0 && m.p <= peerP && m.dispersion <= cfg.MaxDispersion
}

// enough reports whether there is enough of m to judge it by itself.
func (m *Rhythm) enough(cfg Config) bool {
	return m.n+1 >= cfg.MinConnections && m.median >= cfg.MinInterval.Seconds() && m.last.Sub(m.first) >= cfg.MinSpan
}

// server and client are what the popularity of m counts by: who answers, and who
// asks on which port.
func (m *Rhythm) server() Service { return Service{m.row.Dst, m.row.Port, m.row.Proto} }
func (m *Rhythm) client() Service { return Service{m.row.Src, m.row.Port, m.row.Proto} }

// Candidates returns the rows of one window that are regular and not popular
// among themselves, in order of score, the highest first.
func Candidates(cfg Config, rows []Row) []Rhythm {
	rhythms := make([]Rhythm, len(rows))
	var ps []float64
	clients, servers := make(map[Service]int), make(map[Service]int)
	for i := range rows {
		m := measure(cfg, &rows[i])
		rhythms[i] = m
		if m.enough(cfg) {
			ps = append(ps, m.p)
		}
		if m.regular(cfg) {
			clients[m.server()]++
			servers[m.client()]++
		}
	}
	threshold := stat.Benjamini(ps, len(ps), cfg.FalseDiscoveryRate)
	rhythms = slices.DeleteFunc(rhythms, func(m Rhythm) bool {
		return !m.enough(cfg) || !m.regular(cfg) || m.p > threshold || clients[m.server()] >= cfg.MaxPeers || servers[m.client()] >= cfg.MaxPeers
	})
	slices.SortStableFunc(rhythms, func(a, b Rhythm) int { return cmp.Compare(b.score, a.score) })
	return rhythms
}

// Findings returns the findings of window w: the candidates whose service does
// not have too many clients.
func Findings(cfg Config, w detect.Window, candidates []Rhythm, clients map[Service]uint64) []detect.Finding {
	var findings []detect.Finding
	for _, m := range candidates {
		if cfg.MaxClients == 0 || clients[m.server()] < cfg.MaxClients {
			findings = append(findings, finding(w, &m))
		}
	}
	return findings
}

func finding(w detect.Window, m *Rhythm) detect.Finding {
	r := m.row
	end := m.last
	if due := m.last.Add(time.Duration(2 * m.median * float64(time.Second))); due.After(w.End) {
		end = w.End // the next call is not overdue: it goes on
	}
	chance := float64(chanceDispersion)
	return detect.Finding{
		Detector: "beacon", Kind: Kind,
		Entity:      detect.Entity{Src: r.Src.String(), Dst: r.Dst.String(), Port: r.Port, Host: r.Agent},
		WindowStart: m.first, WindowEnd: end, Score: m.score, PValue: m.p, Severity: detect.Medium,
		Summary: fmt.Sprintf("%s called %s port %d every %s, %d times with a typical deviation of %.0f %%.",
			r.Src, r.Dst, r.Port, seconds(m.median), m.n+1, 100*m.dispersion),
		Evidence: []detect.Evidence{
			{ID: "interval", Metric: "median_interval", Value: m.median, Unit: "s"},
			{ID: "dispersion", Metric: "interval_dispersion", Value: m.dispersion, Unit: "ratio", Baseline: &chance},
			{ID: "connections", Metric: "regular_connections", Value: float64(m.n + 1), Unit: "connections"},
			{ID: "duration", Metric: "duration", Value: m.last.Sub(m.first).Seconds(), Unit: "s"},
			{ID: "bytes_per_connection", Metric: "bytes_per_connection", Value: float64(r.Bytes) / float64(len(r.Starts)), Unit: "bytes"},
		},
	}
}

func seconds(s float64) time.Duration {
	d := time.Duration(s * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
