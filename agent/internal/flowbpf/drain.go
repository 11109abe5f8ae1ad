package flowbpf

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

type (
	key4  = objects.FlowEbbKey4
	key6  = objects.FlowEbbKey6
	flow  = objects.FlowEbbFlow
	total = objects.FlowEbbTotal
)

// totalSize is the size of struct ebb_total.
const totalSize = 128

// drainBatch is how many entries one system call takes from a map.
const drainBatch = 1024

// Drain ends the interval: it swaps the buffers, waits until no CPU writes
// into the old one, calls visit for each pair of endpoints in it, in no
// particular order, and returns the account of every attach point that is
// attached or was when the interval began. visit gets an entry for each place,
// VLAN and tunnel in which they were seen, at least one: all of them at once, or
// in parts where they are hundreds. They belong to Drain and are overwritten after
// visit returns. visit must not call the Datapath, but may call Hints.
//
// After an error the interval is incomplete, and the account tells of what was
// visited alone. What could not be read stays in its buffer for the drain after
// the next, in the account of that one, together with overflow and the rest.
func (d *Datapath) Drain(visit func([]Entry)) ([]Totals, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drained = d.drained[:0]
	if err := d.settle(); err != nil {
		return nil, fmt.Errorf("wait for programs to leave changed hooks: %w", err)
	}
	old, err := d.swap()
	if err != nil {
		return nil, fmt.Errorf("swap buffers: %w", err)
	}
	if err := d.wait(old); err != nil {
		d.told[old].merge(&tally{})
		return nil, fmt.Errorf("wait for programs to leave the old buffer: %w", err)
	}
	return d.collect(old, visit)
}

// collect empties a generation that no program uses any more.
func (d *Datapath) collect(old uint32, visit func([]Entry)) ([]Totals, error) {
	recorded := tally{}
	sum := func(group []Entry) {
		for i := range group {
			e := &group[i]
			e.Place, e.Sampling = d.points.table[e.slot].place, d.sampling[old]
			recorded.add(e)
		}
		visit(group)
	}
	if err := d.collectFlows(old, sum); err != nil {
		// The totals cover flows that are still to be read: they wait for those.
		d.told[old].merge(&recorded)
		return d.visitedTotals(old, &recorded), err
	}
	totals, err := d.drainTotals(old, &recorded)
	if err != nil {
		return nil, fmt.Errorf("drain totals: %w", err)
	}
	d.told[old] = tally{}
	return totals, errors.Join(d.drainSources(old), d.reopen(old))
}

// collectFlows visits and removes the conversations of a generation.
func (d *Datapath) collectFlows(old uint32, visit func([]Entry)) error {
	a := &d.arena
	err4 := drainMap(a, &a.keys4, d.inner[old][family4], plain4, (*Entry).setKey4, visit)
	if err4 != nil {
		err4 = fmt.Errorf("drain ipv4 flows: %w", err4)
	}
	used := a.used
	err6 := drainMap(a, &a.keys6, d.inner[old][family6], plain6, (*Entry).setKey6, visit)
	if err6 != nil {
		err6 = fmt.Errorf("drain ipv6 flows: %w", err6)
	}
	a.trim(max(used, a.used))
	return errors.Join(err4, err6)
}

// swap makes the other generation the active one and returns the old one, which
// programs that began before may still use.
func (d *Datapath) swap() (old uint32, err error) {
	old = d.generation
	if err := d.sample(1 - old); err != nil {
		return old, err
	}
	if err := d.objs.EbbGeneration.Set(1 - old); err != nil {
		return old, err
	}
	d.generation = 1 - old
	return old, nil
}

// wait returns when no program uses the old generation any more: it updates a
// map of maps, not for the content, but for the grace period at the end of that
// system call.
//
// Test runs alone use a datapath with packet time, and Run returns only when
// they have ended: they need no wait.
func (d *Datapath) wait(old uint32) error {
	if d.cfg.Replay {
		return nil
	}
	start := time.Now()
	err := d.objs.EbbFlows4.Put(old, d.inner[old][family4])
	d.lastWait = time.Since(start)
	return err
}

