package flowbpf

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"unsafe"
)

// arena holds the entries of a drain until those of each conversation are
// together, and keeps its memory for the next drain. Most of an entry is zeros,
// which it leaves out: of 216 bytes a datagram one way takes some 80, a whole TCP
// connection 190.
//
// A record is a word with the next record of the same conversation and, by bit,
// which words of the value there are; the key; and those words, which are not
// zero. It is named by where it begins, in words, plus 1, so that 0 is none.
// Without pointers the garbage collector need not look into it.
type arena struct {
	chunks  [][]uint64 // of chunkWords each; the length is what records take
	used    int        // chunks that hold records
	records int
	index   []uint32 // the first record of each conversation, by hash, with open addressing
	seed    maphash.Seed

	// What one system call reads, and one conversation.
	keys4  []key4
	keys6  []key6
	flows  []flow
	group  []Entry
	places []where // of the group's members
	merged []flow  // their values
}

const (
	chunkWords = 1 << 15
	flowWords  = int(unsafe.Sizeof(flow{}) / 8)
	// maxRecord is the most words of a record.
	maxRecord = 1 + int(unsafe.Sizeof(key6{})/8) + flowWords
	// nextShift is where the first word of a record has the next one; below it is
	// the mask.
	nextShift = 32
	// maxGroup is how many entries of one conversation are visited together. Anybody can
	// send between the same endpoints in any number of tunnels or VLANs, and
	// those who visit compare every two of them.
	maxGroup = 256
)

func newArena() arena { return arena{seed: maphash.MakeSeed()} }

func (a *arena) reset() { a.used, a.records = 0, 0 }

// trim lets go of memory that a drain of so many chunks hardly used, so that a
// flood does not hold it for ever.
func (a *arena) trim(used int) {
	if len(a.chunks) > 8 && used < len(a.chunks)/8 {
		a.chunks, a.index = a.chunks[:used:used], nil
	}
}

// put adds a record. Neither keys nor values have padding, as the layout test checks.
func put[K comparable](a *arena, k *K, f *flow) {
	if a.used == 0 || chunkWords-len(a.chunks[a.used-1]) < maxRecord {
		if a.used == len(a.chunks) {
			a.chunks = append(a.chunks, make([]uint64, 0, chunkWords))
		}
		a.chunks[a.used] = a.chunks[a.used][:0]
		a.used++
	}
	chunk := &a.chunks[a.used-1]
	at := len(*chunk)
	record := (*chunk)[at : at+maxRecord]
	*recordKey[K](record) = *k
	n, mask := valueAt[K](), uint64(0)
	for i, w := range (*[flowWords]uint64)(unsafe.Pointer(f)) {
		record[n] = w
		if w != 0 {
			n++
			mask |= 1 << i
		}
	}
	record[0] = mask
	*chunk = (*chunk)[:at+n]
	a.records++
}

// valueAt is where the value begins in a record with keys of this type.
func valueAt[K comparable]() int {
	var k K
	return 1 + int(unsafe.Sizeof(k)/8)
}

func recordKey[K comparable](record []uint64) *K { return (*K)(unsafe.Pointer(&record[1])) }

func recordWords[K comparable](record []uint64) int {
	return valueAt[K]() + bits.OnesCount32(uint32(record[0]))
}

// record returns what begins at a name.
func (a *arena) record(name uint32) []uint64 {
	return a.chunks[(name-1)/chunkWords][(name-1)%chunkWords:]
}

// unpack sets f, which is zero, to a record's value.
func unpack[K comparable](record []uint64, f *flow) {
	to, n := (*[flowWords]uint64)(unsafe.Pointer(f)), valueAt[K]()
	for mask := uint32(record[0]); mask != 0; mask &= mask - 1 {
		to[bits.TrailingZeros32(mask)] = record[n]
		n++
	}
}

// chain brings the records of each conversation together. plain returns a key
// without all that is not the conversation's, and what of that tells places apart.
func chain[K comparable](a *arena, plain func(K) (K, where)) {
	size := 1 << bits.Len(uint(2*a.records))
	if size > len(a.index) {
		a.index = make([]uint32, size)
	}
	clear(a.index)
	for i, chunk := range a.chunks[:a.used] {
		for at := 0; at < len(chunk); {
			record := chunk[at:]
			chainRecord(a, uint32(i*chunkWords+at+1), record, plain)
			at += recordWords[K](record)
		}
	}
}

func chainRecord[K comparable](a *arena, name uint32, record []uint64, plain func(K) (K, where)) {
	k, _ := plain(*recordKey[K](record))
	mask := uint64(len(a.index) - 1)
	for i := maphash.Comparable(a.seed, k) & mask; ; i = (i + 1) & mask {
		if a.index[i] == 0 {
			a.index[i] = name
			return
		}
		first := a.record(a.index[i])
		if other, _ := plain(*recordKey[K](first)); other == k { // this one becomes the second
			record[0] |= first[0] >> nextShift << nextShift
			first[0] = uint64(uint32(first[0])) | uint64(name)<<nextShift
			return
		}
	}
}

// visitChained calls visit for each conversation with an entry for each place and
// the like that it was seen at: what CPUs counted apart is merged. One with more
// than maxGroup entries is visited in parts.
func visitChained[K comparable](a *arena, plain func(K) (K, where), set func(*Entry, *K), visit func([]Entry)) {
	flush := func() {
		for i := range a.group {
			a.group[i].setFlow(&a.merged[i])
		}
		visit(a.group)
		a.group, a.places, a.merged = a.group[:0], a.places[:0], a.merged[:0]
	}
	for _, name := range a.index {
		if name == 0 {
			continue
		}
		for name != 0 {
			if len(a.group) == maxGroup {
				flush()
			}
			record := a.record(name)
			gather(a, record, plain, set)
			name = uint32(record[0] >> nextShift)
		}
		flush()
	}
}

// gather adds a record to the group at hand.
func gather[K comparable](a *arena, record []uint64, plain func(K) (K, where), set func(*Entry, *K)) {
	_, mine := plain(*recordKey[K](record))
	a.merged = append(a.merged, flow{})
	f := &a.merged[len(a.merged)-1]
	unpack[K](record, f)
	if i := slices.Index(a.places, mine); i >= 0 {
		merge(&a.merged[i], f)
		a.merged = a.merged[:len(a.merged)-1]
		return
	}
	a.places = append(a.places, mine)
	a.group = append(a.group, Entry{})
	set(&a.group[len(a.group)-1], recordKey[K](record))
}
