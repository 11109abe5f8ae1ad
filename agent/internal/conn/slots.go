package conn

import (
	"hash/maphash"
	"math/bits"
	"net/netip"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// key names a conversation: the endpoints in flowbpf's order and the protocol.
// Interface and VLAN are not part of it: a conversation that this host forwards
// passes two of them and stays one. Addresses that mean something on one link
// only (link-local, unspecified, broadcast) are another matter: there, scope is
// the interface, else zero. Without pointers the garbage collector need
// not look into the table.
type key struct {
	a, b         [16]byte
	aPort, bPort uint16
	proto        uint8
	tunnel       uint8
	mapped       bool // as flowbpf.Key has it
	tunnelID     uint32
	scope        flowbpf.Place
}

func keyOf(e *flowbpf.Entry) key {
	k := keyNamed(e.Key())
	if linkScoped(e.A) || linkScoped(e.B) {
		k.scope = e.Place
	}
	return k
}

// addr is the address a or b of k, as entries have it.
func (k *key) addr(b [16]byte) netip.Addr {
	if k.mapped {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom16(b).Unmap()
}

func linkScoped(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast() || a.IsUnspecified() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// conversation is what the table remembers. Its times are CLOCK_MONOTONIC.
type conversation struct {
	key             key
	next            uint32 // in the chain of its bucket, or of unused slots: index + 1
	firstNS, lastNS int64
	synNS           int64         // the initiator's first SYN
	place           flowbpf.Place // of its last record
	vlan            uint16        // of its last record
	drain           uint32        // the last drain that had a record of it
	seen            [2]Seen
	src             uint8 // the side that is Flow.Src
	from            uint8 // the same, in the last record
	icmpType        uint8 // of src: see icmp
	icmpCode        uint8
	initiator       ebbwatch.Initiator
	state           ebbwatch.ConnState
	dirA            flowbpf.Direction // the way side A's packets go where they are accounted: see towards
	used            bool
	repeated        bool // more than one record so far
	timed           bool // its handshake was
	seeded          bool // open before the agent, as the kernel told
	over            bool // ended; kept for its stragglers
	fresh           bool // began in an interval whose record is another's; has no record yet
}

// slots holds conversations in arrays, found through chains of indices. A Go
// map beside the arrays would take as much memory again, for a second copy of
// the keys.
type slots struct {
	chunks  []*[chunkSize]conversation
	filled  int      // slots that were ever used: those of the chunks' beginning
	most    int      // slots that may be
	buckets []uint32 // the first of each chain: index + 1, 0 for none
	unused  uint32   // the first of the chain of unused slots: index + 1, 0 for none
	used    int
	seed    maphash.Seed // random, so that nobody can choose colliding addresses
}

// chunkSize is how many conversations memory is taken for at a time. One array of
// most of them would count as live from the start, and let the garbage
// collector wait until there is as much garbage again.
const chunkSize = 1 << 10

func newSlots(most int) slots {
	return slots{most: most, buckets: make([]uint32, 1<<bits.Len(uint(most-1))), seed: maphash.MakeSeed()}
}

// at returns slot i, which is below filled.
func (s *slots) at(i uint32) *conversation { return &s.chunks[i/chunkSize][i%chunkSize] }

// all yields every slot that was ever used.
func (s *slots) all(yield func(*conversation) bool) {
	for i := range uint32(s.filled) {
		if !yield(s.at(i)) {
			return
		}
	}
}

func (s *slots) bucket(k *key) *uint32 {
	return &s.buckets[maphash.Comparable(s.seed, *k)&uint64(len(s.buckets)-1)]
}

// find returns the conversation of k, nil if there is none.
func (s *slots) find(k *key) *conversation {
	for i := *s.bucket(k); i != 0; {
		c := s.at(i - 1)
		if c.key == *k {
			return c
		}
		i = c.next
	}
	return nil
}

// full reports whether add has no room.
func (s *slots) full() bool { return s.unused == 0 && s.filled == s.most }

// add returns a conversation that is empty but for its key.
func (s *slots) add(k *key) *conversation {
	i := s.unused
	if i != 0 {
		s.unused = s.at(i - 1).next
	} else {
		if s.filled == len(s.chunks)*chunkSize {
			s.chunks = append(s.chunks, new([chunkSize]conversation))
		}
		s.filled++
		i = uint32(s.filled)
	}
	b, c := s.bucket(k), s.at(i-1)
	*c = conversation{key: *k, next: *b, used: true}
	*b = i
	s.used++
	return c
}

// remove forgets c, which belongs to s.
func (s *slots) remove(c *conversation) {
	link := s.bucket(&c.key)
	for s.at(*link-1) != c {
		link = &s.at(*link - 1).next
	}
	i := *link
	*link = c.next
	*c = conversation{next: s.unused}
	s.unused = i
	s.used--
}
