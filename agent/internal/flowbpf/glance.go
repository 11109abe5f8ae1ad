package flowbpf

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Glance is what passed one attach point since the Glance before: counts of
// what tells a flood or a scan, without the flows. Where packets are sampled
// 1 in N, Seen, the kinds of packets and Sizes are scaled by the N of the moment,
// NewFlows and Overflow are what was counted, and Gaps is empty.
type Glance struct {
	Place     Place // index 0: packets of interfaces that are not attached (test runs)
	Direction Direction
	Seen      Counters
	// Packets of TCP with SYN alone, with SYN and ACK, with FIN, with RST.
	SYN, SYNACK, FIN, RST uint64
	NewFlows              uint64 // flow entries made; a flow has one for each CPU that sees it
	Overflow              uint64 // packets that found no room for one
	// Sizes counts packets by floor(log2(bytes of the frame)), the last bucket
	// also what is larger; a super-packet counts its segments.
	Sizes [sizeBuckets]uint64
	// Gaps counts pairs of frames that one CPU saw one after the other, by
	// floor(log2(nanoseconds between them)): a random sample of one pair in 65.5.
	Gaps [gapBuckets]uint64
}

type featureRow = objects.FlowEbbFeature

// The parts of struct ebb_feature, which is featureSize bytes or featureWords
// counters of 32 bits; the first two of these are one of 64.
const (
	featureSize  = 256
	featureWords = featureSize / 4
	sizeBuckets  = len(featureRow{}.Sizes)
	gapBuckets   = len(featureRow{}.Gaps)

	synWord      = unsafe.Offsetof(featureRow{}.Syn) / 4
	synackWord   = unsafe.Offsetof(featureRow{}.Synack) / 4
	finWord      = unsafe.Offsetof(featureRow{}.Fin) / 4
	rstWord      = unsafe.Offsetof(featureRow{}.Rst) / 4
	newFlowsWord = unsafe.Offsetof(featureRow{}.NewFlows) / 4
	overflowWord = unsafe.Offsetof(featureRow{}.Overflow) / 4
	sizesWord    = unsafe.Offsetof(featureRow{}.Sizes) / 4
	gapsWord     = unsafe.Offsetof(featureRow{}.Gaps) / 4
)

// featureSum is the sum over all CPUs of one attach point's rows, each counter
// modulo its size: only differences between two of them mean something.
type featureSum struct {
	bytes uint64
	words [featureWords]uint32
}

// Glances calls visit for every attach point of which a counter moved since the
// call before, or since it was attached. A counter that moves by 2^32 or more between
// two calls is wrong: call it every second or so. The Glance belongs to Glances
// and is overwritten after visit returns. visit must not call the Datapath.
//
// The counters are read while programs write them: a packet may stand in one
// counter of this call and in another one of the next.
func (d *Datapath) Glances(visit func(*Glance)) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	counted, err := d.openRows(d.objs.EbbFeatures, 0, featureSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, counted.close()) }()
	for slot := range d.points.table {
		place := d.points.table[slot].place
		if place.Ifindex == 0 && slot != 0 {
			continue
		}
		for _, dir := range []Direction{Ingress, Egress} {
			now := sumFeatures(counted, uint32(slot), dir)
			before := &d.glanced[slot][dir]
			if now == *before {
				continue
			}
			g := Glance{Place: place, Direction: dir}
			g.set(&now, before, uint64(d.sampling[d.generation]))
			*before = now
			visit(&g)
		}
	}
	return nil
}

// set takes the difference between two sums of packets taken 1 in rate.
func (g *Glance) set(now, before *featureSum, rate uint64) {
	diff := func(word uintptr) uint64 { return uint64(now.words[word] - before.words[word]) }
	for i := range g.Sizes {
		g.Sizes[i] = diff(sizesWord+uintptr(i)) * rate
		g.Seen.Packets += g.Sizes[i]
	}
	for i := range g.Gaps {
		g.Gaps[i] = diff(gapsWord + uintptr(i))
	}
	g.Seen.Bytes = (now.bytes - before.bytes) * rate
	g.SYN, g.SYNACK, g.FIN, g.RST = diff(synWord)*rate, diff(synackWord)*rate, diff(finWord)*rate, diff(rstWord)*rate
	g.NewFlows, g.Overflow = diff(newFlowsWord), diff(overflowWord)
}

func sumFeatures(counted *rows, slot uint32, dir Direction) (sum featureSum) {
	for cpu := range counted.cpus {
		row := counted.row(cpu, slot, dir)
		sum.bytes += binary.NativeEndian.Uint64(row)
		for i := range sum.words {
			sum.words[i] += binary.NativeEndian.Uint32(row[4*i:])
		}
	}
	return sum
}

// glanceAnew makes the features of a slot in use begin now, for a new interface.
func (d *Datapath) glanceAnew(slot uint32) error {
	counted, err := d.openRows(d.objs.EbbFeatures, 0, featureSize)
	if err != nil {
		return err
	}
	for _, dir := range []Direction{Ingress, Egress} {
		d.glanced[slot][dir] = sumFeatures(counted, slot, dir)
	}
	return counted.close()
}
