// Package warn makes early warnings of what the datapath counts beside the
// flows: features of attach points each second, and the sources that try many
// targets or whose packets found no room in the flow map.
package warn

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

const (
	// minTargets is how many targets make a source worth telling of.
	minTargets = 16
	// maxWarned is how many sources a warning names.
	maxWarned = 32
	// maxOverflowed is how many sources with overflow the account of a drain
	// names. The others are told as one, so that the sum is right.
	maxOverflowed = 1000
	// maxScanners is how many sources without overflow it names.
	maxScanners = ebbwatch.MaxSources - maxOverflowed - 1
)

// Config says how often warnings are made.
type Config struct {
	// Interval is the time from one early warning to the next, 0 for none. A
	// shorter one shows floods and scans sooner; each costs a message of some
	// hundred bytes. Seconds without a packet cost none.
	Interval time.Duration `yaml:"interval"`
}

// Limits of Config.
const minInterval, maxInterval = 100 * time.Millisecond, time.Minute

// DefaultConfig returns one warning each second.
func DefaultConfig() Config { return Config{Interval: time.Second} }

// Validate reports a value that is out of range, by its yaml key.
func (c *Config) Validate() error {
	if c.Interval != 0 && (c.Interval < minInterval || c.Interval > maxInterval) {
		return fmt.Errorf("interval: %v is neither 0s nor within %v to %v", c.Interval, minInterval, maxInterval)
	}
	return nil
}

// Datapath is what counts: a *flowbpf.Datapath.
type Datapath interface {
	Glances(visit func(*flowbpf.Glance)) error
	Sources(visit func(*flowbpf.Source)) error
	DrainedSources() []flowbpf.Source
}

// Watch fills early warnings into batches. Make it with New. It is for one goroutine.
type Watch struct {
	datapath Datapath
	names    Names
	log      *slog.Logger
	metrics  *metrics
	sources  []flowbpf.Source // memory for the next warning
}

// Names names attach points: a *probe.Probe.
type Names interface {
	Name(flowbpf.Place) string
	NetNS(flowbpf.Place) string
}

// New returns a Watch that registers its metrics with reg.
func New(datapath Datapath, names Names, reg prometheus.Registerer, log *slog.Logger) *Watch {
	return &Watch{datapath: datapath, names: names, log: log, metrics: newMetrics(reg)}
}

// Warn adds to b what the attach points saw since the call before, and the most
// remarkable sources of the drain interval so far. since is the time since that
// call, lasted that since the interval began. It returns false, and leaves b
// empty, if no packet passed. What cannot be read is logged and counted.
func (w *Watch) Warn(b *ebbwatch.Batch, since, lasted time.Duration) bool {
	err := w.datapath.Glances(func(g *flowbpf.Glance) {
		if g.Place.Ifindex == 0 || len(b.Features) >= ebbwatch.MaxFeatures {
			return // the kernel's test runs
		}
		b.Features = append(b.Features, feature(g, w.names.Name(g.Place), w.names.NetNS(g.Place), since))
	})
	if err != nil {
		w.fail("features", err)
	}
	if len(b.Features) == 0 {
		return false
	}
	w.sources = w.sources[:0]
	err = w.datapath.Sources(func(s *flowbpf.Source) {
		if s.Targets >= minTargets || s.Overflow.Packets > 0 {
			w.sources = append(w.sources, *s)
		}
	})
	if err != nil {
		w.fail("sources", err)
	}
	slices.SortFunc(w.sources, byTargets)
	appendSources(b, w.sources[:min(len(w.sources), maxWarned)], lasted)
	w.metrics.warnings.Inc()
	return true
}

// Account adds the sources of a drain interval to the first batch of its drain:
// their overflow adds up to that of its attach points. lasted is the length of
// the interval.
func (w *Watch) Account(b *ebbwatch.Batch, lasted time.Duration) {
	all := w.datapath.DrainedSources()
	w.metrics.sources.Set(float64(len(all)))
	var overflowed, scanners []flowbpf.Source
	for i := range all {
		s := &all[i]
		if !s.Addr.IsValid() {
			w.metrics.crowded.Add(float64(s.Flows))
		}
		switch {
		case s.Overflow.Packets > 0, !s.Addr.IsValid() && s.Targets >= minTargets:
			overflowed = append(overflowed, *s)
		case s.Targets >= minTargets:
			scanners = append(scanners, *s)
		}
	}
	slices.SortFunc(overflowed, byOverflow)
	slices.SortFunc(scanners, byTargets)
	appendSources(b, w.merge(overflowed), lasted)
	appendSources(b, scanners[:min(len(scanners), maxScanners)], lasted)
}

// merge adds up those that one batch cannot name, with those that the datapath
// could not: their pairs of source and target are distinct, so that the numbers
// of targets can be added too.
func (w *Watch) merge(overflowed []flowbpf.Source) []flowbpf.Source {
	if len(overflowed) <= maxOverflowed {
		return overflowed
	}
	var rest flowbpf.Source
	named := overflowed[:0]
	for _, s := range overflowed {
		if s.Addr.IsValid() && len(named) < maxOverflowed {
			named = append(named, s)
			continue
		}
		if s.Addr.IsValid() {
			w.metrics.merged.Inc()
		}
		rest.Flows += s.Flows
		rest.Targets += s.Targets
		rest.Overflow.Add(s.Overflow)
	}
	return append(named, rest)
}

func (w *Watch) fail(what string, err error) {
	w.metrics.errors.Inc()
	w.log.Error("early warning is incomplete", "part", what, "error", err)
}

func byTargets(a, b flowbpf.Source) int {
	return cmp.Or(cmp.Compare(b.Targets, a.Targets), byOverflow(a, b))
}

// byOverflow settles every order: the address is unique.
func byOverflow(a, b flowbpf.Source) int {
	return cmp.Or(cmp.Compare(b.Overflow.Packets, a.Overflow.Packets), cmp.Compare(b.Overflow.Bytes, a.Overflow.Bytes),
		cmp.Compare(b.Flows, a.Flows), a.Addr.Compare(b.Addr))
}

func appendSources(b *ebbwatch.Batch, sources []flowbpf.Source, lasted time.Duration) {
	for i := range sources {
		s := &sources[i]
		b.Sources = append(b.Sources, ebbwatch.Source{
			Addr: s.Addr, IntervalMS: milliseconds(lasted), Flows: s.Flows, Targets: s.Targets, Overflow: ebbwatch.Counter(s.Overflow),
		})
	}
}

func feature(g *flowbpf.Glance, name, netns string, since time.Duration) ebbwatch.Feature {
	return ebbwatch.Feature{
		Interface: name, NetNS: netns, Egress: g.Direction == flowbpf.Egress, IntervalMS: milliseconds(since),
		Seen: ebbwatch.Counter(g.Seen), SYN: g.SYN, SYNACK: g.SYNACK, FIN: g.FIN, RST: g.RST, NewFlows: g.NewFlows, Overflow: g.Overflow,
		Sizes: filled(g.Sizes[:]), Gaps: filled(g.Gaps[:]),
	}
}

// filled is a copy of the histogram without the empty buckets at its end.
func filled(buckets []uint64) []uint64 {
	n := len(buckets)
	for n > 0 && buckets[n-1] == 0 {
		n--
	}
	return slices.Clone(buckets[:n])
}

func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), math.MaxUint32))
}
