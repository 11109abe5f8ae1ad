package beacon

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// row calls n times; gap tells the seconds to the next call.
func row(src, dst string, n int, gap func(i int) float64) Row {
	r := Row{Agent: "a", Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Port: 443, Proto: 6, Bytes: 1000}
	now := at
	for i := range n {
		r.Starts = append(r.Starts, now)
		now = now.Add(time.Duration(gap(i) * float64(time.Second)))
	}
	return r
}

func score(cfg Config, rows ...Row) []detect.Finding {
	return Findings(cfg, detect.Window{Start: at, End: at.Add(cfg.Window)}, Candidates(cfg, rows), nil)
}

func TestFindings(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	jitter := func(mean, share float64) func(int) float64 {
		return func(int) float64 { return mean * (1 + share*(2*dice.Float64()-1)) }
	}
	for _, test := range []struct {
		name  string
		cfg   Config
		row   Row
		found bool
	}{
		{"a clock of 5 s within a minute", FastConfig(), row("10.0.0.1", "192.0.2.1", 12, jitter(5, 0)), true},
		{"with a tenth of jitter", FastConfig(), row("10.0.0.1", "192.0.2.1", 20, jitter(5, 0.1)), true},
		{"with a third of jitter over five minutes", FastConfig(), row("10.0.0.1", "192.0.2.1", 60, jitter(5, 0.33)), true},
		{"too few calls", FastConfig(), row("10.0.0.1", "192.0.2.1", 9, jitter(5, 0)), false},
		{"too short a time", FastConfig(), row("10.0.0.1", "192.0.2.1", 12, jitter(3, 0)), false},
		{"faster than the least interval", FastConfig(), row("10.0.0.1", "192.0.2.1", 100, jitter(1, 0)), false},
		{"every tenth call is missed", FastConfig(), row("10.0.0.1", "192.0.2.1", 50, func(i int) float64 { return []float64{5, 10}[boolInt(i%10 == 9)] }), true},
		{"two connections at each call", FastConfig(), row("10.0.0.1", "192.0.2.1", 40, func(i int) float64 { return []float64{0.05, 4.95}[i%2] }), true},
		{"chance", FastConfig(), row("10.0.0.1", "192.0.2.1", 50, func(int) float64 { return 5 * dice.ExpFloat64() }), false},
		{"bursts of pages", FastConfig(), row("10.0.0.1", "192.0.2.1", 60, func(i int) float64 { return []float64{0.6, 0.9, 40}[min(2, i%9/4)] }), false},
		{"a call every ten minutes of a day", SlowConfig(), row("10.0.0.1", "192.0.2.1", 140, jitter(600, 0.3)), true},
		{"a call every minute is slow work", SlowConfig(), row("10.0.0.1", "192.0.2.1", 200, jitter(60, 0.1)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := score(test.cfg, test.row)
			if (len(findings) == 1) != test.found {
				t.Errorf("%+v; measured %+v", findings, measure(test.cfg, &test.row))
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestPopularServicesAndMonitorsAreLeftOut(t *testing.T) {
	clock := func(int) float64 { return 5 }
	var service, monitor, few []Row
	for i := range 6 {
		service = append(service, row(fmt.Sprintf("10.0.0.%d", i+1), "192.0.2.1", 20, clock))
		monitor = append(monitor, row("10.0.0.1", fmt.Sprintf("192.0.2.%d", i+1), 20, clock))
	}
	few = monitor[:4]
	for _, test := range []struct {
		name string
		rows []Row
		want int
	}{{"six clients of one service", service, 0}, {"six servers of one client", monitor, 0}, {"four servers of one client", few, 4}} {
		if got := len(score(FastConfig(), test.rows...)); got != test.want {
			t.Errorf("%s: %d findings, want %d", test.name, got, test.want)
		}
	}
	// Siblings that have called only half as often as is needed count already.
	early := append(slices.Clone(monitor[:1]), row("10.0.0.1", "192.0.2.2", 6, clock), row("10.0.0.1", "192.0.2.3", 6, clock),
		row("10.0.0.1", "192.0.2.4", 6, clock), row("10.0.0.1", "192.0.2.5", 6, clock))
	if got := len(score(FastConfig(), early...)); got != 0 {
		t.Errorf("the first of many siblings: %d findings, want 0", got)
	}
}

// The null model must hold: of Poisson processes no more than the rate may be
// discovered, and the constants must be theirs.
func TestChanceIsNotDiscovered(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	cfg := FastConfig()
	cfg.MaxDispersion, cfg.MaxPeers = 0.69, 1_000_000 // leave all to the p-value
	discoveries, inBand, intervals := 0, 0, 0
	const rounds, pairs = 40, 100
	for range rounds {
		var rows []Row
		for i := range pairs {
			rows = append(rows, row("10.0.0.1", fmt.Sprintf("192.0.%d.%d", i/250, i%250+1), 60, func(int) float64 { return 6 * dice.ExpFloat64() }))
		}
		for i := range rows {
			m := measure(cfg, &rows[i])
			inBand, intervals = inBand+m.inBand, intervals+m.n
		}
		if len(score(cfg, rows...)) > 0 {
			discoveries++
		}
	}
	if discoveries > 2 {
		t.Errorf("%d of %d rounds of chance gave a discovery at a rate of %v", discoveries, rounds, cfg.FalseDiscoveryRate)
	}
	// The median is that of the same intervals, which puts some more of them near it.
	if share := float64(inBand) / float64(intervals); math.Abs(share-chanceInBand) > 0.02 {
		t.Errorf("share of intervals within half the median is %v, want %v", share, chanceInBand)
	}
}

func TestTheDispersionOfChance(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	cfg := FastConfig()
	cfg.Collapse = 0
	r := row("10.0.0.1", "192.0.2.1", 200_000, func(int) float64 { return 6 * dice.ExpFloat64() })
	if m := measure(cfg, &r); math.Abs(m.dispersion-chanceDispersion) > 0.01 {
		t.Errorf("dispersion is %v, want %v", m.dispersion, chanceDispersion)
	}
}

func TestAPublicServiceIsLeftOut(t *testing.T) {
	cfg := FastConfig()
	candidates := Candidates(cfg, []Row{row("10.0.0.1", "192.0.2.1", 20, func(int) float64 { return 7 })})
	if len(candidates) != 1 {
		t.Fatalf("candidates: %+v", candidates)
	}
	window := detect.Window{Start: at, End: at.Add(5 * time.Minute)}
	for clients, want := range map[uint64]int{1: 1, 9: 1, 10: 0} {
		got := Findings(cfg, window, candidates, map[Service]uint64{{netip.MustParseAddr("192.0.2.1"), 443, 6}: clients})
		if len(got) != want {
			t.Errorf("%d clients: %d findings, want %d", clients, len(got), want)
		}
	}
}

func TestABeaconGoesOnUntilACallIsOverdue(t *testing.T) {
	clock := row("10.0.0.1", "192.0.2.1", 20, func(int) float64 { return 5 })
	last := clock.Starts[19]
	for after, end := range map[time.Duration]time.Time{8 * time.Second: last.Add(8 * time.Second), time.Minute: last} {
		f := Findings(FastConfig(), detect.Window{Start: at, End: last.Add(after)}, Candidates(FastConfig(), []Row{clock}), nil)
		if len(f) != 1 || !f[0].WindowEnd.Equal(end) {
			t.Errorf("%v after the last call: %+v, want it to end at %v", after, f, end)
		}
	}
}
