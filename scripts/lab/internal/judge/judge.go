// Package judge compares what was found with what was played, strictly: a
// finding counts only with the right kind, the right hosts and the right time,
// and whatever else was found is unexpected.
package judge

import (
	"net/netip"
	"slices"
	"time"
)

// Finding is a finding as the API tells it.
type Finding struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Entity   Entity    `json:"entity"`
	Start    time.Time `json:"window_start"`
	End      time.Time `json:"window_end"`
	Severity string    `json:"severity"`
	Summary  string    `json:"summary"`
	Incident string    `json:"incident"`
	Evidence []struct {
		Metric   string   `json:"metric"`
		Value    float64  `json:"value"`
		Unit     string   `json:"unit"`
		Baseline *float64 `json:"baseline"`
	} `json:"evidence"`
}

// Entity is what a finding is about.
type Entity struct {
	Src  string `json:"src"`
	Dst  string `json:"dst"`
	Port uint16 `json:"port"`
	Host string `json:"host"`
}

// Played is an attack that was played.
type Played struct {
	Name        string
	Kinds, Also []string // kinds of findings that say it, and those that it causes besides
	Src, Dst    netip.Addr
	Began       time.Time // before its first packet; zero if it has not begun
	Ended       time.Time // zero while it lasts
}

// slack is how far the time of a finding may stick out of the attack on either
// side: a flow map that overflows and a beacon that goes on are dated by windows
// of 10 s, and the clocks of who plays and who watches need not agree.
const slack = 15 * time.Second

// Verdict is the comparison.
type Verdict struct {
	Found      map[string]Finding // by name of the attack: the finding that says it
	Unexpected []Finding
}

// Compare judges findings at the time now.
func Compare(played []Played, findings []Finding, now time.Time) Verdict {
	v := Verdict{Found: make(map[string]Finding)}
	for _, f := range findings {
		expected := false
		for _, p := range played {
			if !p.during(f, now) || !p.between(f) {
				continue
			}
			switch {
			case slices.Contains(p.Kinds, f.Kind):
				expected = true
				if _, ok := v.Found[p.Name]; !ok {
					v.Found[p.Name] = f
				}
			case slices.Contains(p.Also, f.Kind):
				expected = true
			}
		}
		if !expected {
			v.Unexpected = append(v.Unexpected, f)
		}
	}
	return v
}

// during reports whether f covers a part of the attack and not much else.
func (p Played) during(f Finding, now time.Time) bool {
	if p.Began.IsZero() {
		return false
	}
	ended := p.Ended
	if ended.IsZero() {
		ended = now
	}
	return f.End.After(p.Began) && f.Start.Before(ended) &&
		!f.Start.Before(p.Began.Add(-slack)) && !f.End.After(ended.Add(slack))
}

// between reports whether f is about the hosts of the attack: it names at least
// one of them, each on its side, and nobody else.
func (p Played) between(f Finding) bool {
	src, dst := f.Entity.Src, f.Entity.Dst
	return (src != "" || dst != "") && (src == "" || same(src, p.Src)) && (dst == "" || same(dst, p.Dst))
}

func same(text string, addr netip.Addr) bool {
	parsed, err := netip.ParseAddr(text)
	return err == nil && parsed.Unmap() == addr.Unmap()
}
