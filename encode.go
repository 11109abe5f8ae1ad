package ebbwatch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

// Encoder turns batches into messages. The zero value is ready for use. It is
// not safe for concurrent use.
type Encoder struct {
	raw               []byte
	order, renumbered []uint32
	names             []string
}

// Encode appends b, validated and compressed, to dst. The order of b's dictionaries
// may change: IPv4 and short names go first.
func (e *Encoder) Encode(dst []byte, b *Batch) ([]byte, error) {
	if err := b.Validate(); err != nil {
		return dst, fmt.Errorf("encode batch: %w", err)
	}
	b.sortAddrs()
	e.sortNames(b)
	e.raw = appendBatch(e.raw[:0], b)
	if len(e.raw) > MaxBatchDecoded {
		return dst, fmt.Errorf("encode batch: %w: %d bytes, at most %d", ErrInvalid, len(e.raw), MaxBatchDecoded)
	}
	at := len(dst)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(e.raw)))
	return dst[:at+len(s2.EncodeBetter(dst[at:cap(dst)], e.raw))], nil
}

// sortAddrs moves the IPv4 addresses of the dictionary to its front, keeping
// the order within each family, and renumbers the columns.
func (b *Batch) sortAddrs() {
	renumber := make([]uint32, len(b.Addrs))
	sorted := make([]netip.Addr, 0, len(b.Addrs))
	for _, want4 := range []bool{true, false} {
		for i, a := range b.Addrs {
			if a.Is4() == want4 {
				renumber[i] = uint32(len(sorted))
				sorted = append(sorted, a)
			}
		}
	}
	for i := range b.SrcAddr {
		b.SrcAddr[i] = renumber[b.SrcAddr[i]]
		b.DstAddr[i] = renumber[b.DstAddr[i]]
	}
	b.Addrs = append(b.Addrs[:0], sorted...)
	for i, a := range b.Addrs {
		if b.addrIndex != nil {
			b.addrIndex[a] = uint32(i)
		}
	}
}

// sortNames moves shorter names to the front of the dictionary: a reader that looks
// names up then does the same steps many times in a row, which processors foresee
// (a tenth of what a collector takes to append a batch), and the message is no longer.
// What Append adds afterwards does not find earlier names, and adds them again.
func (e *Encoder) sortNames(b *Batch) {
	e.order = slices.Grow(e.order[:0], len(b.Strings))
	for i := range b.Strings {
		e.order = append(e.order, uint32(i))
	}
	slices.SortStableFunc(e.order, func(x, y uint32) int { return cmp.Compare(len(b.Strings[x]), len(b.Strings[y])) })
	if slices.IsSorted(e.order) {
		return
	}
	e.names, e.renumbered = append(e.names[:0], b.Strings...), appendSame(e.renumbered[:0], 0, 1+len(b.Strings)) // 0 is no name
	for to, from := range e.order {
		b.Strings[to] = e.names[from]
		e.renumbered[1+from] = uint32(1 + to)
	}
	clear(e.names)
	for a := range b.Attributes {
		if attributes[a].text == nil {
			continue
		}
		for i, v := range b.Attributes[a] {
			b.Attributes[a][i] = e.renumbered[v]
		}
	}
	clear(b.stringIndex)
	for g := range b.entryIndex {
		clear(b.entryIndex[g])
	}
}

