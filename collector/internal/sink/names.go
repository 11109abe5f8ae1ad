package sink

import (
	"slices"

	"github.com/ClickHouse/ch-go/proto"
)

// interner numbers the names of a block, so that each is looked up once a batch,
// however many columns and rows hold it. Number 0 is "".
type interner struct {
	numbers map[string]uint32
	names   []string
	text    int          // bytes of names
	batch   []uint32     // numbers of the names of the batch that is being appended
	index   proto.ColStr // dictionary of the column that is being written
}

func (n *interner) init() {
	n.numbers = make(map[string]uint32)
	n.number("")
}

func (n *interner) number(s string) uint32 {
	if k, ok := n.numbers[s]; ok {
		return k
	}
	k := uint32(len(n.names))
	n.numbers[s] = k
	n.names = append(n.names, s)
	n.text += len(s)
	return k
}

// load numbers the names of a batch.
func (n *interner) load(names []string) {
	n.batch = n.batch[:0]
	for _, s := range names {
		n.batch = append(n.batch, n.number(s))
	}
}

// bytes returns what the names take: the text, and entries of map and slice.
func (n *interner) bytes() int {
	const entry = 64
	return n.text + entry*(len(n.names)-1)
}

// reset forgets all names. A map that has grown large is dropped, so that a
// flood of names does not stay in memory.
func (n *interner) reset() {
	if len(n.names) > 1<<16 {
		*n = interner{}
		n.init()
		return
	}
	clear(n.numbers)
	clear(n.names)
	n.names, n.text = n.names[:0], 0
	n.number("")
}

// nameColumn is a LowCardinality(String) column of names that an interner
// numbers. The names of its dictionary are put together when it is written.
type nameColumn struct {
	proto.ColLowCardinalityRaw
	names *interner
	used  []uint32 // numbers of the dictionary's names, by key
	keys  []uint32 // key plus one, by number; 0 for a name that the column does not hold
	text  int      // bytes of the dictionary
}

func (c *nameColumn) init(names *interner) {
	c.names = names
	c.Index, c.Key = &names.index, proto.KeyUInt32
}

// key returns the key of a name by its number.
func (c *nameColumn) key(number uint32) uint32 {
	if k := c.keys[number]; k != 0 {
		return k - 1
	}
	c.used = append(c.used, number)
	c.keys[number] = uint32(len(c.used))
	c.text += len(c.names.names[number])
	return uint32(len(c.used)) - 1
}

// grow makes room for the numbers of names that are new since the last call.
func (c *nameColumn) grow() { c.keys = appendZeros(c.keys, len(c.names.names)-len(c.keys)) }

// appendIndices appends the names of the batch that indices point to.
func (c *nameColumn) appendIndices(indices []uint32) {
	c.grow()
	at := len(c.Keys32)
	c.Keys32 = slices.Grow(c.Keys32, len(indices))[:at+len(indices)]
	out := c.Keys32[at:]
	for i, index := range indices {
		out[i] = c.key(c.names.batch[index])
	}
}

// appendNames appends the names of an attribute: 0 is "", which has key 0, and
// other values are one more than an index into the names of the batch.
func (c *nameColumn) appendNames(values []uint32) {
	c.grow()
	at := len(c.Keys32)
	c.Keys32 = slices.Grow(c.Keys32, len(values))[:at+len(values)]
	out := c.Keys32[at:]
	for i, v := range values {
		if v == 0 {
			out[i] = 0
		} else {
			out[i] = c.key(c.names.batch[v-1])
		}
	}
}

// bytes returns what the dictionary takes, here and in an insert.
func (c *nameColumn) bytes() int { return c.text + 4*len(c.used) + 4*len(c.keys) }

// Type implements proto.ColInput.
func (c *nameColumn) Type() proto.ColumnType {
	return proto.ColumnTypeLowCardinality.Sub(proto.ColumnTypeString)
}

func (c *nameColumn) fill() {
	c.names.index.Reset()
	for _, number := range c.used {
		c.names.index.Append(c.names.names[number])
	}
}

// EncodeColumn implements proto.ColInput.
func (c *nameColumn) EncodeColumn(b *proto.Buffer) {
	c.fill()
	c.ColLowCardinalityRaw.EncodeColumn(b)
}

// WriteColumn implements proto.ColInput. Only the keys may be captured by w: the
// dictionary is copied, so that the next column may use its memory.
func (c *nameColumn) WriteColumn(w *proto.Writer) {
	c.fill()
	c.ColLowCardinalityRaw.WriteColumn(w)
}

// Reset empties the column. It is to be reset with its interner.
func (c *nameColumn) Reset() {
	c.Keys32 = c.Keys32[:0]
	if len(c.keys) > 1<<16 {
		c.keys, c.used = nil, nil
	}
	c.keys, c.used, c.text = c.keys[:0], c.used[:0], 0
}

// appendZeros appends n zeros, none if n is negative.
func appendZeros[T any](column []T, n int) []T {
	if n <= 0 {
		return column
	}
	at := len(column)
	column = slices.Grow(column, n)[:at+n]
	clear(column[at:])
	return column
}
