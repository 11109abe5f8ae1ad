package ebbwatch

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// column is one column of a Batch behind functions, so that the codec and the
// validation walk one list. Adding a column touches Batch, Flow, Append, and
// that list.
type column struct {
	name   string
	field  protowire.Number
	len    func() int
	reset  func()
	encode func(dst []byte) []byte          // packed values, without tag
	decode func(packed []byte, n int) error // appends exactly n values
	fill   func(n int)                      // appends n defaults
	zero   func() bool                      // whether every value is the default
}

// columns lists every column in the order of its field number.
func (b *Batch) columns() []column {
	return []column{
		startColumn(b),
		unsigned("duration", 17, &b.Duration, 0),
		unsigned("src_addr", 18, &b.SrcAddr, 0),
		unsigned("dst_addr", 19, &b.DstAddr, 0),
		unsigned("src_port", 20, &b.SrcPort, 0),
		unsigned("dst_port", 21, &b.DstPort, 0),
		unsigned("proto", 22, &b.Proto, 0),
		unsigned("initiator", 23, &b.Initiator, 0),
		unsigned("interface", 24, &b.Interface, 0),
		unsigned("vlan", 25, &b.VLAN, 0),
		unsigned("src_packets", 26, &b.SrcPackets, 0),
		unsigned("src_bytes", 27, &b.SrcBytes, 0),
		unsigned("dst_packets", 28, &b.DstPackets, 0),
		unsigned("dst_bytes", 29, &b.DstBytes, 0),
		unsigned("src_flags", 30, &b.SrcFlags, 0),
		unsigned("dst_flags", 31, &b.DstFlags, 0),
		unsigned("conn_state", 32, &b.ConnState, 0),
		unsigned("icmp_type", 33, &b.ICMPType, 0),
		unsigned("icmp_code", 34, &b.ICMPCode, 0),
		unsigned("age_ms", 35, &b.AgeMS, 0),
		unsigned("final", 36, &b.Final, 0),
		unsigned("sampling", 37, &b.Sampling, 1),
	}
}

type uints interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64
}

func unsigned[T uints](name string, field protowire.Number, col *[]T, def T) column {
	return column{
		name:  name,
		field: field,
		len:   func() int { return len(*col) },
		reset: func() { *col = (*col)[:0] },
		encode: func(dst []byte) []byte {
			for _, v := range *col {
				dst = protowire.AppendVarint(dst, uint64(v))
			}
			return dst
		},
		decode: func(packed []byte, n int) error {
			out, err := appendVarints(*col, packed, n)
			*col = out
			if err != nil {
				return fmt.Errorf("column %s: %w", name, err)
			}
			return nil
		},
		fill: func(n int) {
			for range n {
				*col = append(*col, def)
			}
		},
		zero: func() bool {
			for _, v := range *col {
				if v != def {
					return false
				}
			}
			return true
		},
	}
}

// appendVarints appends the n varints that packed must hold, exactly, each
// within the range of T.
func appendVarints[T uints](col []T, packed []byte, n int) ([]T, error) {
	limit := uint64(^T(0))
	for range n {
		var v uint64
		if len(packed) > 0 && packed[0] < 0x80 { // the common case, without a call
			v, packed = uint64(packed[0]), packed[1:]
		} else {
			size := 0
			if v, size = protowire.ConsumeVarint(packed); size < 0 {
				return col, fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(size))
			}
			packed = packed[size:]
		}
		if v > limit {
			return col, fmt.Errorf("%w: value %d is above %d", ErrInvalid, v, limit)
		}
		col = append(col, T(v))
	}
	if len(packed) > 0 {
		return col, fmt.Errorf("%w: more than %d entries", ErrInvalid, n)
	}
	return col, nil
}

// startColumn holds times as signed distances from the envelope's time, which
// is decoded before any column.
func startColumn(b *Batch) column {
	return column{
		name:  "start",
		field: 16,
		len:   func() int { return len(b.Start) },
		reset: func() { b.Start = b.Start[:0] },
		encode: func(dst []byte) []byte {
			base := b.Time.UnixMicro()
			for _, v := range b.Start {
				dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(v-base))
			}
			return dst
		},
		decode: func(packed []byte, n int) error {
			base := b.Time.UnixMicro()
			for range n {
				v, size := protowire.ConsumeVarint(packed)
				if size < 0 {
					return fmt.Errorf("column start: %w: %w", ErrInvalid, protowire.ParseError(size))
				}
				packed = packed[size:]
				b.Start = append(b.Start, base+protowire.DecodeZigZag(v))
			}
			if len(packed) > 0 {
				return fmt.Errorf("column start: %w: more than %d entries", ErrInvalid, n)
			}
			return nil
		},
		fill: func(n int) {
			for range n {
				b.Start = append(b.Start, b.Time.UnixMicro())
			}
		},
		zero: func() bool { return len(b.Start) == 0 },
	}
}
