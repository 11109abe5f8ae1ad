package sink

import (
	"hash/maphash"
	"slices"

	"github.com/ClickHouse/ch-go/proto"
)

// interner numbers the names of a block, so that each is looked up once a batch,
// however many columns and rows hold it. Number 0 is "".
//
// The names and the table are each one piece of memory, because looking up
// thousands of names a second is waiting for memory.
type interner struct {
	seed  maphash.Seed
	slots []slot // a hash table with linear probing, at most half full, of a power of two
	text  []byte // of all names, one after the other
	ends  []uint32
	batch []entry // of the names of the batch that is being appended, after ""

	// Of the column that is being written.
	used     []uint32 // numbers of its names, by key
	keys     []uint32 // by entry
	byNumber []uint32 // key plus one, 0 of a name that the column does not hold
}

// slot is a name's hash, and its number plus one; 0 is free. Most names are told
// apart without a look at them.
type slot struct{ hash, number uint32 }

// entry is a name of a batch.
type entry struct{ number, length uint32 }

const fewSlots = 1 << 10

func (n *interner) init() {
	n.seed, n.slots = maphash.MakeSeed(), make([]slot, fewSlots)
	n.number("")
}

// name returns the name of a number, valid until the next one is added.
func (n *interner) name(number uint32) []byte {
	if number == 0 {
		return nil
	}
	return n.text[n.ends[number-1]:n.ends[number]]
}

// number returns the number of a name. It keeps a copy of a new one.
func (n *interner) number(s string) uint32 {
	hash := uint32(maphash.String(n.seed, s))
	mask := uint32(len(n.slots)) - 1
	at := hash & mask
	for ; n.slots[at].number != 0; at = (at + 1) & mask {
		if slot := n.slots[at]; slot.hash == hash && string(n.name(slot.number-1)) == s {
			return slot.number - 1
		}
	}
	n.text = append(n.text, s...)
	n.ends = append(n.ends, uint32(len(n.text)))
	n.slots[at] = slot{hash, uint32(len(n.ends))}
	if 2*len(n.ends) > len(n.slots) {
		n.double()
	}
	return uint32(len(n.ends)) - 1
}

func (n *interner) double() {
	old := n.slots
	n.slots = make([]slot, 2*len(old))
	mask := uint32(len(n.slots)) - 1
	for _, s := range old {
		at := s.hash & mask
		for s.number != 0 && n.slots[at].number != 0 {
			at = (at + 1) & mask
		}
		if s.number != 0 {
			n.slots[at] = s
		}
	}
}

// load numbers the names of a batch.
func (n *interner) load(names []string) {
	n.batch = append(n.batch[:0], entry{})
	for _, s := range names {
		n.batch = append(n.batch, entry{n.number(s), uint32(len(s))})
	}
}

// bytes returns what the names take: the text, and entries of table and slices.
func (n *interner) bytes() int {
	const entry = 64
	return len(n.text) + entry*(len(n.ends)-1)
}

// reset forgets all names. What has grown large is dropped, so that a flood of
// names does not stay in memory.
func (n *interner) reset() {
	if len(n.ends) > 1<<16 {
		*n = interner{}
		n.init()
		return
	}
	clear(n.slots)
	n.text, n.ends = n.text[:0], n.ends[:0]
	n.number("")
}

// Of the wire form of a LowCardinality column: shared dictionaries with
// additional keys, all of which come with the column.
const (
	dictionaryVersion = 1
	dictionaryIsWhole = 1<<9 | 1<<10
)

// encodeDictionary begins a column of rows names: it appends the dictionary of
// those that entries number, and returns the entries' keys and their width in
// bytes. The keys are valid until the next call.
func (n *interner) encodeDictionary(b *proto.Buffer, entries []uint32, rows int) (keys []uint32, width int) {
	n.used = n.used[:0]
	n.byNumber = appendZeros(n.byNumber[:0], len(n.ends))
	n.keys = slices.Grow(n.keys[:0], len(entries)+most8)[:len(entries)]
	for i, number := range entries {
		if n.byNumber[number] == 0 {
			n.used = append(n.used, number)
			n.byNumber[number] = uint32(len(n.used))
		}
		n.keys[i] = n.byNumber[number] - 1
	}
	width = keyWidth(len(n.used))
	key := map[int]proto.CardinalityKey{1: proto.KeyUInt8, 2: proto.KeyUInt16, 4: proto.KeyUInt32}[width]
	b.PutInt64(dictionaryIsWhole | int64(key))
	b.PutInt64(int64(len(n.used)))
	for _, number := range n.used {
		name := n.name(number)
		b.PutUVarInt(uint64(len(name)))
		b.PutRaw(name)
	}
	b.PutInt64(int64(rows))
	return n.keys, width
}

// keyWidth returns the bytes of a key into a dictionary of n names.
func keyWidth(n int) int {
	switch {
	case n <= 1<<8:
		return 1
	case n <= 1<<16:
		return 2
	}
	return 4
}

// extend makes column n entries longer; what they hold is undefined.
func extend[T any](column []T, n int) []T {
	return slices.Grow(column, n)[:len(column)+n]
}

// appendZeros appends n zeros, none if n is negative.
func appendZeros[T any](column []T, n int) []T {
	if n <= 0 {
		return column
	}
	at := len(column)
	column = extend(column, n)
	clear(column[at:])
	return column
}
