package ebbwatch

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// column is one column of a Batch, so that the codec and the validation walk
// one list. Exactly one of the pointers is set. Adding a column touches Batch,
// Flow, Append, and that list.
type column struct {
	name  string
	field protowire.Number
	def   uint64 // of an absent column
	u8    *[]uint8
	u16   *[]uint16
	u32   *[]uint32
	u64   *[]uint64
	start *[]int64 // signed distances from the envelope's time on the wire
}

const columnCount = 22

// columns lists every column in the order of its field number. It is an array
// so that it needs no memory of its own: it is made for every batch.
func (b *Batch) columns() [columnCount]column {
	return [...]column{
		{name: "start", field: 16, start: &b.Start},
		{name: "duration", field: 17, u64: &b.Duration},
		{name: "src_addr", field: 18, u32: &b.SrcAddr},
		{name: "dst_addr", field: 19, u32: &b.DstAddr},
		{name: "src_port", field: 20, u16: &b.SrcPort},
		{name: "dst_port", field: 21, u16: &b.DstPort},
		{name: "proto", field: 22, u8: &b.Proto},
		{name: "initiator", field: 23, u8: &b.Initiator},
		{name: "interface", field: 24, u32: &b.Interface},
		{name: "vlan", field: 25, u16: &b.VLAN},
		{name: "src_packets", field: 26, u64: &b.SrcPackets},
		{name: "src_bytes", field: 27, u64: &b.SrcBytes},
		{name: "dst_packets", field: 28, u64: &b.DstPackets},
		{name: "dst_bytes", field: 29, u64: &b.DstBytes},
		{name: "src_flags", field: 30, u16: &b.SrcFlags},
		{name: "dst_flags", field: 31, u16: &b.DstFlags},
		{name: "conn_state", field: 32, u8: &b.ConnState},
		{name: "icmp_type", field: 33, u8: &b.ICMPType},
		{name: "icmp_code", field: 34, u8: &b.ICMPCode},
		{name: "age_ms", field: 35, u32: &b.AgeMS},
		{name: "final", field: 36, u8: &b.Final},
		{name: "sampling", field: 37, u32: &b.Sampling, def: 1},
	}
}

func (c *column) len() int {
	switch {
	case c.u8 != nil:
		return len(*c.u8)
	case c.u16 != nil:
		return len(*c.u16)
	case c.u32 != nil:
		return len(*c.u32)
	case c.u64 != nil:
		return len(*c.u64)
	}
	return len(*c.start)
}

func (c *column) reset() {
	switch {
	case c.u8 != nil:
		*c.u8 = (*c.u8)[:0]
	case c.u16 != nil:
		*c.u16 = (*c.u16)[:0]
	case c.u32 != nil:
		*c.u32 = (*c.u32)[:0]
	case c.u64 != nil:
		*c.u64 = (*c.u64)[:0]
	default:
		*c.start = (*c.start)[:0]
	}
}

// absent reports whether the column need not be written: every value is the default.
func (c *column) absent() bool {
	switch {
	case c.u8 != nil:
		return all(*c.u8, c.def)
	case c.u16 != nil:
		return all(*c.u16, c.def)
	case c.u32 != nil:
		return all(*c.u32, c.def)
	case c.u64 != nil:
		return all(*c.u64, c.def)
	}
	return len(*c.start) == 0
}

// encode appends the packed values, without tag.
func (c *column) encode(dst []byte, base int64) []byte {
	switch {
	case c.u8 != nil:
		return appendPacked(dst, *c.u8)
	case c.u16 != nil:
		return appendPacked(dst, *c.u16)
	case c.u32 != nil:
		return appendPacked(dst, *c.u32)
	case c.u64 != nil:
		return appendPacked(dst, *c.u64)
	}
	for _, v := range *c.start {
		dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(v-base))
	}
	return dst
}

// decode appends the n values that packed must hold, exactly.
func (c *column) decode(packed []byte, n int, base int64) (err error) {
	switch {
	case c.u8 != nil:
		*c.u8, err = appendVarints(*c.u8, packed, n)
	case c.u16 != nil:
		*c.u16, err = appendVarints(*c.u16, packed, n)
	case c.u32 != nil:
		*c.u32, err = appendVarints(*c.u32, packed, n)
	case c.u64 != nil:
		*c.u64, err = appendVarints(*c.u64, packed, n)
	default:
		*c.start, err = appendTimes(*c.start, packed, n, base)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	return nil
}

// fill appends n defaults.
func (c *column) fill(n int, base int64) {
	switch {
	case c.u8 != nil:
		*c.u8 = appendSame(*c.u8, uint8(c.def), n)
	case c.u16 != nil:
		*c.u16 = appendSame(*c.u16, uint16(c.def), n)
	case c.u32 != nil:
		*c.u32 = appendSame(*c.u32, uint32(c.def), n)
	case c.u64 != nil:
		*c.u64 = appendSame(*c.u64, c.def, n)
	default:
		*c.start = appendSame(*c.start, base, n)
	}
}

type uints interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64
}

