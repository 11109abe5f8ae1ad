package ebbwatch

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// column is one column of a Batch with an entry a record, so that the codec and
// the validation walk one list. Exactly one of the pointers is set. Adding a
// column touches Batch, Flow, Append, and that list.
type column struct {
	name  string
	field protowire.Number
	u16   *[]uint16
	u32   *[]uint32
	u64   *[]uint64
}

const columnCount = 14

// Plain is a column of which nothing has to be known to store it but that it is
// whole. The order is that of the fields.
type Plain uint8

// Columns that a decoder may keep as they come.
const (
	PlainSrcPort     Plain = iota // uint16
	PlainDstPort                  // uint16
	PlainSrcPackets               // uint64
	PlainSrcBytes                 // uint64
	PlainDstPackets               // uint64
	PlainDstBytes                 // uint64
	PlainAgeMS                    // uint32
	PlainHandshakeUS              // uint32
	PlainRTTUS                    // uint32
	PlainLatencyUS                // uint32
	// Plains is how many there are.
	Plains

	firstPlain = 20 // field
)

// UnpackPlain replaces col with the n values of a packed plain column of a batch,
// nil for zeros. It panics if packed is not what Decode checked or KeepPlain made.
func UnpackPlain[T uint16 | uint32 | uint64](col []T, packed []byte, n int) []T {
	col, err := unpack(col, packed, n)
	if err != nil {
		panic(fmt.Sprintf("a column that was not checked: %v", err))
	}
	return col
}

// KeepPlain fills in PlainColumns, as a decoder with InPlace set does, from the
// columns that Append has filled.
func (b *Batch) KeepPlain() {
	b.packed = b.packed[:0]
	cols := b.columns()
	var ends [Plains]int
	for i := range cols {
		if plain, ok := cols[i].plain(); ok {
			b.packed = cols[i].appendPacked(b.packed)
			ends[plain] = len(b.packed)
		}
	}
	at := 0
	for plain, end := range ends {
		b.PlainColumns[plain], at = b.packed[at:end:end], end
	}
	b.keptPlain = true
}

// KeptPlain reports whether PlainColumns is filled in.
func (b *Batch) KeptPlain() bool { return b.keptPlain }

// plain returns which plain column this is, if it is one.
func (c *column) plain() (Plain, bool) {
	return Plain(c.field - firstPlain), c.field >= firstPlain && c.field < firstPlain+protowire.Number(Plains)
}

// columns lists every column in the order of its field number, but start, which
// is a distance on the wire. It is an array so that it needs no memory of its
// own: it is made for every batch.
func (b *Batch) columns() [columnCount - 1]column {
	return [...]column{
		{name: "duration", field: 17, u64: &b.Duration},
		{name: "src_addr", field: 18, u32: &b.SrcAddr},
		{name: "dst_addr", field: 19, u32: &b.DstAddr},
		{name: "src_port", field: 20, u16: &b.SrcPort},
		{name: "dst_port", field: 21, u16: &b.DstPort},
		{name: "src_packets", field: 22, u64: &b.SrcPackets},
		{name: "src_bytes", field: 23, u64: &b.SrcBytes},
		{name: "dst_packets", field: 24, u64: &b.DstPackets},
		{name: "dst_bytes", field: 25, u64: &b.DstBytes},
		{name: "age_ms", field: 26, u32: &b.AgeMS},
		{name: "handshake_us", field: 27, u32: &b.HandshakeUS},
		{name: "rtt_us", field: 28, u32: &b.RTTUS},
		{name: "app_latency_us", field: 29, u32: &b.LatencyUS},
	}
}

func (c *column) len() int {
	switch {
	case c.u16 != nil:
		return len(*c.u16)
	case c.u32 != nil:
		return len(*c.u32)
	}
	return len(*c.u64)
}

func (c *column) reset() {
	switch {
	case c.u16 != nil:
		*c.u16 = (*c.u16)[:0]
	case c.u32 != nil:
		*c.u32 = (*c.u32)[:0]
	default:
		*c.u64 = (*c.u64)[:0]
	}
}

// append appends the column as a field, unless all is 0.
func (c *column) append(dst []byte) []byte {
	switch {
	case c.u16 != nil:
		return appendColumn(dst, c.field, *c.u16)
	case c.u32 != nil:
		return appendColumn(dst, c.field, *c.u32)
	}
	return appendColumn(dst, c.field, *c.u64)
}

func (c *column) appendPacked(dst []byte) []byte {
	switch {
	case c.u16 != nil:
		return appendPacked(dst, *c.u16)
	case c.u32 != nil:
		return appendPacked(dst, *c.u32)
	}
	return appendPacked(dst, *c.u64)
}

// check reports what unpack would.
func (c *column) check(packed []byte, n int) (err error) {
	switch {
	case c.u16 != nil:
		err = check[uint16](packed, n)
	case c.u32 != nil:
		err = check[uint32](packed, n)
	default:
		err = check[uint64](packed, n)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	return nil
}

// unpack replaces the column with the n values that packed must hold, exactly.
func (c *column) unpack(packed []byte, n int) (err error) {
	switch {
	case c.u16 != nil:
		*c.u16, err = unpack(*c.u16, packed, n)
	case c.u32 != nil:
		*c.u32, err = unpack(*c.u32, packed, n)
	default:
		*c.u64, err = unpack(*c.u64, packed, n)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	return nil
}
