package sink

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/ClickHouse/ch-go/proto"
)

// A block keeps the columns that a batch holds by combination as they come: the
// entries of each batch, and of each record which it has. They are expanded when
// an insert is written, one column after the other, so that what is read is in
// the cache, what is written is in order, and a block that waits is small.

// codes say which of the entries each record of a block has. Entry 0 of every
// column is its default.
type codes[I uint16 | uint32] struct {
	index   []I // of the records of indexed parts: entries above the first of their part
	parts   []part
	entries int // that a column of these codes has
	records int
}

func (c *codes[I]) init() { c.entries = 1 }

// part is what one batch added.
type part struct {
	records int32
	first   int32 // entry
	entries int32
	indexed bool // else all records have the first entry
}

// add says that index tells the entries of the next records, which are in number more.
func (c *codes[I]) add(index []I, number int) {
	c.parts = append(c.parts, part{int32(len(index)), int32(c.entries), int32(number), true})
	c.index = append(c.index, index...)
	c.entries, c.records = c.entries+number, c.records+len(index)
}

// addSame says that the next records have the given entry.
func (c *codes[I]) addSame(entry, records int) {
	c.parts = append(c.parts, part{records: int32(records), first: int32(entry)})
	c.records += records
}

func (c *codes[I]) bytes() int {
	const part = 16
	return bits.Len64(uint64(^I(0)))/8*len(c.index) + part*len(c.parts)
}

func (c *codes[I]) reset() {
	*c = codes[I]{index: c.index[:0], parts: c.parts[:0]}
	c.init()
}

// each calls visit for each part with the first of its entries and its index, nil
// if there is none.
func (c *codes[I]) each(visit func(p part, index []I)) {
	at := 0
	for _, p := range c.parts {
		if !p.indexed {
			visit(p, nil)
			continue
		}
		visit(p, c.index[at:at+int(p.records)])
		at += int(p.records)
	}
}

// coded is a column of small integers or names, expanded from codes.
type coded[I uint16 | uint32] struct {
	codes   *codes[I]
	names   *interner // nil of integers; else entries are numbers of names
	width   int       // bytes of an integer
	kind    proto.ColumnType
	entries []uint32
	text    int // bytes of the entries' names
}

// newNames returns a column of names.
func newNames[I uint16 | uint32](codes *codes[I], names *interner) *coded[I] {
	return &coded[I]{codes: codes, names: names, kind: proto.ColumnTypeLowCardinality.Sub(proto.ColumnTypeString), entries: []uint32{0}}
}

// addName adds an entry.
func (c *coded[I]) addName(e entry) {
	c.entries = append(c.entries, e.number)
	c.text += int(e.length)
}

// reset leaves the default.
func (c *coded[I]) reset() { c.entries, c.text = c.entries[:1], 0 }

// Type implements proto.ColInput.
func (c *coded[I]) Type() proto.ColumnType { return c.kind }

// Rows implements proto.ColInput.
func (c *coded[I]) Rows() int { return c.codes.records }

// EncodeState implements proto.StateEncoder.
func (c *coded[I]) EncodeState(b *proto.Buffer) {
	if c.names != nil {
		b.PutInt64(dictionaryVersion)
	}
}

// WriteColumn implements proto.ColInput.
func (c *coded[I]) WriteColumn(w *proto.Writer) { w.ChainBuffer(c.EncodeColumn) }

// EncodeColumn implements proto.ColInput.
func (c *coded[I]) EncodeColumn(b *proto.Buffer) {
	if c.Rows() == 0 {
		return
	}
	c.entries = slices.Grow(c.entries, most8)
	entries, width := c.entries, c.width
	if c.names != nil {
		entries, width = c.names.encodeDictionary(b, entries, c.Rows())
	}
	at := len(b.Buf)
	b.Buf = extend(b.Buf, c.Rows()*width)
	c.codes.each(func(p part, index []I) {
		put(b.Buf[at:], entries[p.first:], p, index, width)
		at += int(p.records) * width
	})
}

// most8 is how many entries 8 bits tell apart.
const most8 = 1 << 8

// put writes the entries of the records of a part, which fit width bytes, to the
// beginning of to.
func put[I uint16 | uint32](to []byte, entries []uint32, p part, index []I, width int) {
	switch {
	case !p.indexed:
		for k := range int(p.records) {
			putOne(to, k, entries[0], width)
		}
	case p.entries <= most8 && cap(entries) >= most8: // the usual case needs no check of bounds
		few := (*[most8]uint32)(entries[:most8])
		switch width {
		case 1:
			for k, i := range index {
				to[k] = byte(few[uint8(i)])
			}
		case 2:
			for k, i := range index {
				binary.LittleEndian.PutUint16(to[2*k:], uint16(few[uint8(i)]))
			}
		default:
			for k, i := range index {
				binary.LittleEndian.PutUint32(to[4*k:], few[uint8(i)])
			}
		}
	default:
		for k, i := range index {
			putOne(to, k, entries[i], width)
		}
	}
}

// putOne writes value k.
func putOne(to []byte, k int, v uint32, width int) {
	switch width {
	case 1:
		to[k] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(to[2*k:], uint16(v))
	default:
		binary.LittleEndian.PutUint32(to[4*k:], v)
	}
}

// bytes returns what the column takes: its entries, and the values and the
// dictionary of an insert.
func (c *coded[I]) bytes() int {
	const entry = 4
	entries, width := entry*(len(c.entries)-1), c.width
	if c.names != nil {
		entries, width = entries+min(c.text, len(c.names.text)), keyWidth(min(len(c.entries), len(c.names.ends)))
	}
	return entries + width*c.Rows()
}

// addresses is a column of addresses, expanded from codes.
type addresses struct {
	codes *codes[uint32]
	addrs *[]proto.IPv6
}

// Type implements proto.ColInput.
func (a addresses) Type() proto.ColumnType { return proto.ColumnTypeIPv6 }

// Rows implements proto.ColInput.
func (a addresses) Rows() int { return a.codes.records }

// WriteColumn implements proto.ColInput.
func (a addresses) WriteColumn(w *proto.Writer) { w.ChainBuffer(a.EncodeColumn) }

// EncodeColumn implements proto.ColInput.
func (a addresses) EncodeColumn(b *proto.Buffer) {
	const size = len(proto.IPv6{})
	at := len(b.Buf)
	b.Buf = extend(b.Buf, size*a.Rows())
	a.codes.each(func(p part, index []uint32) {
		addrs := (*a.addrs)[p.first:]
		for _, i := range index {
			*(*proto.IPv6)(b.Buf[at:]) = addrs[i]
			at += size
		}
	})
}
