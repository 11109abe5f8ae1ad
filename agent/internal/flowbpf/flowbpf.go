// Package flowbpf owns the BPF datapath: it loads the programs of bpf/,
// attaches them to interfaces, and drains what they counted.
//
// # Exactness
//
// Everything that counts exists twice, in two generations. A program reads the
// number of the active generation once, before anything else, and counts only
// there. Drain writes the other number and then updates a slot of a map of maps
// with the map that it already holds: the kernel returns from that call after
// an RCU grace period (maybe_wait_bpf_programs), so every program that still
// used the old generation has ended. What Drain then reads is final, entries
// and totals alike, and they cover the same packets.
package flowbpf

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Datapath is a loaded set of programs and maps. Attach, Detach, Rest, Drain, Full,
// MapBytes, Glances and Sources may be called from several goroutines; Close must
// be the last call.
type Datapath struct {
	cfg  Config
	log  *slog.Logger
	cpus int
	mode AttachMode

	objs  objects.FlowObjects
	inner [2][2]*ebpf.Map // generation, family
	hints *ring
	spec  *ebpf.CollectionSpec // sized, for further instances of the programs
	maps  map[string]*ebpf.Map // what those share, by name
	rest  *ebpf.Collection     // what nobody else closes

	sources [2]*ebpf.Map // of each generation
	crowd   *ebpf.Memory

	mu         sync.Mutex // guards what follows, and the maps against two drains
	generation uint32
	points     pointTable
	told       [2]tally // of each generation, what incomplete drains have told; zero after a complete one
	attached   map[Place]*attachment
	unsettled  bool                 // hooks were changed, and programs that they started may still run
	resting    []link.Link          // of interfaces that do not count any more
	instances  map[uint32]*programs // by network namespace
	sampling   [2]uint32            // of each generation
	nextRate   uint32               // of the generation to come
	arena      arena
	lastWait   time.Duration
	glanced    [][2]featureSum // by slot and direction: what Glances read last
	drained    []Source
	sourceKeys []sourceKey // memory for reading sources
	sourceRows []source
}

// constants is the map of what each instance of the programs has for itself.
const constants = ".rodata"

// The families of flow maps.
const (
	family4 = iota
	family6
)

// Load loads programs and maps into the kernel; nothing is attached yet.
// It needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or root. With tc in use it
// removes filters that a killed agent left behind in this network namespace.
func Load(cfg Config, log *slog.Logger) (*Datapath, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("load datapath: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count cpus: %w", err)
	}
	d := &Datapath{
		cfg: cfg, log: log, cpus: cpus,
		points:   newPointTable(cfg.MaxInterfaces),
		attached: make(map[Place]*attachment), instances: make(map[uint32]*programs),
		sampling: [2]uint32{1, 1}, nextRate: 1, arena: newArena(),
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("load datapath: %w", err), d.Close())
	}
	if err := d.chooseMode(); err != nil {
		return nil, errors.Join(fmt.Errorf("load datapath: %w", err), d.Close())
	}
	return d, nil
}

func (d *Datapath) load() error {
	spec, err := objects.LoadFlow()
	if err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	if err := d.size(spec); err != nil {
		return err
	}
	d.spec = spec.Copy()
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		var refused *ebpf.VerifierError
		if errors.As(err, &refused) {
			d.log.Debug("verifier refused a program", "log", fmt.Sprintf("%-20v", refused))
		}
		return fmt.Errorf("load programs: %w", err)
	}
	// Assign takes what it assigns out of the collection; the rest is the maps
	// behind variables.
	d.maps = maps.Clone(coll.Maps)
	delete(d.maps, constants)
	if err := coll.Assign(&d.objs); err != nil {
		return fmt.Errorf("take programs: %w", err)
	}
	d.rest = coll
	for family, outer := range []*ebpf.Map{d.objs.EbbFlows4, d.objs.EbbFlows6} {
		name := []string{objects.FlowMapEbbFlows4, objects.FlowMapEbbFlows6}[family]
		for generation := range uint32(2) {
			m, err := ebpf.NewMap(spec.Maps[name].InnerMap)
			if err != nil {
				return fmt.Errorf("create flow map: %w", err)
			}
			d.inner[generation][family] = m
			if err := outer.Put(generation, m); err != nil {
				return fmt.Errorf("install flow map: %w", err)
			}
		}
	}
	if d.hints, err = newRing(d.objs.EbbHints); err != nil {
		return fmt.Errorf("open hints: %w", err)
	}
	return d.loadWarnings(spec)
}

