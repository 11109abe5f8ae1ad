package volume

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect/stat"
)

// ScoreTargets judges the ports of one window. It changes the pasts of rows.
func ScoreTargets(cfg Config, w detect.Window, rows []Target, tested uint64) []detect.Finding {
	js := make([]judged, len(rows))
	for i, r := range rows {
		js[i] = judge(cfg, float64(r.HalfOpen)/w.Seconds()*60, r.Past)
	}
	var findings []detect.Finding
	found := discoveries(cfg, js, tested)
	for i, r := range rows {
		rate, share := float64(r.HalfOpen)/w.Seconds(), float64(r.HalfOpen)/float64(max(r.Started, 1))
		if !found[i] || rate < cfg.MinHalfOpen || share < cfg.MinHalfShare {
			continue
		}
		findings = append(findings, detect.Finding{
			Detector: "volume", Kind: SYNFlood,
			Entity:      detect.Entity{Dst: r.Dst.String(), Port: r.Port, Host: r.Agent},
			WindowStart: r.First, WindowEnd: r.Last,
			Score: stat.Saturate(rate, cfg.MinHalfOpen), PValue: js[i].p, Severity: severity(rate, cfg.MinHalfOpen),
			Summary: fmt.Sprintf("%s port %d received %.0f TCP connection attempts a second that were never completed, %s; %.0f %% of all attempts.",
				r.Dst, r.Port, rate, from(r.Sources, r.TopSource, float64(r.FromTop)/float64(r.HalfOpen)), 100*share),
			Evidence: []detect.Evidence{
				{ID: "half_open_rate", Metric: "half_open_connections_per_second", Value: rate, Unit: "connections/s", Baseline: js[i].baseline()},
				{ID: "half_open", Metric: "half_open_connections", Value: float64(r.HalfOpen), Unit: "connections"},
				{ID: "started", Metric: "connections_started", Value: float64(r.Started), Unit: "connections"},
				{ID: "half_open_share", Metric: "half_open_share", Value: share, Unit: "ratio"},
				{ID: "sources", Metric: "distinct_sources", Value: float64(r.Sources), Unit: "hosts"},
			},
		})
	}
	return findings
}

// ScoreOneWay judges the receivers of one window. It changes the pasts of rows.
func ScoreOneWay(cfg Config, w detect.Window, rows []OneWay, tested uint64) []detect.Finding {
	packets, bytes := make([]judged, len(rows)), make([]judged, len(rows))
	for i, r := range rows {
		packets[i] = judge(cfg, float64(r.Packets)/w.Seconds()*60, r.Past)
		bytes[i] = judge(cfg, float64(r.Bytes)/w.Seconds()*60, r.PastBytes)
	}
	morePackets, moreBytes := discoveries(cfg, packets, tested), discoveries(cfg, bytes, tested)
	var findings []detect.Finding
	for i, r := range rows {
		pps, bps := float64(r.Packets)/w.Seconds(), float64(r.Bytes)/w.Seconds()
		byPackets, byBytes := morePackets[i] && pps >= cfg.MinPackets, moreBytes[i] && bps >= cfg.MinBytes
		if !byPackets && !byBytes {
			continue
		}
		times := max(pps/cfg.MinPackets, bps/cfg.MinBytes)
		findings = append(findings, detect.Finding{
			Detector: "volume", Kind: Volume, Entity: detect.Entity{Dst: r.Dst.String(), Host: r.Agent},
			WindowStart: r.First, WindowEnd: r.Last,
			Score: stat.Saturate(times, 1), PValue: min(packets[i].p, bytes[i].p), Severity: severity(times, 1),
			Summary: fmt.Sprintf("%s received %.0f packets and %.1f MB a second that it did not answer, mostly %s, %s.",
				r.Dst, pps, bps/1e6, protocol(r.Proto, r.Port), from(r.Sources, r.TopSource, float64(r.FromTop)/float64(max(r.Packets, 1)))),
			Evidence: []detect.Evidence{
				{ID: "packet_rate", Metric: "one_way_packets_per_second", Value: pps, Unit: "packets/s", Baseline: packets[i].baseline()},
				{ID: "byte_rate", Metric: "one_way_bytes_per_second", Value: bps, Unit: "bytes/s", Baseline: bytes[i].baseline()},
				{ID: "sources", Metric: "one_way_sources", Value: float64(r.Sources), Unit: "hosts"},
			},
		})
	}
	return findings
}

// ScoreOverflow adds to findings what the agents could not record: as evidence
// of the findings of the same agent, or as a finding of its own about the agent
// if there is none.
func ScoreOverflow(cfg Config, w detect.Window, rows []Overflow, findings []detect.Finding) []detect.Finding {
	explained := make(map[string]bool)
	for i := range findings {
		for _, o := range rows {
			if o.Agent == findings[i].Entity.Host && o.Packets > 0 {
				explained[o.Agent] = true
				findings[i].Evidence = append(findings[i].Evidence, overflowEvidence(w, o))
			}
		}
	}
	for _, o := range rows {
		rate := float64(o.Packets) / w.Seconds()
		if explained[o.Agent] || rate < cfg.MinOverflow {
			continue
		}
		findings = append(findings, detect.Finding{
			Detector: "volume", Kind: Volume, Entity: detect.Entity{Host: o.Agent}, WindowStart: w.Start, WindowEnd: w.End,
			Score: stat.Saturate(rate, cfg.MinOverflow), PValue: 1, Severity: severity(rate, cfg.MinOverflow),
			Summary: fmt.Sprintf("%.0f packets a second found no room in the flow map of %s: more conversations at one time than it can hold.",
				rate, o.Agent),
			Evidence: []detect.Evidence{
				overflowEvidence(w, o),
				{ID: "seen_rate", Metric: "seen_packets_per_second", Value: float64(o.Seen) / w.Seconds(), Unit: "packets/s"},
			},
		})
	}
	return findings
}

func overflowEvidence(w detect.Window, o Overflow) detect.Evidence {
	return detect.Evidence{ID: "overflow_rate", Metric: "overflow_packets_per_second", Value: float64(o.Packets) / w.Seconds(), Unit: "packets/s"}
}

// severity is high from the floor and critical from twenty times that.
func severity(rate, floor float64) detect.Severity {
	if rate >= 20*floor {
		return detect.Critical
	}
	return detect.High
}

// nearlyAll is the share from which on one source stands for all of them.
const nearlyAll = 0.9

// from names the sources; share is how much of it came from top.
func from(sources uint64, top netip.Addr, share float64) string {
	switch {
	case !top.IsValid():
	case sources <= 1:
		return "from " + top.String()
	case share >= nearlyAll:
		return "mostly from " + top.String()
	}
	return fmt.Sprintf("from about %d sources", sources)
}

func protocol(proto uint8, port uint16) string {
	switch proto {
	case 1:
		return "ICMP"
	case 17:
		return "UDP to port " + strconv.Itoa(int(port))
	case 58:
		return "ICMPv6"
	}
	return "IP protocol " + strconv.Itoa(int(proto))
}