// settle returns when no program runs that a removed filter started, or a link that
// rests since then: one that reads the generation after the swap counts in the new
// one, which is not drained now, although its interface is detached. The kernel itself
// waits so long when a link of tcx is closed, not when a filter is deleted or a link
// gets another program.
func (d *Datapath) settle() error {
	if !d.unsettled {
		return nil
	}
	if err := d.wait(d.generation); err != nil {
		return err
	}
	d.unsettled = false
	return nil
}

// LastWait returns how long the last Drain waited for programs to leave the old
// generation: time that passes, not time that a CPU works.
func (d *Datapath) LastWait() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastWait
}

// reopen makes a drained generation ready for its next turn.
func (d *Datapath) reopen(old uint32) error {
	if err := d.reopenSources(old); err != nil {
		return fmt.Errorf("reopen sources: %w", err)
	}
	var full [2]uint32
	if err := d.objs.EbbFull.Get(&full); err != nil {
		return fmt.Errorf("reopen buffer: %w", err)
	}
	if full[old] != 0 {
		// A program may set the other element meanwhile; if this write undoes
		// that, the next insert that fails sets it again.
		full[old] = 0
		if err := d.objs.EbbFull.Set(full); err != nil {
			return fmt.Errorf("reopen buffer: %w", err)
		}
	}
	if d.told[1-old].points != nil {
		return nil // the other generation still has totals of what is retired
	}
	for slot := range d.points.table {
		if p := &d.points.table[slot]; p.retired {
			if err := d.objs.EbbPoints.Put(uint32(slot), objects.FlowEbbPoint{}); err != nil {
				return fmt.Errorf("free slot: %w", err)
			}
			*p = point{}
		}
	}
	return nil
}

// drainMap empties m and visits the conversations in it, after an error those
// that were read before it.
//
// plain splits a key into the conversation and what tells the members of its group
// apart; the CPU is in neither.
func drainMap[K comparable](a *arena, keys *[]K, m *ebpf.Map, plain func(K) (K, where), set func(*Entry, *K), visit func([]Entry)) error {
	a.reset()
	err := readMap(a, keys, m)
	chain(a, plain)
	visitChained(a, plain, set, visit)
	return err
}

// readMap moves all entries of m to the arena.
func readMap[K comparable](a *arena, keys *[]K, m *ebpf.Map) error {
	reserve(a, keys)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, *keys, a.flows, nil)
		for i := range n {
			put(a, &(*keys)[i], &a.flows[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // the end of the map
		}
		if err != nil {
			return fmt.Errorf("look up and delete: %w", err)
		}
	}
}

// reserve makes room for what one system call reads.
func reserve[K any](a *arena, keys *[]K) {
	if *keys == nil {
		*keys = make([]K, drainBatch)
	}
	if a.flows == nil {
		a.flows = make([]flow, drainBatch)
	}
}

// where is what makes two entries of one conversation different records of it.
type where struct{ place, tags, tunnel uint32 }

func plain4(k key4) (key4, where) {
	w := placeOf(&k.Rest)
	k.Rest = plainRest(&k.Rest)
	return k, w
}

func plain6(k key6) (key6, where) {
	w := placeOf(&k.Rest)
	k.Rest = plainRest(&k.Rest)
	return k, w
}

func placeOf(r *objects.FlowEbbRest) where {
	return where{r.Place >> placeTunnel, r.Tags >> 8, r.Tunnel}
}

func plainRest(r *objects.FlowEbbRest) objects.FlowEbbRest {
	return objects.FlowEbbRest{A_port: r.A_port, B_port: r.B_port, Tags: r.Tags & 0xff}
}

