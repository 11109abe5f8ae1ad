package conn

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// Interfaces is what the table asks about places: a *probe.Probe.
type Interfaces interface {
	// Name returns the name of an interface, NetNS of its network namespace, ""
	// for the agent's own.
	Name(flowbpf.Place) string
	NetNS(flowbpf.Place) string
	// Related reports whether a packet that passes one of two interfaces passes
	// the other one too: a bridge and its ports, the two ends of a veth pair.
	Related(a, b flowbpf.Place) bool
}

// sighting is one entry of a group, and how it relates to the others.
type sighting struct {
	e *flowbpf.Entry
	// repeats is the index of the sighting that records the same packets, -1 for
	// one that does so itself.
	repeats int
	home    bool // its conversation was last recorded where e was seen
}

// towards returns the way that side A's packets go at the entry's place. What
// leaves a container by its own interface comes in by the host's end of it: seen
// from the host, directions inside are the other way round.
func towards(e *flowbpf.Entry) flowbpf.Direction {
	dir := e.FirstDirection
	if e.FirstSide != 0 {
		dir = 1 - dir
	}
	if e.Place.NetNS != 0 {
		dir = 1 - dir
	}
	return dir
}

// sort finds out which entries of a group see packets that another one of them
// records. Those come first that record: not in a tunnel before in one, where the
// conversation was recorded before, then the earliest.
func (t *Table) sort(group []flowbpf.Entry) []sighting {
	t.seen = t.seen[:0]
	for i := range group {
		s := sighting{e: &group[i], repeats: -1}
		if len(group) > 1 {
			k := keyOf(s.e)
			c := t.slots.find(&k)
			s.home = c != nil && c.place == s.e.Place && c.vlan == s.e.VLAN
		}
		t.seen = append(t.seen, s)
	}
	if len(group) == 1 || t.cfg.EverySighting {
		return t.seen
	}
	slices.SortFunc(t.seen, func(a, b sighting) int {
		switch {
		case (a.e.Tunnel == 0) != (b.e.Tunnel == 0):
			return before(a.e.Tunnel == 0)
		case a.home != b.home:
			return before(a.home)
		}
		return cmp.Compare(a.e.FirstNS, b.e.FirstNS)
	})
	for i := range t.seen {
		for j := range i {
			if t.seen[j].repeats < 0 && t.repeats(t.seen[i].e, t.seen[j].e) {
				t.seen[i].repeats = j
				break
			}
		}
	}
	return t.seen
}

func before(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

// repeats reports whether e sees the packets that other records.
func (t *Table) repeats(e, other *flowbpf.Entry) bool {
	if linkScoped(e.A) || linkScoped(e.B) {
		return false
	}
	if e.Tunnel != other.Tunnel || e.TunnelID != other.TunnelID {
		return other.Tunnel == 0 // the same packets, wrapped for another link
	}
	if e.Place == other.Place && e.VLAN == other.VLAN {
		return false
	}
	return towards(e) != towards(other) || t.interfaces.Related(e.Place, other.Place) ||
		e.Side[0].Counters == other.Side[0].Counters && e.Side[1].Counters == other.Side[1].Counters
}

// complete adds to sighting i what those that repeat it know beyond it, and
// returns the names of all their interfaces if they are several.
func (t *Table) complete(i int) (names string) {
	e := t.seen[i].e
	for j := range t.seen {
		if t.seen[j].repeats != i {
			continue
		}
		r := t.seen[j].e
		if names == "" {
			names = t.interfaces.Name(e.Place)
		}
		if name := t.interfaces.Name(r.Place); !slices.Contains(strings.Fields(names), name) && len(names)+1+len(name) <= ebbwatch.MaxName {
			names += " " + name
		}
		if e.Tunnel == 0 {
			e.Tunnel, e.TunnelID = r.Tunnel, r.TunnelID
		}
		for side := range e.Side {
			to, from := &e.Side[side], &r.Side[side]
			if to.PID == 0 {
				to.PID = from.PID
			}
			to.KernelRTTUS = max(to.KernelRTTUS, from.KernelRTTUS)
		}
	}
	if !strings.Contains(names, " ") {
		return ""
	}
	return names
}
