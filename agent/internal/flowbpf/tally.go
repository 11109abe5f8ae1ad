package flowbpf

// tally sums up entries by interface and direction.
type tally struct {
	points map[uint32]*[2]Counters
	// The interface of the entry before: mostly that of the next one too.
	ifindex uint32
	last    *[2]Counters
}

func (t *tally) add(e *Entry) {
	if t.last == nil || t.ifindex != e.Ifindex {
		if t.points == nil {
			t.points = make(map[uint32]*[2]Counters)
		}
		if t.points[e.Ifindex] == nil {
			t.points[e.Ifindex] = &[2]Counters{}
		}
		t.ifindex, t.last = e.Ifindex, t.points[e.Ifindex]
	}
	in := &t.last[Ingress]
	in.Packets += e.Side[0].Packets + e.Side[1].Packets - e.Egress.Packets
	in.Bytes += e.Side[0].Bytes + e.Side[1].Bytes - e.Egress.Bytes
	t.last[Egress].Add(e.Egress)
}

func (t *tally) of(ifindex uint32, dir Direction) Counters {
	if p := t.points[ifindex]; p != nil {
		return p[dir]
	}
	return Counters{}
}

// merge adds all of from; t is not empty then, even if from is.
func (t *tally) merge(from *tally) {
	if t.points == nil {
		t.points = make(map[uint32]*[2]Counters)
	}
	for ifindex, p := range from.points {
		if t.points[ifindex] == nil {
			t.points[ifindex] = &[2]Counters{}
		}
		for dir := range p {
			t.points[ifindex][dir].Add(p[dir])
		}
	}
}
