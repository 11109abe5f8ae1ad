package flowbpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Source is what one address sent during an interval that needed a flow entry.
type Source struct {
	// Addr is the sender, plain IPv4 or IPv6. The invalid address is the crowd:
	// all those that found no room among MaxSources.
	Addr netip.Addr
	// Flows counts the entries that its packets made, one for each CPU that saw
	// the flow, and the packets of Overflow.
	Flows uint64
	// Targets estimates how many distinct (address, protocol, port) these went to,
	// for the crowd how many pairs of a source and a target; SketchError says how
	// well. Packets of TCP with ACK or RST do not count: they answer.
	Targets uint64
	// Overflow is exact: its sum over all sources and the crowd is that over the
	// attach points of the same interval.
	Overflow Counters
}

type (
	sourceKey = objects.FlowEbbSourceKey
	source    = objects.FlowEbbSource
)

// sourceSize is the size of struct ebb_source.
const sourceSize = 24 + sketchSize

// sourceBatch is how many sources one system call reads.
const sourceBatch = 512

// Sources calls visit for every source of the running interval so far, in no
// particular order. It leaves them there. The Source belongs to Sources and is
// overwritten after visit returns. visit must not call the Datapath.
func (d *Datapath) Sources(visit func(*Source)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readSources(d.generation, false, visit)
}

// DrainedSources returns the sources of the last interval that was drained
// without an error, in no particular order: their overflow is that of the totals
// which Drain returned. It returns nil after a drain with an error, which keeps
// them for the drain after the next. The slice is valid until the next Drain.
func (d *Datapath) DrainedSources() []Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drained
}

// drainSources empties the sources of a generation that no program uses any more.
func (d *Datapath) drainSources(old uint32) error {
	d.drained = d.drained[:0]
	err := d.readSources(old, true, func(s *Source) { d.drained = append(d.drained, *s) })
	if err != nil {
		return fmt.Errorf("drain sources: %w", err)
	}
	if cap(d.drained) > 4096 && len(d.drained) < cap(d.drained)/8 {
		d.drained = append([]Source(nil), d.drained...)
	}
	return nil
}

// readSources visits the sources of a generation and its crowd. With remove it
// takes them away; after an error what was not visited is still there.
func (d *Datapath) readSources(generation uint32, remove bool, visit func(*Source)) error {
	var (
		m      = d.sources[generation]
		cursor ebpf.MapBatchCursor
		s      Source
	)
	if d.sourceKeys == nil {
		d.sourceKeys, d.sourceRows = make([]sourceKey, sourceBatch), make([]source, sourceBatch)
	}
	keys, rows := d.sourceKeys, d.sourceRows
	for done := false; !done; {
		read := m.BatchLookup
		if remove {
			read = m.BatchLookupAndDelete
		}
		n, err := read(&cursor, keys, rows, nil)
		done = errors.Is(err, ebpf.ErrKeyNotExist) // the end of the map
		if err != nil && !done {
			return fmt.Errorf("read sources: %w", err)
		}
		for i := range n {
			s.set(addrOf(&keys[i]), &rows[i])
			visit(&s)
		}
	}
	crowd, err := d.readCrowd(generation, remove)
	if err != nil || crowd == (source{}) {
		return err
	}
	s.set(netip.Addr{}, &crowd)
	visit(&s)
	return nil
}

// readCrowd merges what the CPUs counted of sources without room.
func (d *Datapath) readCrowd(generation uint32, remove bool) (sum source, err error) {
	var row [sourceSize]byte
	for cpu := range uint32(d.cpus) {
		at := int64(generation*uint32(d.cpus)+cpu) * sourceSize
		if _, err := d.crowd.ReadAt(row[:], at); err != nil {
			return sum, fmt.Errorf("read crowd: %w", err)
		}
		if row == [sourceSize]byte{} {
			continue
		}
		sum.Flows += binary.NativeEndian.Uint64(row[0:])
		sum.Overflow.Packets += binary.NativeEndian.Uint64(row[8:])
		sum.Overflow.Bytes += binary.NativeEndian.Uint64(row[16:])
		for i := range sum.Registers {
			sum.Registers[i] = max(sum.Registers[i], row[24+i])
		}
		if !remove {
			continue
		}
		if _, err := d.crowd.WriteAt(make([]byte, sourceSize), at); err != nil {
			return sum, fmt.Errorf("clear crowd: %w", err)
		}
	}
	return sum, nil
}

func (s *Source) set(addr netip.Addr, row *source) {
	*s = Source{Addr: addr, Flows: row.Flows + row.Overflow.Packets, Overflow: Counters{row.Overflow.Packets, row.Overflow.Bytes}}
	// No more than one for each packet, whatever the sketch says.
	s.Targets = min(uint64(math.Round(estimate(&row.Registers))), s.Flows)
}

func addrOf(k *sourceKey) netip.Addr {
	var b [16]byte
	for i, word := range k.Address {
		binary.NativeEndian.PutUint32(b[4*i:], word)
	}
	return netip.AddrFrom16(b).Unmap()
}

// loadWarnings makes the maps of early warning, after the programs are loaded.
func (d *Datapath) loadWarnings(spec *ebpf.CollectionSpec) (err error) {
	for generation := range uint32(2) {
		m, err := ebpf.NewMap(spec.Maps[objects.FlowMapEbbSources].InnerMap)
		if err != nil {
			return fmt.Errorf("create source map: %w", err)
		}
		d.sources[generation] = m
		if err := d.objs.EbbSources.Put(generation, m); err != nil {
			return fmt.Errorf("install source map: %w", err)
		}
	}
	if d.crowd, err = d.objs.EbbCrowd.Memory(); err != nil {
		return fmt.Errorf("map crowd: %w", err)
	}
	d.glanced = make([][2]featureSum, d.points.slots())
	return nil
}

// sizeWarnings fits the maps of early warning to the configuration and the machine.
func (d *Datapath) sizeWarnings(spec *ebpf.CollectionSpec) error {
	spec.Maps[objects.FlowMapEbbSources].InnerMap.MaxEntries = d.cfg.MaxSources
	spec.Maps[objects.FlowMapEbbCrowd].MaxEntries = 2 * uint32(d.cpus)
	spec.Maps[objects.FlowMapEbbFeatures].MaxEntries = uint32(d.cpus) * d.points.slots() * 2
	seed := d.cfg.SketchSeed
	if seed == [2]uint64{} {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		seed = [2]uint64{binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])}
	}
	if err := spec.Variables[objects.FlowVarEbbSketchSeed].Set(seed); err != nil {
		return fmt.Errorf("set seed of sketches: %w", err)
	}
	if err := spec.Variables[objects.FlowVarEbbFeatureOn].Set(boolByte(!d.cfg.NoFeatures)); err != nil {
		return fmt.Errorf("set features: %w", err)
	}
	return nil
}

// reopenSources lets the generation take new sources again.
func (d *Datapath) reopenSources(old uint32) error {
	var full [2]uint32
	if err := d.objs.EbbSourcesFull.Get(&full); err != nil {
		return err
	}
	if full[old] == 0 {
		return nil
	}
	// As in reopen: if this undoes what a program sets, the next failure sets it again.
	full[old] = 0
	return d.objs.EbbSourcesFull.Set(full)
}
