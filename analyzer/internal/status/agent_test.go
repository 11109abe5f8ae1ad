package status

import (
	"slices"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

func TestAgentsAreJudgedByTheirProofs(t *testing.T) {
	for _, c := range []struct {
		name    string
		agent   store.Agent
		want    State
		percent float64 // -1 for unknown
	}{
		{"all is well", store.Agent{LastBeat: at.Add(-6 * time.Second), Coverage: 1, InterfaceCount: 1}, OK, 100},
		{"late", store.Agent{LastBeat: at.Add(-time.Minute), Coverage: 1, InterfaceCount: 1}, Warn, 100},
		{"silent", store.Agent{LastBeat: at.Add(-time.Hour), Coverage: 1}, Down, -1},
		{"packets without room", store.Agent{LastBeat: at, Coverage: 0.5, Overflow: 1, InterfaceCount: 1}, Warn, 50},
		{"not one packet recorded", store.Agent{LastBeat: at, Overflow: 1, InterfaceCount: 1}, Warn, 0},
		{"a batch is missing", store.Agent{LastBeat: at, Coverage: 1, Gaps: 1, InterfaceCount: 1}, Warn, 100},
		{"nothing is watched", store.Agent{LastBeat: at, Coverage: 1}, Warn, -1},
	} {
		got := agentOf(c.agent, at)
		percent := -1.0
		if got.CoveragePercent != nil {
			percent = *got.CoveragePercent
		}
		if got.State != c.want || percent != c.percent || got.Covered() != (c.percent == 100) {
			t.Errorf("%s: %s with %v %% covered, want %s with %v %%", c.name, got.State, percent, c.want, c.percent)
		}
	}
	if got := agentOf(store.Agent{}, at); got.Interfaces == nil {
		t.Error("interfaces must be a list, also an empty one")
	}
	if got := agentOf(store.Agent{Interfaces: []string{"eth0", "wg0"}, InterfaceCount: 2}, at); !slices.Equal(got.Interfaces, []string{"eth0", "wg0"}) || got.InterfaceCount != 2 {
		t.Errorf("%+v", got)
	}
}

func TestTheFleetInOneSentence(t *testing.T) {
	watching := func(s State) Agent { return Agent{State: s, InterfaceCount: 1} }
	blind := func(name string) Agent { return Agent{Name: name, State: Warn} }
	for _, c := range []struct {
		agents []Agent
		want   Part
	}{
		{nil, Part{"agents", Warn, "none has reported within a day"}},
		{[]Agent{watching(OK)}, Part{"agents", OK, "1 agent reports"}},
		{[]Agent{watching(OK), watching(Warn), watching(OK)}, Part{"agents", Warn, "3 agents report, 1 late or with losses"}},
		{[]Agent{watching(OK), {State: Down}}, Part{"agents", Warn, "1 agent reports, 1 silent"}},
		{[]Agent{{State: Down}, {State: Down}}, Part{"agents", Down, "no agent has reported for five minutes"}},
		{[]Agent{blind("web-1")}, Part{"agents", Warn, "1 agent reports, agent web-1 watches no interface"}},
		{[]Agent{blind("a"), {State: Down}, blind("b"), watching(Warn)}, Part{"agents", Warn, "3 agents report, 2 agents watch no interface: a b, 1 silent, 1 late or with losses"}},
	} {
		if got := judgeAgents(c.agents, Ingest{}); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