// merge adds what another CPU counted of the same conversation.
func merge(to, from *flow) {
	if from.FirstNs < to.FirstNs {
		rebase(to, from.FirstNs)
		to.FirstSide, to.FirstDirection = from.FirstSide, from.FirstDirection
		to.IcmpType, to.IcmpCode = from.IcmpType, from.IcmpCode
	} else {
		rebase(from, to.FirstNs)
	}
	to.LastNs = max(to.LastNs, from.LastNs)
	to.Egress.Packets += from.Egress.Packets
	to.Egress.Bytes += from.Egress.Bytes
	for side := range to.Side {
		to.Side[side].Packets += from.Side[side].Packets
		to.Side[side].Bytes += from.Side[side].Bytes
		to.Flags[side] |= from.Flags[side]
		for i, at := range from.Event[side] {
			if at != 0 && (to.Event[side][i] == 0 || at < to.Event[side][i]) {
				to.Event[side][i] = at
			}
		}
		mergeSide(&to.Tcp[side], &from.Tcp[side])
	}
}

// mergeSide adds what another CPU saw of one side. Of two round-trip times the
// later packets' is as good as the other.
func mergeSide(to, from *objects.FlowEbbSide) {
	to.Retransmits += from.Retransmits
	to.ZeroWindows += min(from.ZeroWindows, math.MaxUint16-to.ZeroWindows)
	to.Resets += min(from.Resets, math.MaxUint16-to.Resets)
	if to.Rtt == 0 {
		to.Rtt = from.Rtt
	}
	to.KernelRtt = max(to.KernelRtt, from.KernelRtt)
	if to.Pid == 0 {
		to.Pid = from.Pid
	}
}

// rebase moves the origin of f's event times back to first.
func rebase(f *flow, first uint64) {
	shift := (f.FirstNs - first) >> eventShift
	for side := range f.Event {
		for i, at := range f.Event[side] {
			if at != 0 {
				f.Event[side][i] = uint32(min(uint64(at)+shift, math.MaxUint32))
			}
		}
	}
	f.FirstNs = first
}

// visitedTotals is the account of the attach points as if no more had passed
// them than recorded holds.
func (d *Datapath) visitedTotals(generation uint32, recorded *tally) []Totals {
	var totals []Totals
	for slot := range d.points.table {
		place := d.points.table[slot].place
		if place.Ifindex == 0 && slot != 0 {
			continue
		}
		for _, dir := range []Direction{Ingress, Egress} {
			if c := recorded.of(uint32(slot), dir); slot != 0 || c != (Counters{}) {
				totals = append(totals, Totals{Place: place, Direction: dir, Sampling: d.sampling[generation], Seen: c, Recorded: c})
			}
		}
	}
	return totals
}

func (d *Datapath) drainTotals(generation uint32, recorded *tally) (totals []Totals, err error) {
	counted, err := d.openRows(d.objs.EbbTotals, generation, totalSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, counted.close()) }()
	for slot := range d.points.table {
		place := d.points.table[slot].place
		if place.Ifindex == 0 && slot != 0 {
			continue
		}
		for _, dir := range []Direction{Ingress, Egress} {
			t := Totals{Place: place, Direction: dir, Sampling: d.sampling[generation], Recorded: recorded.of(uint32(slot), dir)}
			t.take(counted, uint32(slot))
			told := d.told[generation].of(uint32(slot), dir)
			t.Seen.Packets -= told.Packets
			t.Seen.Bytes -= told.Bytes
			if slot != 0 || t.Seen != (Counters{}) {
				totals = append(totals, t)
			}
		}
	}
	return totals, nil
}

// take adds up every CPU's row and clears it.
func (t *Totals) take(counted *rows, slot uint32) {
	for cpu := range counted.cpus {
		row := (*[totalSize]byte)(counted.row(cpu, slot, t.Direction))
		if *row == [totalSize]byte{} {
			continue
		}
		t.addRow(row)
		*row = [totalSize]byte{}
	}
}
