package volume

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

var window = detect.Window{Start: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), End: time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC)}

// past is an hour of minutes around usual.
func past(usual float64) []float64 {
	minutes := make([]float64, 60)
	for i := range minutes {
		minutes[i] = usual * (0.9 + 0.2*float64(i%7)/6)
	}
	return minutes
}

func target(started, halfOpen uint64, minutes []float64) Target {
	return Target{Agent: "a", Dst: netip.MustParseAddr("10.0.0.1"), Port: 80, Started: started, HalfOpen: halfOpen, Sources: 1,
		TopSource: netip.MustParseAddr("10.0.0.9"), First: window.Start, Last: window.End, Past: minutes}
}

func TestScoreTargets(t *testing.T) {
	for _, test := range []struct {
		name string
		row  Target
		want detect.Severity // 0 for no finding
	}{
		{"a flood without a past", target(1000, 1000, nil), detect.High},
		{"a flood twenty times above the floor", target(10_000, 10_000, nil), detect.Critical},
		{"just below the floor", target(499, 499, nil), 0},
		{"a flood of a quiet port", target(1000, 1000, past(0)), detect.High},
		{"a flood of a port that is usually as busy", target(1000, 1000, past(6000)), 0},
		{"three times the usual is not enough", target(1000, 1000, past(2000)), 0},
		{"five times the usual is", target(1000, 1000, past(1200)), detect.High},
		{"a crowd with some half-open connections", target(10_000, 6000, past(0)), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := ScoreTargets(DefaultConfig(), window, []Target{test.row}, 50)
			if (len(findings) == 1) != (test.want != 0) {
				t.Fatalf("%d findings: %+v", len(findings), findings)
			}
			if len(findings) == 1 && (findings[0].Severity != test.want || findings[0].Kind != SYNFlood) {
				t.Errorf("%+v", findings[0])
			}
		})
	}
}

func TestScoreOneWay(t *testing.T) {
	row := func(packets, bytes uint64, minutes, minuteBytes []float64) OneWay {
		return OneWay{Agent: "a", Dst: netip.MustParseAddr("10.0.0.1"), Proto: 17, Port: 53, Packets: packets, Bytes: bytes, Sources: 300,
			First: window.Start, Last: window.End, Past: minutes, PastBytes: minuteBytes}
	}
	for _, test := range []struct {
		name  string
		row   OneWay
		found bool
	}{
		{"many small packets", row(100_000, 6_000_000, nil, nil), true},
		{"few large packets", row(10_000, 150_000_000, nil, nil), true},
		{"less than both floors", row(49_000, 99_000_000, nil, nil), false},
		{"a receiver of syslog that always gets as much", row(100_000, 6_000_000, past(600_000), past(36_000_000)), false},
		{"the same receiver under ten times as much", row(1_000_000, 60_000_000, past(600_000), past(36_000_000)), true},
	} {
		if findings := ScoreOneWay(DefaultConfig(), window, []OneWay{test.row}, 50); (len(findings) == 1) != test.found {
			t.Errorf("%s: %+v", test.name, findings)
		}
	}
}

func TestOverflowIsFoundWhereNothingElseExplainsIt(t *testing.T) {
	cfg := DefaultConfig()
	flood := ScoreTargets(cfg, window, []Target{target(1000, 1000, nil)}, 1)
	overflow := []Overflow{{Agent: "a", Packets: 1_000_000, Bytes: 60_000_000, Seen: 1_200_000}}
	with := ScoreOverflow(cfg, window, overflow, flood)
	if len(with) != 1 || with[0].Kind != SYNFlood || with[0].Evidence[len(with[0].Evidence)-1].Metric != "overflow_packets_per_second" {
		t.Errorf("overflow beside a flood of the same agent must be its evidence: %+v", with)
	}
	alone := ScoreOverflow(cfg, window, overflow, nil)
	if len(alone) != 1 || alone[0].Kind != Volume || alone[0].Entity != (detect.Entity{Host: "a"}) || alone[0].Evidence[0].Value != 100_000 {
		t.Errorf("overflow alone: %+v", alone)
	}
	overflow[0].Packets = 99_000
	if below := ScoreOverflow(cfg, window, overflow, nil); len(below) != 0 {
		t.Errorf("overflow below the floor: %+v", below)
	}
}