func appendBatch(dst []byte, b *Batch) []byte {
	dst = appendUint(dst, fieldVersion, Version)
	dst = appendString(dst, fieldAgent, b.Agent)
	dst = appendString(dst, fieldAgentVersion, b.AgentVersion)
	dst = appendString(dst, fieldBoot, b.Boot)
	dst = appendUint(dst, fieldSequence, b.Sequence)
	dst = appendUint(dst, fieldTime, uint64(b.Time.UnixMicro()))
	dst = appendUint(dst, fieldInterval, uint64(b.IntervalMS))
	for i := range b.Attach {
		dst = appendMessage(dst, fieldAttach, func(dst []byte) []byte { return appendAttach(dst, &b.Attach[i]) })
	}
	for _, l := range b.Losses {
		dst = appendMessage(dst, fieldLosses, func(dst []byte) []byte { return appendLoss(dst, l) })
	}
	for i := range b.Features {
		dst = appendMessage(dst, fieldFeatures, func(dst []byte) []byte { return appendFeature(dst, &b.Features[i]) })
	}
	for i := range b.Sources {
		dst = appendMessage(dst, fieldSources, func(dst []byte) []byte { return appendSource(dst, &b.Sources[i]) })
	}
	dst = appendUint(dst, fieldLast, uint64(boolByte(b.Last)))
	dst = appendUint(dst, fieldFlows, uint64(b.Len()))
	n4 := 0
	for n4 < len(b.Addrs) && b.Addrs[n4].Is4() {
		n4++
	}
	dst = appendAddrs(dst, fieldAddresses4, b.Addrs[:n4])
	dst = appendAddrs(dst, fieldAddresses6, b.Addrs[n4:])
	dst = b.appendNames(dst)
	dst = b.appendStart(dst)
	cols := b.columns()
	for i := range cols {
		dst = cols[i].append(dst)
	}
	return b.encodeAttributes(dst)
}

// appendNames appends the names one after the other, their number and lengths.
func (b *Batch) appendNames(dst []byte) []byte {
	if len(b.Strings) == 0 {
		return dst
	}
	size, lengths := 0, make([]uint8, len(b.Strings))
	for i, s := range b.Strings {
		size, lengths[i] = size+len(s), uint8(len(s))
	}
	dst = protowire.AppendTag(dst, fieldNames, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	for _, s := range b.Strings {
		dst = append(dst, s...)
	}
	return appendMessage(dst, fieldNameLengths, func(dst []byte) []byte {
		return appendPacked(protowire.AppendVarint(dst, uint64(len(lengths))), lengths)
	})
}

// appendStart appends the starts as distances from the earliest, and that as its
// distance from the envelope's time.
func (b *Batch) appendStart(dst []byte) []byte {
	if b.Len() == 0 {
		return dst
	}
	first := slices.Min(b.Start)
	b.distance = b.distance[:0]
	for _, start := range b.Start {
		b.distance = append(b.distance, uint64(start-first))
	}
	dst = appendUint(dst, fieldFirstStart, protowire.EncodeZigZag(first-b.Time.UnixMicro()))
	return appendColumn(dst, fieldStart, b.distance)
}

func appendAttach(dst []byte, a *AttachPoint) []byte {
	dst = appendString(dst, 1, a.Interface)
	dst = appendUint(dst, 2, uint64(boolByte(a.Egress)))
	for i, c := range []Counter{a.Seen, a.Recorded, a.Overflow, a.Other, a.Skipped} {
		dst = appendCounter(dst, protowire.Number(3+i), c)
	}
	dst = appendString(dst, 8, a.NetNS)
	for _, r := range a.Reasons {
		dst = appendMessage(dst, 9, func(dst []byte) []byte { return appendLoss(dst, r) })
	}
	return dst
}

func appendCounter(dst []byte, field protowire.Number, c Counter) []byte {
	if c == (Counter{}) {
		return dst
	}
	return appendMessage(dst, field, func(dst []byte) []byte {
		return appendUint(appendUint(dst, 1, c.Packets), 2, c.Bytes)
	})
}

func appendLoss(dst []byte, l Loss) []byte {
	return appendUint(appendString(dst, 1, l.Name), 2, l.Count)
}

func appendAddrs(dst []byte, field protowire.Number, addrs []netip.Addr) []byte {
	if len(addrs) == 0 {
		return dst
	}
	size := addrs[0].BitLen() / 8
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size*len(addrs)))
	for _, a := range addrs {
		dst = append(dst, a.AsSlice()...)
	}
	return dst
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

// appendMessage appends a length-delimited field whose content body appends.
// The length is written after the body is known, in as many bytes as it needs.
func appendMessage(dst []byte, field protowire.Number, body func([]byte) []byte) []byte {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	at := len(dst)
	dst = append(dst, 0) // room for a one-byte length
	dst = body(dst)
	length := len(dst) - at - 1
	if extra := protowire.SizeVarint(uint64(length)) - 1; extra > 0 {
		dst = append(dst, make([]byte, extra)...)
		copy(dst[at+1+extra:], dst[at+1:at+1+length])
	}
	protowire.AppendVarint(dst[:at], uint64(length))
	return dst
}
