package web

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// chart is the throughput of the last hour as the paths of an SVG of chartWidth
// by chartHeight units, which the page stretches.
type chart struct {
	Area, Line string
	Top        string // what the upper edge stands for
	Half       string
	Now        string // the latest whole minute
	Peak       string
	Times      []string // labels of the time axis, evenly spread
	Bars       []bar    // one a minute, for the pointer
	Marks      []mark
	Empty      bool
}

type bar struct {
	X, Width float64
	Label    string
}

// mark is where an incident began.
type mark struct {
	X               float64
	Severity, Label string
}

const (
	chartWidth  = 600.0
	chartHeight = 100.0
	headRoom    = 0.08 // of the height, above the peak
)

// newChart draws points, one a minute. The last one, whose minute is not over,
// is left out.
func newChart(points []store.ThroughputPoint, incidents []incident.Incident, at time.Time) chart {
	if n := len(points); n > 0 && points[n-1].Minute.Add(time.Minute).After(at) {
		points = points[:n-1]
	}
	c := chart{Empty: true}
	if len(points) < 2 {
		return c
	}
	peak := 0.0
	for _, p := range points {
		peak = max(peak, bits(p))
	}
	c.Empty = peak == 0
	top := niceCeil(peak * (1 + headRoom))
	step := chartWidth / float64(len(points)-1)
	var line strings.Builder
	for i, p := range points {
		x, y := float64(i)*step, chartHeight*(1-bits(p)/top)
		fmt.Fprintf(&line, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], x, y)
		c.Bars = append(c.Bars, bar{X: max(0, x-step/2), Width: step,
			Label: fmt.Sprintf("%s UTC: %s, %s", p.Minute.Format("15:04"), rate(bits(p)), human.Plural(int(min(p.Flows, math.MaxInt32)), "new flow", "new flows"))})
	}
	c.Line = line.String()
	c.Area = c.Line + fmt.Sprintf("L%.1f %.1fL0 %.1fZ", chartWidth, chartHeight, chartHeight)
	c.Top, c.Half, c.Peak, c.Now = rate(top), rate(top/2), rate(peak), rate(bits(points[len(points)-1]))
	first, last := points[0].Minute, points[len(points)-1].Minute
	for i := range 5 {
		c.Times = append(c.Times, first.Add(last.Sub(first)*time.Duration(i)/4).Format("15:04"))
	}
	for _, in := range incidents {
		if in.Started.Before(first) || in.Started.After(last.Add(time.Minute)) {
			continue
		}
		x := min(chartWidth, chartWidth*float64(in.Started.Sub(first))/float64(last.Sub(first)))
		c.Marks = append(c.Marks, mark{x, in.Severity.String(), fmt.Sprintf("%s UTC: %s", in.Started.UTC().Format("15:04:05"), human.Clean(in.Title, 120))})
	}
	return c
}

// bits returns the mean rate of a minute in bits a second.
func bits(p store.ThroughputPoint) float64 { return float64(p.Bytes) * 8 / 60 }

func rate(bitsPerS float64) string {
	return strings.TrimSuffix(human.Value(bitsPerS, human.Bytes), "B") + "bit/s"
}

// niceCeil rounds up to 1, 2, 2.5 or 5 times a power of ten.
func niceCeil(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}
