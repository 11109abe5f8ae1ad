// Package trace tells what the kernel dropped, and why, and which TCP segments
// its sockets sent again, by conversation. It also sees packets that never reach
// an interface.
//
// Nothing here is required: Features says what works on this kernel.
package trace

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Key says whose a Loss is: a conversation's, in the network namespaces that are
// watched. Where the kernel does not tell the namespace the loss is unplaced, and
// may be that of other hosts on this kernel, as containers are, with the same
// addresses: mostly a TCP segment that was received before, and a datagram that
// found its receiver's buffer full, on kernels before 6.11.
type Key struct {
	flowbpf.Key
	Unplaced bool
}

// Loss is what one conversation suffered since the last drain. Index 0 is what
// endpoint A of its key sent, 1 what B sent.
type Loss struct {
	Drops     [2]uint64 // packets dropped; a super-packet counts its segments
	DropBytes [2]uint64 // of those from the IP header on, a super-packet as the kernel had it
	// Reason is the most frequent reason of the drops by the kernel's own name
	// without prefix, "NO_SOCKET"; a number where it has none. "" without drops.
	Reason      string
	Retransmits [2]uint64 // TCP segments that a socket of this host sent again
}

// Stats counts, since the start, what is in no Loss.
type Stats struct {
	Overflow    uint64 // drops and retransmitted segments without room in the map
	Unreadable  uint64 // drops of IP packets without a header that could be read
	Interrupted uint64 // events while the same program ran on that CPU

	// How often the programs ran, and for how long: only while the kernel keeps
	// statistics of BPF programs (sysctl kernel.bpf_stats_enabled).
	Runs    uint64
	RunTime time.Duration
}

// Tracer counts. Make it with Open. Drain and Stats may be called from several
// goroutines; Close must be the last call.
type Tracer struct {
	features []flowbpf.Feature
	names    reasons
	entries  uint32

	maps     *ebpf.Collection
	inner    [2]*ebpf.Map
	programs []*ebpf.Collection
	links    []io.Closer

	mu         sync.Mutex // guards what follows
	generation uint32
	keys       []objects.TraceEbbLossKey
	values     []objects.TraceEbbLoss
}

// entries is how many conversations, for each CPU, can lose something between
// two drains; each takes about 350 bytes of kernel memory.
const entries = 8192

// batch is how many entries one system call reads.
const batch = 1024

// Open loads what this kernel and these privileges allow, and logs what they do
// not. Events in the calling thread's network namespace are counted from here on;
// those in others once Watch was told of them.
func Open(log *slog.Logger) *Tracer {
	names, err := readReasons()
	return openWith(log, entries, names, err)
}

// openWith is Open with room for so many entries, on a kernel with these reasons or
// without any.
func openWith(log *slog.Logger, entries uint32, names reasons, noReasons error) *Tracer {
	t := &Tracer{names: names, entries: entries, keys: make([]objects.TraceEbbLossKey, batch), values: make([]objects.TraceEbbLoss, batch)}
	drops, retransmits := t.open(noReasons)
	t.features = features(drops, retransmits)
	for _, f := range t.features {
		if f.Err != nil {
			log.Warn("feature is off", "feature", f.Name, "used_to", f.Need, "error", f.Err)
		}
	}
	return t
}

func features(drops, retransmits error) []flowbpf.Feature {
	return []flowbpf.Feature{
		{Name: "drops", Need: "tell what the kernel dropped, and why (Linux 5.17)", Err: drops},
		{Name: "retransmits", Need: "tell what this host's TCP sent again", Err: retransmits},
	}
}

// Features returns what was tried, with the reason where it does not work.
func (t *Tracer) Features() []flowbpf.Feature { return t.features }

// Probe tries the features and leaves nothing behind.
func Probe(privileged bool) []flowbpf.Feature {
	if !privileged {
		return features(flowbpf.ErrNotTested, flowbpf.ErrNotTested)
	}
	t := Open(slog.New(slog.DiscardHandler))
	if err := t.Close(); err != nil && t.features[0].Err == nil {
		t.features[0].Err = err
	}
	return t.features
}

