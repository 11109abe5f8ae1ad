// Package exfiltration finds hosts that send far more out than they usually do
// (kind exfiltration).
//
// For each pair the bytes that the initiator sent in conversations which the
// responder answered are summed over the window, and
//
//	PCR = (out − in) / (out + in)
//
// the producer/consumer ratio (Bullard & Gerth 2014): 1 is a pure upload, −1 a
// pure download. The baseline is the host's own outward bytes a minute over the
// past day, to whomever (after Marchetti et al. 2016, who rank hosts by the
// residual of their outward volume):
//
//	z = (ln(1+x) − median(ln(1+past))) / max(1.4826·MAD(ln(1+past)), 0.5),  p = P(N(0,1) ≥ z)
//
// A finding needs PCR ≥ MinPCR, the floor MinBytes, p to survive
// Benjamini–Hochberg over the transfers of the window, x ≥ MinRatio times the
// 95th percentile of the past, and x > MinRatio times the most that this pair
// ever moved in a minute of the past week: a nightly backup is usual from its
// second night on. With less than MinHistory minutes of past there is no null
// model: p is 1, and ColdBytes decides.
//
// Whose traffic: an agent on a host sees that host in nearly all records. A
// transfer whose responder is in more than twice as many of the agent's records
// as its initiator comes in, and is no concern of this agent.
//
// What it cannot see: transfers that the outside pulls (the host is the
// responder); transfers slower than the floor; data hidden in many small
// destinations; DNS tunnels. The first big backup to a new place is reported.
// After Guard the transfer counts as past, so an episode of hours is extended
// only while it grows.
package exfiltration

