package ebbwatch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

// Version is the version of the wire format that Encode writes. Decode accepts
// every version up to it.
const Version = 1

// ErrVersion is wrapped by Decode's error for a batch from a newer agent.
var ErrVersion = errors.New("unsupported batch version")

// Field numbers of the envelope in batch.proto; columns have theirs in columns.go.
const (
	fieldVersion = iota + 1
	fieldAgent
	fieldAgentVersion
	fieldBoot
	fieldSequence
	fieldTime
	fieldInterval
	fieldAttach
	fieldLosses
	fieldFlows
	fieldAddresses4
	fieldAddresses6
	fieldStrings
	fieldFeatures
	fieldSources
	fieldLast = 200
)

// Encoder turns batches into messages. It is not safe for concurrent use.
type Encoder struct {
	zstd *zstd.Encoder
	raw  []byte
}

// NewEncoder returns an encoder that compresses on the caller's goroutine in
// about 1 MiB of memory.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &Encoder{zstd: z}, nil
}

// Encode appends b, validated and compressed, to dst. The order of b's address
// dictionary may change: IPv4 goes first.
func (e *Encoder) Encode(dst []byte, b *Batch) ([]byte, error) {
	if err := b.Validate(); err != nil {
		return dst, fmt.Errorf("encode batch: %w", err)
	}
	b.sortAddrs()
	e.raw = appendBatch(e.raw[:0], b)
	if len(e.raw) > MaxBatchDecoded {
		return dst, fmt.Errorf("encode batch: %w: %d bytes, at most %d", ErrInvalid, len(e.raw), MaxBatchDecoded)
	}
	return e.zstd.EncodeAll(e.raw, dst), nil
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
	for _, s := range b.Strings {
		dst = protowire.AppendTag(dst, fieldStrings, protowire.BytesType) // "" too: position counts
		dst = protowire.AppendString(dst, s)
	}
	cols, base := b.columns(), b.Time.UnixMicro()
	for i := range cols {
		if c := &cols[i]; !c.absent() {
			dst = appendMessage(dst, c.field, func(dst []byte) []byte { return c.encode(dst, base) })
		}
	}
	return b.encodeAttributes(dst)
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

// Decoder turns messages into batches. It is not safe for concurrent use.
type Decoder struct {
	zstd *zstd.Decoder
	raw  []byte
}

// NewDecoder returns a decoder that decompresses on the caller's goroutine and
// never holds more than MaxBatchDecoded bytes of a message.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBatchDecoded), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return &Decoder{zstd: z}, nil
}

// Close releases the decoder's memory.
func (d *Decoder) Close() { d.zstd.Close() }

// Decode replaces b with the batch in message, validated. Its strings and
// columns are copies: message may be reused. After an error b is undefined.
func (d *Decoder) Decode(message []byte, b *Batch) error {
	if len(message) > MaxBatchEncoded {
		return fmt.Errorf("decode batch: %w: %d bytes, at most %d", ErrInvalid, len(message), MaxBatchEncoded)
	}
	raw, err := d.zstd.DecodeAll(message, d.raw[:0])
	if err != nil {
		return fmt.Errorf("decode batch: decompress: %w", err)
	}
	d.raw = raw
	b.Reset()
	if err := parseBatch(raw, b); err != nil {
		return fmt.Errorf("decode batch: %w", err)
	}
	if err := b.Validate(); err != nil {
		return fmt.Errorf("decode batch: %w", err)
	}
	return nil
}

