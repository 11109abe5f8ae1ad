package ebbwatch

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of the early-warning part of a batch.
const (
	MaxFeatures = maxAttachPoints
	MaxSources  = 1 << 10
	maxBuckets  = 64
)

// Feature is what one attach point saw during a short time, a second mostly:
// early warning, sent beside the flow records and before them.
type Feature struct {
	Interface  string
	NetNS      string // "" for the agent's own network namespace
	Egress     bool
	IntervalMS uint32
	Seen       Counter
	// Packets of TCP with SYN alone, SYN and ACK, FIN, RST.
	SYN, SYNACK, FIN, RST uint64
	NewFlows              uint64 // flow entries that began
	Overflow              uint64 // packets that found no room in the flow map
	// Sizes counts frames by floor(log2(bytes)): Sizes[6] is 64 to 127 bytes.
	Sizes []uint64
	// Gaps counts pairs of consecutive frames by floor(log2(ns)) of the time
	// between them, of a sample of the pairs.
	Gaps []uint64
}

// Source is what one address did during the drain interval so far: how many
// targets it tried, and what of its packets found no room in the flow map.
type Source struct {
	// Addr is the sender; the invalid address stands for all that had no room of their own.
	Addr       netip.Addr
	IntervalMS uint32  // how long the interval had lasted
	Flows      uint64  // flow entries that it began, and packets of overflow
	Targets    uint64  // distinct (address, protocol, port) that it sent to, estimated
	Overflow   Counter // its part of the attach points' overflow
}

func (b *Batch) validateWarnings() error {
	if len(b.Features) > MaxFeatures || len(b.Sources) > MaxSources {
		return fmt.Errorf("%w: %d features and %d sources, at most %d and %d", ErrInvalid, len(b.Features), len(b.Sources), MaxFeatures, MaxSources)
	}
	for i := range b.Features {
		f := &b.Features[i]
		for _, name := range []string{f.Interface, f.NetNS} {
			if err := validName("feature's name", name); err != nil {
				return err
			}
		}
		if len(f.Sizes) > maxBuckets || len(f.Gaps) > maxBuckets {
			return fmt.Errorf("%w: histogram of more than %d buckets", ErrInvalid, maxBuckets)
		}
	}
	for i := range b.Sources {
		if a := b.Sources[i].Addr; a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("%w: source %v is not plain IPv4 or IPv6", ErrInvalid, a)
		}
	}
	return nil
}

func appendFeature(dst []byte, f *Feature) []byte {
	dst = appendString(dst, 1, f.Interface)
	dst = appendUint(dst, 2, uint64(boolByte(f.Egress)))
	dst = appendUint(dst, 3, uint64(f.IntervalMS))
	dst = appendCounter(dst, 4, f.Seen)
	for i, v := range []uint64{f.SYN, f.SYNACK, f.FIN, f.RST, f.NewFlows, f.Overflow} {
		dst = appendUint(dst, protowire.Number(5+i), v)
	}
	for i, col := range [][]uint64{f.Sizes, f.Gaps} {
		if len(col) > 0 {
			dst = appendMessage(dst, protowire.Number(11+i), func(dst []byte) []byte {
				for _, v := range col {
					dst = protowire.AppendVarint(dst, v)
				}
				return dst
			})
		}
	}
	return appendString(dst, 13, f.NetNS)
}

func (d *Decoder) parseFeature(data []byte, b *Batch) error {
	var f Feature
	if n := len(b.Features); n < cap(b.Features) { // the memory of another batch's
		old := &b.Features[:n+1][n]
		f.Sizes, f.Gaps = old.Sizes[:0], old.Gaps[:0]
	}
	numbers := [...]*uint64{5: &f.SYN, 6: &f.SYNACK, 7: &f.FIN, 8: &f.RST, 9: &f.NewFlows, 10: &f.Overflow}
	fields := fieldReader{rest: data}
	for fields.next() {
		switch number := fields.number; number {
		case 1:
			f.Interface = d.names.get(fields.data)
		case 2:
			f.Egress = fields.value != 0
		case 3:
			f.IntervalMS = uint32(min(fields.value, max32))
		case 4:
			fields.err = parseCounter(fields.data, &f.Seen)
		case 5, 6, 7, 8, 9, 10:
			*numbers[number] = fields.value
		case 11:
			f.Sizes, fields.err = parseBuckets(f.Sizes, fields.data)
		case 12:
			f.Gaps, fields.err = parseBuckets(f.Gaps, fields.data)
		case 13:
			f.NetNS = d.names.get(fields.data)
		default: // from a newer agent
		}
	}
	if len(b.Features) < MaxFeatures+1 { // one too many is refused by Validate
		b.Features = append(b.Features, f)
	}
	return fields.err
}

// parseBuckets appends the values of data.
func parseBuckets(buckets []uint64, data []byte) ([]uint64, error) {
	for len(data) > 0 {
		v, n := shortVarint(data)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		}
		if len(buckets) > maxBuckets {
			return nil, fmt.Errorf("%w: histogram of more than %d buckets", ErrInvalid, maxBuckets)
		}
		buckets, data = append(buckets, v), data[n:]
	}
	return buckets, nil
}

func appendSource(dst []byte, s *Source) []byte {
	if s.Addr.IsValid() {
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendBytes(dst, s.Addr.AsSlice())
	}
	dst = appendUint(dst, 2, uint64(s.IntervalMS))
	dst = appendUint(dst, 3, s.Flows)
	dst = appendUint(dst, 4, s.Targets)
	return appendCounter(dst, 5, s.Overflow)
}

func parseSource(data []byte, b *Batch) error {
	var s Source
	f := fieldReader{rest: data}
	for f.next() {
		switch f.number {
		case 1:
			var ok bool
			if s.Addr, ok = netip.AddrFromSlice(f.data); !ok {
				return fmt.Errorf("%w: source address of %d bytes", ErrInvalid, len(f.data))
			}
		case 2:
			s.IntervalMS = uint32(min(f.value, max32))
		case 3:
			s.Flows = f.value
		case 4:
			s.Targets = f.value
		case 5:
			f.err = parseCounter(f.data, &s.Overflow)
		default: // from a newer agent
		}
	}
	if len(b.Sources) < MaxSources+1 {
		b.Sources = append(b.Sources, s)
	}
	return f.err
}
