// Package scan finds hosts that probe: many ports of one host (kind port_scan),
// one port of many hosts (kind host_scan), or so much that an agent's flow map
// does not hold it (kind wide_scan).
//
// For each initiator the distinct targets of its conversations in the window
// are counted, and how many of them failed. A target is a (protocol, port) of
// one responder for a port scan, and a responder for a host scan. It failed if
// no conversation with it came about: TCP without a completed handshake, UDP or
// ICMP echo without a reply. A port that answers the SYN and is then let go fails
// in this sense, for that is how scanners treat open ports; it is reported as one
// that answered.
//
// The null model is that of threshold random walk (Jung et al., "Fast Portscan
// Detection Using Sequential Hypothesis Testing", 2004): a benign host's first
// contact with a target fails with probability θ (default 0.2), independently.
// The p-value of n targets of which k failed is P(X ≥ k), X ~ Binomial(n, θ). A
// finding needs a p-value that survives Benjamini–Hochberg over all pairs and
// initiators of the window, at least MinTargets targets that failed, and a
// share of failures of at least MinFailedShare.
//
// An address whose packets found no room in an agent's flow map, and of which the
// agent's sketch tells at least MinOverflowTargets targets in one drain interval,
// is a finding without a p-value, unless it answered more conversations than it
// opened. Where its other probes are found as well, the estimate is added there.
//
// Who answers is never flagged: only conversations whose initiator is known
// count, and of those only probes that the initiator itself was seen to send.
// A flood of one port is one target, so it is no scan.
//
// What it cannot see: scans slower than MinTargets a window; scans of which most
// targets answer; probes without SYN (FIN, NULL and Xmas scans have no known
// initiator); distributed scans in which each source tries few targets; a host
// scan of which the agents see only one target.
package scan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/stat"
)

// The kinds of findings.
const (
	PortScan = "port_scan"
	HostScan = "host_scan"
)

// PortMetric is the metric of the evidence that holds the port of a host scan: it
// is no part of the entity, because a scan of a network for many ports is one.
const PortMetric = "port_of_most_hosts"

// Config tunes the detector.
type Config struct {
	Enabled            bool `yaml:"enabled"`
	detect.Cadence     `yaml:"cadence"`
	MinTargets         uint64  `yaml:"min_targets"`          // distinct targets that failed
	MinFailedShare     float64 `yaml:"min_failed_share"`     // of all targets that were tried
	BenignFailureRate  float64 `yaml:"benign_failure_rate"`  // probability that a first contact of a benign host fails (θ)
	FalseDiscoveryRate float64 `yaml:"false_discovery_rate"` // over all entities of one window
	MinOverflowTargets uint64  `yaml:"min_overflow_targets"` // estimated, of an address whose packets found no room in the flow map; 0: look at none
	MaxRows            int     `yaml:"max_rows"`             // suspects taken from one window, the widest first
}

// FastConfig returns the configuration for scans that one notices at once: Jung's
// rate and Zeek's number of targets.
func FastConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: time.Minute, Step: 5 * time.Second},
		MinTargets: 15, MinFailedShare: 0.5, BenignFailureRate: 0.2, FalseDiscoveryRate: 0.001, MinOverflowTargets: 1000, MaxRows: 5000,
	}
}

// SlowConfig returns the configuration for scans that take up to a day. So few
// targets of so many hosts leave less certainty: one finding in twenty may be chance.
func SlowConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: 24 * time.Hour, Step: 10 * time.Minute},
		MinTargets: 5, MinFailedShare: 0.5, BenignFailureRate: 0.2, FalseDiscoveryRate: 0.05, MaxRows: 5000,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	if err := c.Cadence.Validate(); err != nil {
		return fmt.Errorf("cadence.%w", err)
	}
	switch {
	case c.MinTargets < 2:
		return errors.New("min_targets: must be at least 2")
	case !(c.MinFailedShare > 0 && c.MinFailedShare <= 1):
		return errors.New("min_failed_share: must be above 0 and at most 1")
	case !(c.BenignFailureRate > 0 && c.BenignFailureRate < 1):
		return errors.New("benign_failure_rate: must be between 0 and 1")
	case !(c.FalseDiscoveryRate > 0 && c.FalseDiscoveryRate < 1):
		return errors.New("false_discovery_rate: must be between 0 and 1")
	case c.MaxRows < 1:
		return errors.New("max_rows: must be at least 1")
	}
	return nil
}

// Row is what one initiator did in a window.
type Row struct {
	Agent       string     // the agent that saw the most of it
	Src         netip.Addr // initiator
	Dst         netip.Addr // responder of a port scan; invalid for a host scan
	Proto       uint8      // of a host scan; 0 for a port scan
	Port        uint16     // of a host scan; 0 for a port scan
	Targets     uint64     // distinct targets
	Failed      uint64     // of them with which no conversation came about
	Open        uint64     // of those that failed, the ones whose port answered the SYN with SYN and ACK
	Attempts    uint64     // conversations
	First, Last time.Time  // when the first and the last target that failed was tried for the first time
}

