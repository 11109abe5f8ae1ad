package scan

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/stat"
)

// WideScan is the kind of a scan that is known by an agent's sketches alone: the
// probes found no room in its flow map, so that no record tells of them.
const WideScan = "wide_scan"

// Metrics of what found no room in a flow map.
const (
	SketchMetric = "estimated_targets"
	SpillMetric  = "packets_without_room"
)

// Spill is what one address sent that found no room in an agent's flow map.
type Spill struct {
	Agent       string
	Src         netip.Addr
	Targets     uint64 // distinct (address, protocol, port) of one drain interval, estimated
	Packets     uint64 // without room, of one drain interval
	First, Last time.Time
}

// spilled adds to the findings of the sources of spills how many targets these
// tried in truth, and for the other sources a finding of their own.
func spilled(findings []detect.Finding, spills []Spill) []detect.Finding {
	for _, s := range spills {
		evidence := []detect.Evidence{
			{ID: "sketch", Metric: SketchMetric, Value: float64(s.Targets), Unit: "targets"},
			{ID: "spill", Metric: SpillMetric, Value: float64(s.Packets), Unit: "packets"},
		}
		known := false
		for i := range findings {
			if f := &findings[i]; f.Entity.Src == s.Src.String() {
				known = true
				f.Summary += fmt.Sprintf(" With what found no room in the flow map it tried about %d.", s.Targets)
				f.Evidence = append(f.Evidence, evidence...)
			}
		}
		if !known {
			findings = append(findings, detect.Finding{
				Detector: "scan", Kind: WideScan, Entity: detect.Entity{Src: s.Src.String(), Host: s.Agent}, WindowStart: s.First, WindowEnd: s.Last,
				Score: stat.Saturate(float64(s.Targets), many), PValue: 1, Severity: detect.Medium, Evidence: evidence,
				Summary: fmt.Sprintf("%s tried about %d targets (address, protocol and port) at %s within one drain interval; %d of its packets found no room in the flow map.",
					s.Src, s.Targets, s.Agent, s.Packets),
			})
		}
	}
	return findings
}
