package judge

import (
	"net/netip"
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	// Time is in seconds: the scan lasts from 160 to 170.
	scan := Played{
		Name: "scan", Kinds: []string{"port_scan"}, Also: []string{"volume"},
		Src: netip.MustParseAddr("10.99.0.30"), Dst: netip.MustParseAddr("10.99.0.10"), Began: at(160), Ended: at(170),
	}
	good := Finding{Kind: "port_scan", Entity: Entity{Src: "10.99.0.30", Dst: "10.99.0.10", Host: "h"}, Start: at(160), End: at(170)}
	edit := func(change func(*Finding)) Finding { f := good; change(&f); return f }
	for _, tt := range []struct {
		name       string
		played     Played
		finding    Finding
		found      int
		unexpected int
	}{
		{"right kind, hosts and time", scan, good, 1, 0},
		{"only the target is named", scan, edit(func(f *Finding) { f.Entity.Src = "" }), 1, 0},
		{"mapped form of an address", scan, edit(func(f *Finding) { f.Entity.Src = "::ffff:10.99.0.30" }), 1, 0},
		{"a window wider than the attack", scan, edit(func(f *Finding) { f.Start, f.End = at(146), at(184) }), 1, 0},
		{"a side effect is expected but does not say it", scan, edit(func(f *Finding) { f.Kind = "volume" }), 0, 0},
		{"another kind", scan, edit(func(f *Finding) { f.Kind = "beacon" }), 0, 1},
		{"another source", scan, edit(func(f *Finding) { f.Entity.Src = "10.99.0.20" }), 0, 1},
		{"another target", scan, edit(func(f *Finding) { f.Entity.Dst = "10.99.0.20" }), 0, 1},
		{"source and target exchanged", scan, edit(func(f *Finding) { f.Entity.Src, f.Entity.Dst = f.Entity.Dst, f.Entity.Src }), 0, 1},
		{"no host at all", scan, edit(func(f *Finding) { f.Entity = Entity{Host: "h"} }), 0, 1},
		{"an address that is none", scan, edit(func(f *Finding) { f.Entity.Src = "nobody" }), 0, 1},
		{"before the attack", scan, edit(func(f *Finding) { f.Start, f.End = at(140), at(159) }), 0, 1},
		{"after the attack", scan, edit(func(f *Finding) { f.Start, f.End = at(171), at(180) }), 0, 1},
		{"long before the attack", scan, edit(func(f *Finding) { f.Start = at(144) }), 0, 1},
		{"long after the attack", scan, edit(func(f *Finding) { f.End = at(186) }), 0, 1},
		{"an attack that has not begun", func() Played { p := scan; p.Began = time.Time{}; return p }(), good, 0, 1},
		{"an attack that lasts", func() Played { p := scan; p.Ended = time.Time{}; return p }(), edit(func(f *Finding) { f.End = at(300) }), 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Compare([]Played{tt.played}, []Finding{tt.finding}, at(320))
			if len(v.Found) != tt.found || len(v.Unexpected) != tt.unexpected {
				t.Errorf("found %d, unexpected %d; want %d and %d", len(v.Found), len(v.Unexpected), tt.found, tt.unexpected)
			}
		})
	}
}
