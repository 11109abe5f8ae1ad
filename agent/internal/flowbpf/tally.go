package flowbpf

// tally sums up entries by slot and direction.
type tally struct {
	points map[uint32]*[2]Counters
	// The slot of the entry before: mostly that of the next one too.
	slot uint32
	last *[2]Counters
}

func (t *tally) add(e *Entry) {
	if t.last == nil || t.slot != e.slot {
		if t.points == nil {
			t.points = make(map[uint32]*[2]Counters)
		}
		if t.points[e.slot] == nil {
			t.points[e.slot] = &[2]Counters{}
		}
		t.slot, t.last = e.slot, t.points[e.slot]
	}
	in := &t.last[Ingress]
	in.Packets += e.Side[0].Packets + e.Side[1].Packets - e.Egress.Packets
	in.Bytes += e.Side[0].Bytes + e.Side[1].Bytes - e.Egress.Bytes
	t.last[Egress].Add(e.Egress)
}

func (t *tally) of(slot uint32, dir Direction) Counters {
	if p := t.points[slot]; p != nil {
		return p[dir]
	}
	return Counters{}
}

// merge adds all of from; t is not empty then, even if from is.
func (t *tally) merge(from *tally) {
	if t.points == nil {
		t.points = make(map[uint32]*[2]Counters)
	}
	for slot, p := range from.points {
		if t.points[slot] == nil {
			t.points[slot] = &[2]Counters{}
		}
		for dir := range p {
			t.points[slot][dir].Add(p[dir])
		}
	}
}
