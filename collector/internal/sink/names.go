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
	text    int          // bytes that names keep in memory
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
	return k
}

// load numbers the names of a batch. They are parts of one text, which stays in
// memory for the sake of one that is new.
func (n *interner) load(names []string) {
	known, text := len(n.names), 0
	n.batch = n.batch[:0]
	for _, s := range names {
		n.batch = append(n.batch, n.number(s))
		text += len(s)
	}
	if len(n.names) > known {
		n.text += text
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
	c.Index, c.Key = &names.index, proto.KeyUInt8
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
// The first call gives "" key 0.
func (c *nameColumn) grow() {
	c.keys = appendZeros(c.keys, len(c.names.names)-len(c.keys))
	c.key(0)
}

// entries appends the keys of the names of an attribute's entries: 0 is "", and
// other values are one more than an index into the names of the batch.
func (c *nameColumn) entries(keys, values []uint32) []uint32 {
	c.grow()
	batch := c.names.batch
	for _, v := range values {
		var key uint32
		if v != 0 {
			key = c.key(batch[v-1])
		}
		keys = append(keys, key)
	}
	return keys
}

// widen makes the rows' keys wide enough for the dictionary.
func (c *nameColumn) widen() {
	if c.Key == proto.KeyUInt8 && len(c.used) > 1<<8 {
		c.Key, c.Keys16 = proto.KeyUInt16, extend(c.Keys16, len(c.Keys8))
		for i, k := range c.Keys8 {
			c.Keys16[i] = uint16(k)
		}
		c.Keys8 = c.Keys8[:0]
	}
	if c.Key == proto.KeyUInt16 && len(c.used) > 1<<16 {
		c.Key, c.Keys32 = proto.KeyUInt32, extend(c.Keys32, len(c.Keys16))
		for i, k := range c.Keys16 {
			c.Keys32[i] = uint32(k)
		}
		c.Keys16 = c.Keys16[:0]
	}
}

// gather appends keys[i] for each i of index.
func (c *nameColumn) gather(keys, index []uint32, narrow *scratch) {
	c.widen()
	switch c.Key {
	case proto.KeyUInt8:
		c.Keys8 = gather(c.Keys8, convert(&narrow.u8, keys), index)
	case proto.KeyUInt16:
		c.Keys16 = gather(c.Keys16, convert(&narrow.u16, keys), index)
	default:
		c.Keys32 = gather(c.Keys32, keys, index)
	}
}

// zeros appends "" n times.
func (c *nameColumn) zeros(n int) {
	switch c.Key {
	case proto.KeyUInt8:
		c.Keys8 = appendZeros(c.Keys8, n)
	case proto.KeyUInt16:
		c.Keys16 = appendZeros(c.Keys16, n)
	default:
		c.Keys32 = appendZeros(c.Keys32, n)
	}
}

// rowKeys returns the key of each row.
func (c *nameColumn) rowKeys() []uint32 {
	all := make([]uint32, 0, max(len(c.Keys8), len(c.Keys16), len(c.Keys32)))
	switch c.Key {
	case proto.KeyUInt8:
		for _, k := range c.Keys8 {
			all = append(all, uint32(k))
		}
	case proto.KeyUInt16:
		for _, k := range c.Keys16 {
			all = append(all, uint32(k))
		}
	default:
		all = append(all, c.Keys32...)
	}
	return all
}

// bytes returns what the keys and the dictionary take, here and in an insert.
func (c *nameColumn) bytes() int {
	return len(c.Keys8) + 2*len(c.Keys16) + 4*len(c.Keys32) + c.text + 4*len(c.used) + 4*len(c.keys)
}

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
	c.Key, c.Keys8, c.Keys16, c.Keys32 = proto.KeyUInt8, c.Keys8[:0], c.Keys16[:0], c.Keys32[:0]
	if len(c.keys) > 1<<16 {
		c.keys, c.used = nil, nil
	}
	c.keys, c.used, c.text = c.keys[:0], c.used[:0], 0
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
