// Package volume finds floods: of connection attempts to one port (kind
// syn_flood), and of packets without answer to one host (kind volume).
//
// A SYN flood is counted in half-open connections: TCP conversations that began
// in the window and in which the initiator never completed the handshake, be
// they unanswered, refused, or answered with a SYN-ACK that it ignored or reset.
// Those that a service refused which answered somebody within the past hour do
// not count: clients of a service that is gone are no attack.
// A crowd of real clients completes its handshakes, so it is no SYN flood. The
// measure x is half-open connections a minute to one (responder, port); its
// baseline is the number of all new connections a minute to it.
//
// A one-way flood is counted in packets and bytes of UDP conversations that got
// no answer, and of ICMP, to one responder; its baseline is the same of the past.
//
// Score (robust z with a Poisson term; median and MAD as in Rousseeuw & Croux
// 1993) over the minutes of the past hour, quiet ones included:
//
//	z = (x − median) / sqrt((1.4826·MAD)² + median + 1),  p = P(N(0,1) ≥ z)
//
// A finding needs p to survive Benjamini–Hochberg over the entities of the
// window, x ≥ MinRatio·median, and the absolute floor. With less than
// MinHistory minutes of past there is no null model: p is 1 and the floor alone
// decides. The normal tail is an approximation: traffic has heavier tails, which
// is why the ratio and the floor stand beside it.
//
// A flood that fills an agent's flow map is still found: its recorded part is
// above the floor, and where that is not so, the overflow that the agent counts
// gives a finding about the agent (kind volume).
//
// What it cannot see: floods below the floors; floods of packets that belong to
// no handshake (ACK floods) or get answers (DNS queries, HTTP requests). A dead host under retrying clients looks like a SYN flood.
package volume

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/stat"
)

// The kinds of findings.
const (
	SYNFlood = "syn_flood"
	Volume   = "volume"
)

// Target is what came to one port of one host in a window.
type Target struct {
	Agent       string // the agent that saw the most of it
	Dst         netip.Addr
	Port        uint16
	Started     uint64 // TCP conversations that began
	HalfOpen    uint64 // of them without a completed handshake
	Sources     uint64 // distinct initiators of those, approximately
	TopSource   netip.Addr
	FromTop     uint64    // half-open conversations that TopSource began, at least
	First, Last time.Time // of the half-open conversations
	Past        []float64 // new connections of each minute of the past
}

// OneWay is what one host received without answering in a window.
type OneWay struct {
	Agent       string
	Dst         netip.Addr
	Proto       uint8 // the one with the most packets
	Port        uint16
	Packets     uint64
	Bytes       uint64
	Sources     uint64
	TopSource   netip.Addr
	FromTop     uint64 // packets that TopSource sent, at least
	First, Last time.Time
	Past        []float64 // packets without answer of each minute of the past
	PastBytes   []float64 // and their bytes
}

// Overflow is what found no room in the flow map of an agent in a window.
type Overflow struct {
	Agent   string
	Packets uint64
	Bytes   uint64
	Seen    uint64 // packets in all
}

// Query is what a Source is asked for.
type Query struct {
	detect.Window
	PastFrom, PastTo time.Time
	Limit            int
}

// Source provides the rows of a window that reach the given minima, the
// largest first, and how many entities there were in all.
type Source interface {
	Targets(ctx context.Context, q Query, minHalfOpen uint64) (rows []Target, tested uint64, err error)
	OneWay(ctx context.Context, q Query, minPackets, minBytes uint64) (rows []OneWay, tested uint64, err error)
	Overflow(ctx context.Context, w detect.Window) ([]Overflow, error)
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
	q := Query{Window: w, PastTo: w.Start.Add(-d.cfg.Guard), Limit: d.cfg.MaxRows}
	q.PastFrom = q.PastTo.Add(-d.cfg.History)
	seconds := w.Seconds()
	targets, tested, err := d.source.Targets(ctx, q, uint64(math.Ceil(d.cfg.MinHalfOpen*seconds)))
	if err != nil {
		return nil, fmt.Errorf("read connection attempts: %w", err)
	}
	oneWay, hosts, err := d.source.OneWay(ctx, q, uint64(math.Ceil(d.cfg.MinPackets*seconds)), uint64(math.Ceil(d.cfg.MinBytes*seconds)))
	if err != nil {
		return nil, fmt.Errorf("read one-way traffic: %w", err)
	}
	overflow, err := d.source.Overflow(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("read overflow: %w", err)
	}
	findings := ScoreTargets(d.cfg, w, targets, tested)
	findings = append(findings, ScoreOneWay(d.cfg, w, oneWay, hosts)...)
	return ScoreOverflow(d.cfg, w, overflow, findings), nil
}

// judged is one rate against its past.
type judged struct {
	median float64 // per minute; NaN without enough past
	p      float64
	ratio  bool // whether it is at least MinRatio times the median
}

// judge compares x a minute with the past. It changes past.
func judge(cfg Config, x float64, past []float64) judged {
	if len(past) < cfg.MinHistory {
		return judged{median: math.NaN(), p: 1, ratio: true}
	}
	median, mad := stat.MedianMAD(past)
	spread := stat.MADScale * mad
	z := (x - median) / math.Sqrt(spread*spread+median+1)
	return judged{median: median, p: stat.NormalTail(z), ratio: x >= cfg.MinRatio*median}
}

// baseline returns the median a second, nil without enough past.
func (j judged) baseline() *float64 {
	if math.IsNaN(j.median) {
		return nil
	}
	perSecond := j.median / 60
	return &perSecond
}

// discoveries returns which of js stand out of the tests in all. Those without a
// past have no p-value and stand by their floor.
func discoveries(cfg Config, js []judged, tested uint64) []bool {
	ps := make([]float64, len(js))
	for i, j := range js {
		ps[i] = j.p
	}
	threshold := stat.Benjamini(ps, int(min(tested, math.MaxInt32)), cfg.FalseDiscoveryRate)
	found := make([]bool, len(js))
	for i, j := range js {
		found[i] = j.ratio && (math.IsNaN(j.median) || j.p <= threshold)
	}
	return found
}
