package flowgen

import (
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Warn replaces b with a batch of early warnings of the agent whose flows came
// last: what an agent sends each second between its drains.
func (f *Fleet) Warn(b *ebbwatch.Batch) {
	a := &f.agents[(f.next+len(f.agents)-1)%len(f.agents)]
	a.sequence++
	b.Reset()
	b.Agent, b.AgentVersion, b.Boot, b.Sequence = a.name, "v1.0.0", a.boot, a.sequence
	b.Time = f.now.Add(time.Duration(a.sequence%5) * time.Second)
	f.warn(b, a)
}

// warn adds what a quiet host warns of: both directions of its uplink, and
// sometimes a sender of note.
func (f *Fleet) warn(b *ebbwatch.Batch, a *agent) {
	for _, egress := range []bool{false, true} {
		packets := 100 + f.rnd.Uint64N(400)
		w := ebbwatch.Feature{
			Interface: a.interfaces[0], Egress: egress, IntervalMS: 1000, Seen: ebbwatch.Counter{Packets: packets, Bytes: packets * (100 + f.rnd.Uint64N(900))},
			SYN: f.rnd.Uint64N(12), SYNACK: f.rnd.Uint64N(12), FIN: f.rnd.Uint64N(20), RST: f.rnd.Uint64N(2), NewFlows: f.rnd.Uint64N(25),
			Sizes: make([]uint64, 11), Gaps: make([]uint64, 25),
		}
		for range packets {
			w.Sizes[6+min(f.rnd.IntN(7), 4)]++
		}
		for range packets / 16 {
			w.Gaps[10+f.rnd.IntN(15)]++
		}
		b.Features = append(b.Features, w)
	}
	if f.rnd.IntN(3) == 0 {
		flows := 20 + f.rnd.Uint64N(80)
		b.Sources = append(b.Sources, ebbwatch.Source{Addr: a.addr, IntervalMS: 1000 * (1 + f.rnd.Uint32N(5)), Flows: flows, Targets: flows / 2})
	}
}