// Source provides the rows of [from, to) that have at least minFailed failed
// targets, the widest first, limit at most; and how many initiators (of host
// scans) or pairs (of port scans) there were in all.
type Source interface {
	PortScans(ctx context.Context, w detect.Window, minFailed uint64, limit int) (rows []Row, tested uint64, err error)
	HostScans(ctx context.Context, w detect.Window, minFailed uint64, limit int) (rows []Row, tested uint64, err error)
	// Spills returns the addresses that opened at least as many conversations as
	// they answered, and have at least minTargets estimated targets and packets
	// without room, the widest first.
	Spills(ctx context.Context, w detect.Window, minTargets uint64, limit int) ([]Spill, error)
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
	ports, pairs, err := d.source.PortScans(ctx, w, d.cfg.MinTargets, d.cfg.MaxRows)
	if err != nil {
		return nil, fmt.Errorf("read port scans: %w", err)
	}
	hosts, sources, err := d.source.HostScans(ctx, w, d.cfg.MinTargets, d.cfg.MaxRows)
	if err != nil {
		return nil, fmt.Errorf("read host scans: %w", err)
	}
	findings := append(Score(d.cfg, ports, pairs), widest(Score(d.cfg, hosts, sources))...)
	if d.cfg.MinOverflowTargets == 0 {
		return findings, nil
	}
	spills, err := d.source.Spills(ctx, w, d.cfg.MinOverflowTargets, d.cfg.MaxRows)
	if err != nil {
		return nil, fmt.Errorf("read what found no room: %w", err)
	}
	return spilled(findings, spills), nil
}

// widest leaves of each initiator's host scans the one with the most targets,
// and adds to it on how many ports it scanned: who scans a network for a hundred
// ports scans it once.
func widest(scans []detect.Finding) []detect.Finding {
	var findings []detect.Finding
	at, ports := make(map[string]int), make(map[string]int)
	for _, f := range scans {
		ports[f.Entity.Src]++
		if i, ok := at[f.Entity.Src]; !ok {
			at[f.Entity.Src] = len(findings)
			findings = append(findings, f)
		} else if f.Score > findings[i].Score {
			findings[i] = f
		}
	}
	for i, f := range findings {
		if n := ports[f.Entity.Src]; n > 1 {
			findings[i].Summary += fmt.Sprintf(" It scanned %d ports in this way.", n)
		}
	}
	return findings
}

// Score judges the rows of one window, of which tested entities were looked at in all.
func Score(cfg Config, rows []Row, tested uint64) []detect.Finding {
	ps := make([]float64, len(rows))
	for i, r := range rows {
		ps[i] = stat.BinomialTail(r.Failed, r.Targets, cfg.BenignFailureRate)
	}
	threshold := stat.Benjamini(ps, int(min(tested, math.MaxInt32)), cfg.FalseDiscoveryRate)
	var findings []detect.Finding
	for i, r := range rows {
		share := float64(r.Failed) / float64(r.Targets)
		if r.Failed < cfg.MinTargets || share < cfg.MinFailedShare || ps[i] > threshold {
			continue
		}
		findings = append(findings, finding(cfg, r, ps[i]))
	}
	return findings
}

func finding(cfg Config, r Row, p float64) detect.Finding {
	f := detect.Finding{
		Detector: "scan", Kind: PortScan, Entity: detect.Entity{Src: r.Src.String(), Host: r.Agent},
		WindowStart: r.First, WindowEnd: r.Last, Score: stat.Saturate(float64(r.Failed), many),
		PValue: p, Severity: severity(r.Failed),
	}
	metric, unit := "distinct_ports_tried", "ports"
	silent := r.Failed - min(r.Open, r.Failed)
	if r.Dst.IsValid() {
		f.Entity.Dst = r.Dst.String()
		f.Summary = fmt.Sprintf("%s tried %d ports of %s within %s; %d of them gave no useful answer", r.Src, r.Targets, r.Dst, span(r), silent)
	} else {
		f.Kind = HostScan
		metric, unit = "distinct_hosts_tried", "hosts"
		f.Summary = fmt.Sprintf("%s tried %s on %d hosts within %s; %d of them gave no useful answer",
			r.Src, service(r.Proto, r.Port), r.Targets, span(r), silent)
	}
	if answered := r.Targets - silent; answered > 0 {
		f.Summary += fmt.Sprintf(", %d answered", answered)
	}
	f.Summary += "."
	benign := cfg.BenignFailureRate
	expected := benign * float64(r.Targets)
	f.Evidence = []detect.Evidence{
		{ID: "targets", Metric: metric, Value: float64(r.Targets), Unit: unit},
		{ID: "failed", Metric: "targets_failed", Value: float64(silent), Unit: unit, Baseline: &expected},
		{ID: "failed_share", Metric: "failed_share", Value: float64(silent) / float64(r.Targets), Unit: "ratio", Baseline: &benign},
		{ID: "answered", Metric: "targets_answered", Value: float64(r.Targets - silent), Unit: unit},
		{ID: "attempts", Metric: "connections_started", Value: float64(r.Attempts), Unit: "connections"},
		{ID: "duration", Metric: "duration", Value: r.Last.Sub(r.First).Seconds(), Unit: "s"},
	}
	if f.Kind == HostScan {
		f.Evidence = append(f.Evidence, detect.Evidence{ID: "port", Metric: PortMetric, Value: float64(r.Port), Unit: "port"})
	}
	return f
}

// many is the number of failed targets that Zeek takes for a scan.
const many = 15

// severity is low below many, medium from there and high from ten times that.
func severity(failed uint64) detect.Severity {
	switch {
	case failed < many:
		return detect.Low
	case failed < 10*many:
		return detect.Medium
	}
	return detect.High
}

func span(r Row) time.Duration {
	return max(r.Last.Sub(r.First), time.Second).Round(time.Second)
}

func service(proto uint8, port uint16) string {
	switch proto {
	case 1, 58:
		return "ICMP echo"
	case 17:
		return fmt.Sprintf("UDP port %d", port)
	}
	return fmt.Sprintf("TCP port %d", port)
}