// size fits maps and constants to the configuration and the machine.
func (d *Datapath) size(spec *ebpf.CollectionSpec) error {
	spec.Maps[objects.FlowMapEbbFlows4].InnerMap.MaxEntries = d.cfg.MaxFlows
	spec.Maps[objects.FlowMapEbbFlows6].InnerMap.MaxEntries = d.cfg.MaxFlows
	slots := d.points.slots()
	spec.Maps[objects.FlowMapEbbPoints].MaxEntries = slots
	spec.Maps[objects.FlowMapEbbHints].MaxEntries = d.cfg.HintBytes
	spec.Maps[objects.FlowMapEbbTotals].MaxEntries = d.totalIndex(2, 0, 0, Ingress)
	var vxlan [maxVXLANPorts]uint16
	copy(vxlan[:], d.cfg.Tunnels.VXLANPorts)
	for name, value := range map[string]any{
		objects.FlowVarEbbCpus:       uint32(d.cpus),
		objects.FlowVarEbbSlots:      slots,
		objects.FlowVarEbbSlotMask:   d.points.mask,
		objects.FlowVarEbbVxlanPort:  vxlan,
		objects.FlowVarEbbGenevePort: d.cfg.Tunnels.GenevePort,
		objects.FlowVarEbbReplay:     boolByte(d.cfg.Replay),
		objects.FlowVarEbbHealth:     boolByte(d.cfg.Health),
		objects.FlowVarEbbOwner:      boolByte(d.cfg.Owner),
		objects.FlowVarEbbDns:        boolByte(d.cfg.Hints.DNS),
		objects.FlowVarEbbTls:        boolByte(d.cfg.Hints.TLS),
		objects.FlowVarEbbHttp:       boolByte(d.cfg.Hints.HTTP),
		objects.FlowVarEbbQuic:       boolByte(d.cfg.Hints.QUIC),
		objects.FlowVarEbbAtomic:     boolByte(d.cfg.sharedEntries || preemptRT()),
		objects.FlowVarEbbFastPath:   boolByte(!d.cfg.generalParser),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return d.sizeWarnings(spec)
}

// Close detaches everything and frees programs and maps.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for place := range d.attached {
		errs = append(errs, d.detach(place))
	}
	for _, l := range d.resting {
		errs = append(errs, l.Close())
	}
	for _, p := range d.instances {
		errs = append(errs, p.close())
	}
	if d.hints != nil {
		errs = append(errs, d.hints.close())
	}
	for _, families := range d.inner {
		for _, m := range families {
			if m != nil {
				errs = append(errs, m.Close())
			}
		}
	}
	for _, m := range d.sources {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	errs = append(errs, d.objs.Close())
	if d.rest != nil {
		d.rest.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close datapath: %w", err)
	}
	return nil
}

// Full reports whether the active buffer has refused a flow since the last
// drain. It costs a memory read.
func (d *Datapath) Full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var full [2]uint32
	if err := d.objs.EbbFull.Get(&full); err != nil {
		return false
	}
	return full[d.generation] != 0
}

// MapBytes returns the kernel memory that the maps take when full, in bytes:
// the kernel's own account where it has one (since Linux 6.4 it includes all
// overhead), else the sum of keys and values.
func (d *Datapath) MapBytes() uint64 {
	all := slices.Collect(maps.Values(d.maps))
	all = append(all, d.inner[0][family4], d.inner[0][family6], d.inner[1][family4], d.inner[1][family6], d.sources[0], d.sources[1])
	var sum uint64
	for _, m := range all {
		if m == nil {
			continue
		}
		if info, err := m.Info(); err == nil {
			if bytes, ok := info.Memlock(); ok {
				sum += bytes
				continue
			}
		}
		sum += uint64(m.MaxEntries()) * uint64(m.KeySize()+m.ValueSize())
	}
	return sum
}

// totalIndex is where ebb_find_total in bpf/lib/count.h looks; features, which have
// one generation, lie in the same order.
func (d *Datapath) totalIndex(generation, cpu, slot uint32, dir Direction) uint32 {
	return ((generation*uint32(d.cpus)+cpu)*d.points.slots()+slot)*2 + uint32(dir)
}

func boolByte(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}