// Watch counts what happens in another network namespace, too: that with the
// cookie (SO_NETNS_COOKIE). Unwatch no longer does. Both may be called concurrently.
func (t *Tracer) Watch(cookie uint64) error {
	if t.maps == nil {
		return nil
	}
	if err := t.maps.Maps[objects.TraceMapEbbLossNets].Put(cookie, uint8(1)); err != nil {
		return fmt.Errorf("watch network namespace: %w", err)
	}
	return nil
}

// Unwatch is the reverse of Watch.
func (t *Tracer) Unwatch(cookie uint64) error {
	if t.maps == nil {
		return nil
	}
	if err := t.maps.Maps[objects.TraceMapEbbLossNets].Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("no longer watch network namespace: %w", err)
	}
	return nil
}

// netCookie returns the number that the kernel gave the calling thread's network
// namespace; it is never used again (SO_NETNS_COOKIE, Linux 5.14).
func netCookie() (uint64, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	return unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// open loads and attaches, without the drops where there are no reasons.
func (t *Tracer) open(noReasons error) (drops, retransmits error) {
	spec, err := objects.LoadTrace()
	if err == nil {
		err = t.load(spec)
	}
	if err == nil {
		err = t.watchOwn()
	}
	if err != nil {
		return err, err
	}
	if drops = noReasons; drops == nil {
		drops = t.attach(objects.TraceProgEbbKfreeSkb)
	}
	retransmits = errors.Join(t.attach(objects.TraceProgEbbRetransmit), t.attach(objects.TraceProgEbbRetransmitSynack))
	return drops, retransmits
}

// watchOwn watches the calling thread's network namespace.
func (t *Tracer) watchOwn() error {
	cookie, err := netCookie()
	if err != nil {
		return fmt.Errorf("identify network namespace: %w", err)
	}
	return t.Watch(cookie)
}

// load makes the maps, without programs.
func (t *Tracer) load(spec *ebpf.CollectionSpec) error {
	spec.Programs = nil
	for name, value := range map[string]any{
		objects.TraceVarEbbNoLoss:       t.names.noLoss,
		objects.TraceVarEbbUnspecified:  t.names.unspecified,
		objects.TraceVarEbbPurgeUnnamed: flag(t.names.unnamed),
		objects.TraceVarEbbReceiverTold: flag(t.names.receiver),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	spec.Maps[objects.TraceMapEbbLosses].InnerMap.MaxEntries = t.entries
	var err error
	if t.maps, err = ebpf.NewCollection(spec); err != nil {
		return fmt.Errorf("create maps of losses: %w", err)
	}
	for generation := range uint32(2) {
		m, err := ebpf.NewMap(spec.Maps[objects.TraceMapEbbLosses].InnerMap)
		if err != nil {
			return fmt.Errorf("create map of losses: %w", err)
		}
		t.inner[generation] = m
		if err := t.maps.Maps[objects.TraceMapEbbLosses].Put(generation, m); err != nil {
			return fmt.Errorf("install map of losses: %w", err)
		}
	}
	return nil
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// attach loads one program beside the maps, and attaches it: each can fail alone.
func (t *Tracer) attach(name string) error {
	spec, err := objects.LoadTrace()
	if err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: t.maps.Maps})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	t.programs = append(t.programs, c)
	l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs[name]})
	if err != nil {
		return fmt.Errorf("attach to tracepoint: %w", err)
	}
	t.links = append(t.links, l)
	return nil
}

// Drain returns what happened since the last drain and forgets it. It waits for
// an RCU grace period, some milliseconds. After an error the rest of what it
// could not read comes with the drain after the next.
func (t *Tracer) Drain() (map[Key]Loss, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.links) == 0 {
		return nil, nil
	}
	old := t.generation
	if err := t.swap(); err != nil {
		return nil, err
	}
	tallies := make(map[Key]*tally)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := t.inner[old].BatchLookupAndDelete(&cursor, t.keys, t.values, nil)
		for i := range n {
			k := key(&t.keys[i])
			if tallies[k] == nil {
				tallies[k] = &tally{}
			}
			tallies[k].add(&t.values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return t.losses(tallies), fmt.Errorf("read losses: %w", err)
		}
	}
	return t.losses(tallies), t.reopen(old)
}

