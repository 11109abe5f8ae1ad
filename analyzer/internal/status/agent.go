package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// Agent is one agent by its own proofs of the last ten minutes.
type Agent struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	State    State     `json:"state"`
	LastBeat time.Time `json:"last_beat"`
	// CoveragePercent is how many of the IP packets stand in flow records; nil if
	// that is unknown, because the agent watches no interface or is silent.
	CoveragePercent *float64 `json:"coverage_percent"`
	OverflowPackets uint64   `json:"overflow_packets"` // found no room in the flow map
	LostBatches     uint64   `json:"lost_batches"`     // missing by their sequence numbers
	Drops           uint64   `json:"drops"`            // what the agent gave up since its start, all its counters
	FlowsPerS       float64  `json:"flows_per_s"`
	BitsPerS        float64  `json:"bits_per_s"`
	Interfaces      []string `json:"interfaces"`      // that it watches, the first store.MaxInterfaces of them
	InterfaceCount  uint64   `json:"interface_count"` // all that it watches
}

// Covered reports whether every IP packet is known to stand in a flow record.
func (a Agent) Covered() bool { return a.CoveragePercent != nil && *a.CoveragePercent >= 100 }

// Blind reports whether the agent is there but watches no interface.
func (a Agent) Blind() bool { return a.State != Down && a.InterfaceCount == 0 }

// agentOf judges an agent as of the time up to which what it sent is stored.
func agentOf(a store.Agent, asOf time.Time) Agent {
	agent := Agent{
		Name: a.Name, Version: a.Version, State: agentState(a, asOf), LastBeat: a.LastBeat,
		OverflowPackets: a.Overflow, LostBatches: a.Gaps, Drops: a.Losses, FlowsPerS: a.FlowsPerS, BitsPerS: a.BitsPerS,
		Interfaces: append([]string{}, a.Interfaces...), InterfaceCount: a.InterfaceCount,
	}
	if a.InterfaceCount > 0 {
		percent := 100 * a.Coverage
		agent.CoveragePercent = &percent
	}
	return agent
}

func agentState(a store.Agent, asOf time.Time) State {
	switch age := asOf.Sub(a.LastBeat); {
	case age > deadAgent:
		return Down
	case age > lateAgent, a.Overflow > 0, a.Gaps > 0, a.InterfaceCount == 0:
		return Warn
	}
	return OK
}

func judgeAgents(agents []Agent, ingest Ingest) Part {
	if len(agents) == 0 && ingest.Late() {
		return Part{"agents", Off, "unknown while the collector is behind"}
	}
	if len(agents) == 0 {
		return Part{"agents", Warn, "none has reported within a day"}
	}
	var blind []string
	count := map[State]int{}
	for _, a := range agents {
		if a.Blind() {
			blind = append(blind, a.Name)
			continue
		}
		count[a.State]++
	}
	if count[Down] == len(agents) {
		return Part{"agents", Down, "no agent has reported for five minutes"}
	}
	p := Part{"agents", OK, human.Plural(count[OK]+count[Warn]+len(blind), "agent reports", "agents report")}
	if ingest.Late() {
		p.Detail += ", as of " + roughly(ingest.Lag()) + " ago"
	}
	say := func(format string, args ...any) {
		p.State, p.Detail = Warn, p.Detail+", "+fmt.Sprintf(format, args...)
	}
	switch len(blind) {
	case 0:
	case 1:
		say("agent %s watches no interface", human.Clean(blind[0], 64))
	default:
		say("%d agents watch no interface: %s", len(blind), human.Clean(strings.Join(blind, " "), 120))
	}
	if count[Down] > 0 {
		say("%d silent", count[Down])
	}
	if count[Warn] > 0 {
		say("%d late or with losses", count[Warn])
	}
	return p
}
