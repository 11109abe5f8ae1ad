package incident_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

var start = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

func minute(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Minute))) }

// found is a finding that covers [from, to] minutes.
func found(kind, src, dst string, from, to float64) detect.Finding {
	return detect.Finding{
		Detector: "test", Kind: kind, Entity: detect.Entity{Src: src, Dst: dst, Host: "agent"},
		WindowStart: minute(from), WindowEnd: minute(to), Score: 0.5, PValue: 0.01, Severity: detect.Medium, Summary: kind,
	}
}

func window(from, to float64) detect.Window {
	return detect.Window{Start: minute(from), End: minute(to)}
}

func windowOf(f detect.Finding) detect.Window {
	return detect.Window{Start: f.WindowStart, End: f.WindowEnd}
}

// all returns every incident that m has, stored or not, by what it still holds.
func all(m *incident.Manager) []incident.Incident {
	m.Flush()
	var incidents []incident.Incident
	for _, c := range m.Pending() {
		incidents = append(incidents, c.Incident)
	}
	return incidents
}

func TestFindingsBecomeIncidents(t *testing.T) {
	type group struct {
		kinds    []string
		findings int
	}
	tests := []struct {
		name     string
		findings []detect.Finding
		want     []group
	}{
		{"one attack in many windows is one finding", []detect.Finding{
			found("port_scan", "a", "b", 0, 1), found("port_scan", "a", "b", 0.1, 1.1), found("port_scan", "a", "b", 5, 6),
		}, []group{{[]string{"port_scan"}, 1}}},
		{"the same attack after a long pause is another finding of another incident", []detect.Finding{
			found("port_scan", "a", "b", 0, 1), found("port_scan", "a", "b", 30, 31),
		}, []group{{[]string{"port_scan"}, 1}, {[]string{"port_scan"}, 1}}},
		{"a pause above the episode gap and below the merge gap gives two findings of one incident", []detect.Finding{
			found("port_scan", "a", "b", 0, 1), found("port_scan", "a", "b", 8, 9),
		}, []group{{[]string{"port_scan"}, 2}}},
		{"findings that share an address are one incident", []detect.Finding{
			found("port_scan", "a", "b", 0, 1), found("syn_flood", "", "b", 2, 3), found("exfiltration", "b", "c", 4, 5),
		}, []group{{[]string{"exfiltration", "port_scan", "syn_flood"}, 3}}},
		{"findings that share nothing are two", []detect.Finding{
			found("port_scan", "a", "b", 0, 1), found("port_scan", "c", "d", 0, 1),
		}, []group{{[]string{"port_scan"}, 1}, {[]string{"port_scan"}, 1}}},
		{"a window that ends earlier arrives late and still belongs", []detect.Finding{
			found("beacon", "a", "b", 5, 6), found("port_scan", "a", "b", 0, 1),
		}, []group{{[]string{"beacon", "port_scan"}, 2}}},
		{"findings about an agent alone share the agent", []detect.Finding{
			found("volume", "", "", 0, 1), found("overflow", "", "", 1, 2),
		}, []group{{[]string{"overflow", "volume"}, 2}}},
		{"an incident that has lasted too long takes no new findings", []detect.Finding{
			found("beacon", "a", "b", 0, 719), found("port_scan", "a", "b", 719, 722),
		}, []group{{[]string{"beacon"}, 1}, {[]string{"port_scan"}, 1}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := incident.New(incident.DefaultConfig())
			for _, f := range test.findings {
				m.Observe([]detect.Finding{f}, windowOf(f))
			}
			var got []group
			for _, i := range all(m) {
				got = append(got, group{i.Kinds, i.Findings})
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(group{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnEpisodeKeepsItsIDAndTheBestEvidence(t *testing.T) {
	m := incident.New(incident.DefaultConfig())
	weak, strong, late := found("syn_flood", "", "b", 0, 1), found("syn_flood", "", "b", 1, 2), found("syn_flood", "", "b", 2, 3)
	strong.Score, strong.Severity, strong.PValue, strong.Summary = 0.9, detect.Critical, 1e-9, "peak"
	late.Score, late.Summary, late.Entity.Host = 0.6, "tail", "other"
	for _, f := range []detect.Finding{weak, strong, late} {
		m.Observe([]detect.Finding{f}, windowOf(f))
	}
	changes := m.Pending()
	if len(changes) != 1 || len(changes[0].Findings) != 1 {
		t.Fatalf("changes: %+v", changes)
	}
	want := strong
	want.ID, want.Incident = detect.FindingID("syn_flood", weak.Entity, weak.WindowStart), changes[0].Incident.ID
	want.WindowStart, want.WindowEnd, want.Entity.Host = weak.WindowStart, late.WindowEnd, ""
	if diff := cmp.Diff(want, changes[0].Findings[0]); diff != "" {
		t.Error(diff)
	}
	if got := changes[0].Incident; got.Severity != detect.Critical || !got.Started.Equal(minute(0)) || !got.Ended.Equal(minute(3)) || got.Title != "SYN flood around b" {
		t.Errorf("incident: %+v", got)
	}
}

func TestOnlyNewsIsPending(t *testing.T) {
	m := incident.New(incident.DefaultConfig())
	observe := func(f detect.Finding) { m.Observe([]detect.Finding{f}, windowOf(f)) }
	steps := []struct {
		name             string
		do               func()
		pending, notable bool
		updated          int
	}{
		{"a new incident is news", func() { observe(found("beacon", "a", "b", 0, 1)) }, true, true, 1},
		{"five seconds more of the same are not stored", func() { observe(found("beacon", "a", "b", 0, 1.1)) }, false, false, 0},
		{"half a minute more is stored but no news", func() { observe(found("beacon", "a", "b", 0, 1.7)) }, true, false, 1},
		{"higher severity is news", func() {
			f := found("beacon", "a", "b", 1, 1.8)
			f.Severity = detect.High
			observe(f)
		}, true, true, 1},
		{"a new kind is news", func() { observe(found("exfiltration", "a", "c", 2, 2.5)) }, true, true, 1},
		{"another finding of the same kind is stored", func() { observe(found("exfiltration", "a", "d", 2, 2.5)) }, true, false, 1},
		{"time alone changes nothing", func() { m.Advance(minute(5)) }, false, false, 0},
		{"a quiet incident is closed, which is news", func() { m.Advance(minute(13)) }, true, true, 0},
		{"and is forgotten", func() { m.Advance(minute(14)) }, false, false, 0},
	}
	for _, step := range steps {
		step.do()
		changes := m.Pending()
		if (len(changes) == 1) != step.pending {
			t.Fatalf("%s: %d changes", step.name, len(changes))
		}
		if step.pending && (changes[0].Notable != step.notable || len(changes[0].Updated) != step.updated) {
			t.Errorf("%s: notable %v, %d updated; want %v, %d", step.name, changes[0].Notable, len(changes[0].Updated), step.notable, step.updated)
		}
		if again := m.Pending(); len(again) != len(changes) {
			t.Errorf("%s: what is not stored must stay pending", step.name)
		}
		m.Stored(changes)
	}
	if incidents, findings := m.Counts(); incidents != 0 || findings != 0 {
		t.Errorf("%d incidents and %d findings are left", incidents, findings)
	}
}

// A crash after any step, followed by Restore of what was stored and the same
// windows again, must end in the same incidents.
func TestRestoreNeitherLosesNorDoubles(t *testing.T) {
	var windows [][]detect.Finding
	for i := range 30 {
		from := float64(i)
		windows = append(windows, []detect.Finding{
			found("port_scan", "a", "b", from, from+1), found("beacon", "b", fmt.Sprint("c", i%3), from-0.5, from+1),
		})
	}
	run := func(crashAfter int) (incidents map[string]incident.Incident, findings map[string]detect.Finding) {
		incidents, findings = make(map[string]incident.Incident), make(map[string]detect.Finding)
		m := incident.New(incident.DefaultConfig())
		keep := func() {
			changes := m.Pending()
			for _, c := range changes {
				incidents[c.Incident.ID] = c.Incident
				for _, f := range c.Updated {
					findings[f.ID] = f
				}
			}
			m.Stored(changes)
		}
		for i := 0; i < len(windows); i++ {
			end := minute(float64(i) + 1)
			m.Observe(windows[i], window(float64(i), float64(i)+1))
			m.Advance(end)
			keep()
			if i == crashAfter {
				crashAfter = -1
				m = incident.New(incident.DefaultConfig())
				var is []incident.Incident
				var fs []detect.Finding
				for _, v := range incidents {
					is = append(is, v)
				}
				for _, v := range findings {
					fs = append(fs, v)
				}
				m.Restore(is, fs)
				i-- // the mark was not written
			}
		}
		m.Flush()
		keep()
		return incidents, findings
	}
	wantIncidents, wantFindings := run(-1)
	if len(wantFindings) != 4 || len(wantIncidents) != 1 {
		t.Fatalf("without a crash: %d findings, %d incidents", len(wantFindings), len(wantIncidents))
	}
	for crash := range windows {
		incidents, findings := run(crash)
		if diff := cmp.Diff(wantFindings, findings) + cmp.Diff(wantIncidents, incidents, cmpopts.IgnoreFields(incident.Incident{}, "Opened")); diff != "" {
			t.Fatalf("crash after window %d:\n%s", crash, diff)
		}
	}
}

func TestRestoredIncidentsAreToldOnceMore(t *testing.T) {
	m := incident.New(incident.DefaultConfig())
	m.Observe([]detect.Finding{found("beacon", "a", "b", 0, 1)}, window(0, 1))
	before := m.Pending()
	m = incident.New(incident.DefaultConfig())
	m.Restore([]incident.Incident{before[0].Incident}, before[0].Findings)
	after := m.Pending()
	if len(after) != 1 || !after[0].Notable || len(after[0].Findings) != 1 || len(after[0].Updated) != 0 || len(after[0].New) != 0 {
		t.Errorf("after a restart: %+v", after)
	}
}

func TestTooManyOpenFindingsEndTheQuietest(t *testing.T) {
	cfg := incident.DefaultConfig()
	cfg.MaxOpen = 100
	m := incident.New(cfg)
	for i := range 150 {
		m.Observe([]detect.Finding{found("beacon", fmt.Sprint("a", i), "", 0, 1+float64(i)/1000)}, window(1, 2))
	}
	if _, findings := m.Counts(); findings != 100 {
		t.Errorf("%d findings are open, want 100", findings)
	}
	if total := len(all(m)); total != 150 {
		t.Errorf("%d incidents are pending: ending a finding early must not lose it", total)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, test := range []struct {
		key  string
		edit func(*incident.Config)
	}{
		{"", func(*incident.Config) {}},
		{"episode_gap", func(c *incident.Config) { c.EpisodeGap = -1 }},
		{"merge_gap", func(c *incident.Config) { c.MergeGap = -1 }},
		{"quiet_after", func(c *incident.Config) { c.QuietAfter = time.Minute }},
		{"max_length", func(c *incident.Config) { c.MaxLength = time.Minute }},
		{"save_every", func(c *incident.Config) { c.SaveEvery = -1 }},
		{"max_open", func(c *incident.Config) { c.MaxOpen = 1 }},
	} {
		cfg := incident.DefaultConfig()
		test.edit(&cfg)
		err := cfg.Validate()
		if test.key == "" && err != nil {
			t.Errorf("the defaults are refused: %v", err)
		}
		if test.key != "" && (err == nil || !slices.Contains([]string{test.key}, err.Error()[:min(len(test.key), len(err.Error()))])) {
			t.Errorf("%s: %v", test.key, err)
		}
	}
}

// A window of a day shows for a day what ended long ago: that is no news, and
// when it goes on it is the same finding, and the same incident opens again.
func TestALongWindowShowsWhatEndedLongAgo(t *testing.T) {
	cfg := incident.DefaultConfig()
	m := incident.New(cfg)
	var saved []incident.Change
	keep := func() (changes []incident.Change) {
		changes = m.Pending()
		m.Stored(changes)
		saved = append(saved, changes...)
		return changes
	}
	observe := func(to, now float64) []incident.Change {
		m.Observe([]detect.Finding{found("beacon", "a", "b", 0, to)}, window(now-24*60, now))
		m.Advance(minute(now))
		return keep()
	}
	first := observe(100, 110)
	if len(first) != 1 || !first[0].Notable {
		t.Fatalf("first: %+v", first)
	}
	if closed := observe(100, 120); len(closed) != 1 || closed[0].Incident.Status != incident.Closed {
		t.Fatalf("after twenty quiet minutes: %+v", closed)
	}
	for now := 130.0; now < 600; now += 10 {
		if changes := observe(100, now); len(changes) != 0 {
			t.Fatalf("at minute %v: %+v", now, changes)
		}
	}
	restored := incident.New(cfg)
	last := saved[len(saved)-1]
	restored.Restore([]incident.Incident{last.Incident}, last.Findings)
	for name, manager := range map[string]*incident.Manager{"": m, "after a restart, ": restored} {
		m = manager
		again := observe(600, 610)
		if len(again) != 1 || again[0].Incident.ID != first[0].Incident.ID || again[0].Incident.Status != incident.Open ||
			len(again[0].Findings) != 1 || again[0].Findings[0].ID != first[0].Findings[0].ID || !again[0].Incident.Ended.Equal(minute(600)) {
			t.Errorf("%swhen it goes on: %+v", name, again)
		}
	}
}