// swap has the programs count in the other generation and waits until none of
// them is in the old one: see package flowbpf.
func (t *Tracer) swap() error {
	next := t.generation ^ 1
	if err := t.maps.Variables[objects.TraceVarEbbLossGeneration].Set(next); err != nil {
		return fmt.Errorf("swap maps of losses: %w", err)
	}
	old := t.generation
	t.generation = next
	if err := t.maps.Maps[objects.TraceMapEbbLosses].Put(old, t.inner[old]); err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	return nil
}

// reopen lets the emptied generation take entries again.
func (t *Tracer) reopen(generation uint32) error {
	var full [2]uint32
	v := t.maps.Variables[objects.TraceVarEbbLossFull]
	if err := v.Get(&full); err != nil {
		return fmt.Errorf("reopen map of losses: %w", err)
	}
	if full[generation] == 0 {
		return nil
	}
	// The other one may become full meanwhile: it is found out again, then.
	full[generation] = 0
	if err := v.Set(full); err != nil {
		return fmt.Errorf("reopen map of losses: %w", err)
	}
	return nil
}

func (t *Tracer) losses(tallies map[Key]*tally) map[Key]Loss {
	all := make(map[Key]Loss, len(tallies))
	for k, c := range tallies {
		loss := c.Loss
		if reason, ok := c.top(); ok {
			loss.Reason = t.names.name(reason)
		}
		all[k] = loss
	}
	return all
}

// tally is the sum over the entries that CPUs have of one conversation.
type tally struct {
	Loss
	times map[uint32]uint64
}

func (c *tally) add(v *objects.TraceEbbLoss) {
	for side := range 2 {
		c.Drops[side] += v.Packets[side]
		c.DropBytes[side] += v.Bytes[side]
		c.Retransmits[side] += v.Retransmits[side]
	}
	for i, reason := range v.Reason {
		if v.Times[i] == 0 {
			continue
		}
		if c.times == nil {
			c.times = make(map[uint32]uint64)
		}
		c.times[reason] += uint64(v.Times[i])
	}
}

// top returns the most frequent reason, of several the lowest number.
func (c *tally) top() (reason uint32, ok bool) {
	var most uint64
	for r, n := range c.times {
		if n > most || (n == most && r < reason) {
			reason, most = r, n
		}
	}
	return reason, most > 0
}

// key makes what the datapath calls the conversation.
func key(k *objects.TraceEbbLossKey) Key {
	return Key{Key: flowbpf.Key{
		A:     *(*[16]byte)(unsafe.Pointer(&k.A)),
		B:     *(*[16]byte)(unsafe.Pointer(&k.B)),
		APort: bits.ReverseBytes16(k.A_port), BPort: bits.ReverseBytes16(k.B_port),
		Proto: k.Proto,
	}, Unplaced: k.Unplaced != 0}
}

// Stats returns the counts since Open.
func (t *Tracer) Stats() (Stats, error) {
	var s Stats
	if len(t.links) == 0 {
		return s, nil
	}
	var rests []objects.TraceEbbLossRest
	if err := t.maps.Maps[objects.TraceMapEbbLossRests].Lookup(uint32(0), &rests); err != nil {
		return s, fmt.Errorf("read counters of losses: %w", err)
	}
	for _, r := range rests {
		s.Overflow += r.Drops + r.Retransmits
		s.Unreadable += r.Unreadable
	}
	for _, c := range t.programs {
		for _, p := range c.Programs {
			stats, err := p.Stats()
			if err != nil {
				return s, fmt.Errorf("read a program's statistics: %w", err)
			}
			s.Interrupted += stats.RecursionMisses
			s.Runs += stats.RunCount
			s.RunTime += stats.Runtime
		}
	}
	return s, nil
}

// Close detaches and frees everything.
func (t *Tracer) Close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	for _, c := range t.programs {
		c.Close()
	}
	for _, m := range t.inner {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if t.maps != nil {
		t.maps.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close tracer: %w", err)
	}
	return nil
}