import (
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
const Kind = "exfiltration"

// Row is what one initiator sent to one responder in a window.
type Row struct {
	Agent                  string // the agent that saw the most of it
	Src, Dst               netip.Addr
	Port                   uint16 // of the responder, that with the most bytes
	OutBytes, InBytes      uint64
	First, Last            time.Time // of the records that hold the bytes between the 5 % and the 95 % quantile
	SrcRecords, DstRecords uint64    // flow records of the agent, in the past hour, that either address takes part in
	Past                   []float64 // bytes that Src sent as initiator in each minute of the past
	PairPeak               float64   // most bytes that Src sent to Dst in one minute of the pair's past
}

// Query is what the Source is asked for.
type Query struct {
	detect.Window
	PastFrom, PairFrom, PastTo time.Time
	MinBytes                   uint64
	MinPCR                     float64
	Limit                      int
}

// Source provides the transfers of a window that reach the minima, the largest
// first, and how many pairs there were in all.
type Source interface {
	Transfers(ctx context.Context, q Query) (rows []Row, tested uint64, err error)
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
	past := w.Start.Add(-d.cfg.Guard)
	rows, tested, err := d.source.Transfers(ctx, Query{
		Window: w, PastFrom: past.Add(-d.cfg.History), PairFrom: past.Add(-d.cfg.PairHistory), PastTo: past,
		MinBytes: d.cfg.MinBytes, MinPCR: d.cfg.MinPCR, Limit: d.cfg.MaxRows,
	})
	if err != nil {
		return nil, fmt.Errorf("read transfers: %w", err)
	}
	return Score(d.cfg, w, rows, tested), nil
}

// judged is one transfer against the past.
type judged struct {
	rate       float64 // bytes a minute
	p          float64
	usual      float64 // 95th percentile of the host's past, bytes a minute; NaN without a past
	perMinute  float64 // median of the same
	standsOut  bool
	minimum    uint64
	enoughPast bool
}

func judge(cfg Config, w detect.Window, r *Row) judged {
	j := judged{rate: float64(r.OutBytes) / w.Duration().Minutes(), p: 1, usual: math.NaN(), minimum: cfg.ColdBytes}
	j.standsOut = j.rate > cfg.MinRatio*r.PairPeak
	if len(r.Past) < cfg.MinHistory {
		return j
	}
	j.enoughPast, j.minimum = true, cfg.MinBytes
	slices.Sort(r.Past)
	j.usual, j.perMinute = stat.Quantile(r.Past, 0.95), stat.Quantile(r.Past, 0.5)
	logs := make([]float64, len(r.Past))
	for i, x := range r.Past {
		logs[i] = math.Log1p(x)
	}
	median, mad := stat.MedianMAD(logs)
	j.p = stat.NormalTail((math.Log1p(j.rate) - median) / max(stat.MADScale*mad, 0.5))
	j.standsOut = j.standsOut && j.rate >= cfg.MinRatio*j.usual
	return j
}

// Score judges the transfers of one window, of which tested pairs were looked
// at in all. It sorts the pasts of rows.
func Score(cfg Config, w detect.Window, rows []Row, tested uint64) []detect.Finding {
	js, ps := make([]judged, len(rows)), make([]float64, len(rows))
	for i := range rows {
		js[i] = judge(cfg, w, &rows[i])
		ps[i] = js[i].p
	}
	threshold := stat.Benjamini(ps, int(min(tested, math.MaxInt32)), cfg.FalseDiscoveryRate)
	var findings []detect.Finding
	for i := range rows {
		r, j := &rows[i], js[i]
		pcr := float64(r.OutBytes) - float64(r.InBytes)
		pcr /= float64(max(r.OutBytes+r.InBytes, 1))
		comesIn := r.DstRecords > 2*r.SrcRecords
		if comesIn || !j.standsOut || r.OutBytes < j.minimum || pcr < cfg.MinPCR || j.enoughPast && j.p > threshold {
			continue
		}
		findings = append(findings, finding(cfg, w, r, j, pcr))
	}
	return findings
}

// severity is high, but medium where there is no past of the host to compare
// with and the pair has talked before: it may be the first backup of a new host.
func severity(r *Row, j judged) detect.Severity {
	if !j.enoughPast && r.PairPeak > 0 {
		return detect.Medium
	}
	return detect.High
}

func finding(cfg Config, w detect.Window, r *Row, j judged, pcr float64) detect.Finding {
	var usual, peak *float64
	if j.enoughPast {
		perSecond := j.perMinute / 60
		usual = &perSecond
	}
	if r.PairPeak > 0 { // a pair that was never seen has nothing usual
		perSecond := r.PairPeak / 60
		peak = &perSecond
	}
	return detect.Finding{
		Detector: "exfiltration", Kind: Kind,
		Entity:      detect.Entity{Src: r.Src.String(), Dst: r.Dst.String(), Port: r.Port, Host: r.Agent},
		WindowStart: r.First, WindowEnd: r.Last,
		Score: stat.Saturate(float64(r.OutBytes), float64(cfg.MinBytes)), PValue: j.p, Severity: severity(r, j),
		Summary: fmt.Sprintf("%s sent %.1f MB to %s, nearly all within %s, and received %.1f MB.",
			r.Src, float64(r.OutBytes)/1e6, r.Dst, max(r.Last.Sub(r.First), time.Second).Round(time.Second), float64(r.InBytes)/1e6),
		Evidence: []detect.Evidence{
			{ID: "bytes_out", Metric: "bytes_out", Value: float64(r.OutBytes), Unit: "bytes"},
			{ID: "bytes_in", Metric: "bytes_in", Value: float64(r.InBytes), Unit: "bytes"},
			{ID: "rate_out", Metric: "bytes_out_per_second", Value: float64(r.OutBytes) / w.Seconds(), Unit: "bytes/s", Baseline: usual},
			{ID: "pair_rate", Metric: "pair_bytes_out_per_second", Value: float64(r.OutBytes) / w.Seconds(), Unit: "bytes/s", Baseline: peak},
			{ID: "pcr", Metric: "producer_consumer_ratio", Value: pcr, Unit: "ratio"},
		},
	}
}