// parseBatch walks the fields once; columns are noted and decoded at the end,
// because they depend on the number of flows and the envelope's time.
func parseBatch(raw []byte, b *Batch) error {
	var (
		version, flows, at uint64
		packed             [firstAttribute + int(Attributes)][]byte
		addrs6             []byte
	)
	err := eachField(raw, func(field protowire.Number, value uint64, data []byte) error {
		switch field {
		case fieldVersion:
			version = value
		case fieldAgent:
			b.Agent = string(data)
		case fieldAgentVersion:
			b.AgentVersion = string(data)
		case fieldBoot:
			b.Boot = string(data)
		case fieldSequence:
			b.Sequence = value
		case fieldTime:
			at = value
		case fieldInterval:
			b.IntervalMS = uint32(min(value, 1<<32-1))
		case fieldAttach:
			return parseAttach(data, b)
		case fieldLosses:
			l, err := parseLoss(data)
			if len(b.Losses) < maxLosses+1 {
				b.Losses = append(b.Losses, l)
			}
			return err
		case fieldFeatures:
			return parseFeature(data, b)
		case fieldSources:
			return parseSource(data, b)
		case fieldLast:
			b.Last = value != 0
		case fieldFlows:
			flows = value
		case fieldAddresses4:
			return b.parseAddrs(data, 4)
		case fieldAddresses6:
			addrs6 = data // after the IPv4 part, wherever it stands
		case fieldStrings:
			if len(b.Strings) >= MaxBatchFlows {
				return fmt.Errorf("%w: more than %d strings", ErrInvalid, MaxBatchFlows)
			}
			b.Strings = append(b.Strings, string(data))
		default:
			if int(field) < len(packed) {
				packed[field] = data
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case version == 0: // an empty message, or not ours
		return fmt.Errorf("%w: no version", ErrInvalid)
	case version > Version:
		return fmt.Errorf("%w: %d, this build knows 1 to %d", ErrVersion, version, Version)
	case flows > MaxBatchFlows:
		return fmt.Errorf("%w: %d flows, at most %d", ErrInvalid, flows, MaxBatchFlows)
	case at > maxTime:
		return fmt.Errorf("%w: envelope time out of range", ErrInvalid)
	}
	b.Time = time.UnixMicro(int64(at)).UTC()
	if err := b.parseAddrs(addrs6, 16); err != nil {
		return err
	}
	cols := b.columns()
	for i := range cols {
		c := &cols[i]
		if data := packed[c.field]; data == nil {
			c.fill(int(flows), int64(at))
		} else if err := c.decode(data, int(flows), int64(at)); err != nil {
			return err
		}
	}
	return b.decodeAttributes(packed[:], int(flows))
}

func (b *Batch) parseAddrs(data []byte, size int) error {
	if len(data)%size != 0 || len(data)/size > 2*MaxBatchFlows {
		return fmt.Errorf("%w: address dictionary of %d bytes", ErrInvalid, len(data))
	}
	for ; len(data) > 0; data = data[size:] {
		a, _ := netip.AddrFromSlice(data[:size])
		b.Addrs = append(b.Addrs, a)
	}
	return nil
}

func parseAttach(data []byte, b *Batch) error {
	var a AttachPoint
	counters := [...]*Counter{3: &a.Seen, 4: &a.Recorded, 5: &a.Overflow, 6: &a.Other, 7: &a.Skipped}
	err := eachField(data, func(field protowire.Number, value uint64, data []byte) error {
		switch field {
		case 1:
			a.Interface = string(data)
		case 2:
			a.Egress = value != 0
		case 3, 4, 5, 6, 7:
			return parseCounter(data, counters[field])
		case 8:
			a.NetNS = string(data)
		case 9:
			r, err := parseLoss(data)
			if len(a.Reasons) < maxReasons+1 {
				a.Reasons = append(a.Reasons, r)
			}
			return err
		default: // from a newer agent
		}
		return nil
	})
	if len(b.Attach) < maxAttachPoints+1 { // one too many is refused by Validate
		b.Attach = append(b.Attach, a)
	}
	return err
}

func parseCounter(data []byte, c *Counter) error {
	return eachField(data, func(field protowire.Number, value uint64, _ []byte) error {
		switch field {
		case 1:
			c.Packets = value
		case 2:
			c.Bytes = value
		default: // from a newer agent
		}
		return nil
	})
}

func parseLoss(data []byte) (l Loss, err error) {
	err = eachField(data, func(field protowire.Number, value uint64, data []byte) error {
		switch field {
		case 1:
			l.Name = string(data)
		case 2:
			l.Count = value
		default: // from a newer agent
		}
		return nil
	})
	return l, err
}

// eachField calls visit for every field of a message. A varint comes as value;
// a length-delimited field as data, never nil; fixed-width fields are skipped.
func eachField(message []byte, visit func(field protowire.Number, value uint64, data []byte) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		}
		message = message[n:]
		var (
			value uint64
			data  = []byte{}
		)
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		default:
			if n = protowire.ConsumeFieldValue(field, kind, message); n >= 0 {
				message = message[n:]
				continue
			}
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrInvalid, field, protowire.ParseError(n))
		}
		message = message[n:]
		if err := visit(field, value, data); err != nil {
			return err
		}
	}
	return nil
}