func all[T uints](col []T, v uint64) bool {
	for _, x := range col {
		if uint64(x) != v {
			return false
		}
	}
	return true
}

func appendPacked[T uints](dst []byte, col []T) []byte {
	for _, v := range col {
		dst = protowire.AppendVarint(dst, uint64(v))
	}
	return dst
}

func appendSame[T uints | int64](col []T, v T, n int) []T {
	at := len(col)
	col = slices.Grow(col, n)[:at+n]
	for i := range col[at:] {
		col[at+i] = v
	}
	return col
}

// join returns the varint that x, 8 bytes of the message, begins with, where
// length is 8 times its length in bytes: the groups of 7 bits are moved
// together in three steps. Lengths vary from value to value, so a loop over the
// bytes would mispredict its end each time.
func join(x uint64, length int) uint64 {
	x &= ^uint64(0) >> (64 - length) & 0x7f7f7f7f7f7f7f7f
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	return x&0x000000000fffffff | x&0x0fffffff00000000>>4
}

// varint returns the varint at packed[i:] and the index after it, which is
// negative if there is none.
func varint(packed []byte, i int) (uint64, int) {
	v, size := protowire.ConsumeVarint(packed[i:])
	if size < 0 {
		return 0, size
	}
	return v, i + size
}

// appendVarints appends the n varints that packed must hold, exactly, each
// within the range of T.
func appendVarints[T uints](col []T, packed []byte, n int) ([]T, error) {
	if len(packed) < n { // before memory is spent on what cannot be there
		return col, fmt.Errorf("%w: %d bytes for %d entries", ErrInvalid, len(packed), n)
	}
	at := len(col)
	col = slices.Grow(col, n)[:at+n]
	out := col[at:]
	if len(packed) == n { // each is one byte, or there are too few
		var high byte
		for k, c := range packed {
			out[k] = T(c)
			high |= c
		}
		if high < 0x80 {
			return col, nil
		}
		return col[:at], fmt.Errorf("%w: fewer than %d entries", ErrInvalid, n)
	}
	i, limit := 0, uint64(^T(0))
	var v, over uint64
	for k := range out {
		if i+8 <= len(packed) {
			x := binary.LittleEndian.Uint64(packed[i:])
			if ends := ^x & 0x8080808080808080; ends != 0 {
				length := bits.TrailingZeros64(ends) + 1
				v = join(x, length)
				i += length / 8
				over |= v &^ limit
				out[k] = T(v)
				continue
			}
		}
		if v, i = varint(packed, i); i < 0 {
			return col[:at], fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(i))
		}
		over |= v &^ limit
		out[k] = T(v)
	}
	if over != 0 {
		return col[:at], fmt.Errorf("%w: a value is above %d", ErrInvalid, limit)
	}
	if i < len(packed) {
		return col[:at], fmt.Errorf("%w: more than %d entries", ErrInvalid, n)
	}
	return col, nil
}

// appendTimes appends n times that packed holds as distances from base.
func appendTimes(col []int64, packed []byte, n int, base int64) ([]int64, error) {
	if len(packed) < n {
		return col, fmt.Errorf("%w: %d bytes for %d entries", ErrInvalid, len(packed), n)
	}
	at, i := len(col), 0
	col = slices.Grow(col, n)[:at+n]
	out := col[at:]
	for k := range out {
		var v uint64
		if i+8 <= len(packed) && binary.LittleEndian.Uint64(packed[i:])&0x8080808080808080 != 0x8080808080808080 {
			x := binary.LittleEndian.Uint64(packed[i:])
			length := bits.TrailingZeros64(^x&0x8080808080808080) + 1
			v = join(x, length)
			i += length / 8
		} else if v, i = varint(packed, i); i < 0 {
			return col[:at], fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(i))
		}
		out[k] = base + protowire.DecodeZigZag(v)
	}
	if i < len(packed) {
		return col[:at], fmt.Errorf("%w: more than %d entries", ErrInvalid, n)
	}
	return col, nil
}
