package ebbwatch

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe" // for names that nobody keeps

	"github.com/klauspost/compress/s2"
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
	fieldNames
	fieldFeatures
	fieldSources
	fieldStart
	fieldLast = 200
)

// Fields of columns beside those of columns.go and attribute.go.
const (
	fieldFirstStart  = 30 // what start counts from
	fieldNameLengths = 31
	fieldEntries     = 32
)

// Decoder turns messages into batches. The zero value is ready for use. It is
// not safe for concurrent use.
type Decoder struct {
	// InPlace leaves names and plain columns where they are, for a reader that copies
	// them anyway: strings of Batch.Strings change with the next call of Decode, and
	// plain columns are checked, and stand packed in Batch.PlainColumns until then,
	// while those from SrcPort to LatencyUS stay empty. Batch.Flow needs these.
	InPlace bool

	raw     []byte
	lengths []uint8
	names   names
	text    strings.Builder // of dictionaries of names, whose strings are parts of it
}

// Decode replaces b with the batch in message, validated, and reuses all memory
// of b. Its strings and columns are copies, but see InPlace: message may be reused. A
// string that is kept keeps up to 32 KiB of others: clone it. It never holds
// more than MaxBatchDecoded bytes of a message. After an error b is undefined.
func (d *Decoder) Decode(message []byte, b *Batch) error {
	if len(message) > MaxBatchEncoded {
		return fmt.Errorf("decode batch: %w: %d bytes, at most %d", ErrInvalid, len(message), MaxBatchEncoded)
	}
	size, err := s2.DecodedLen(message)
	switch {
	case len(message) == 0:
		return fmt.Errorf("decode batch: %w: no bytes", ErrInvalid)
	case err != nil:
		return fmt.Errorf("decode batch: decompress: %w", err)
	case size > MaxBatchDecoded:
		return fmt.Errorf("decode batch: %w: decompresses to %d bytes, at most %d", ErrInvalid, size, MaxBatchDecoded)
	}
	if cap(d.raw) < size+unpackAhead {
		d.raw = make([]byte, size+unpackAhead)
	}
	raw, err := s2.Decode(d.raw[:size], message)
	if err != nil {
		return fmt.Errorf("decode batch: decompress: %w", err)
	}
	b.Reset()
	if err := d.parse(raw, b); err != nil {
		return fmt.Errorf("decode batch: %w", err)
	}
	return nil
}

// parse walks the fields once; columns are noted and decoded at the end, because
// they depend on the number of flows and the envelope's time. It makes what
// Validate accepts: lengths are right by construction, the rest is checked.
func (d *Decoder) parse(raw []byte, b *Batch) error {
	var (
		version, flows, at, first uint64
		packed                    [firstAttribute + int(Attributes)][]byte
	)
	f := fieldReader{rest: raw}
	for f.next() {
		switch f.number {
		case fieldVersion:
			version = f.value
		case fieldAgent:
			b.Agent = d.names.get(f.data)
		case fieldAgentVersion:
			b.AgentVersion = d.names.get(f.data)
		case fieldBoot:
			b.Boot = d.names.get(f.data)
		case fieldSequence:
			b.Sequence = f.value
		case fieldTime:
			at = f.value
		case fieldInterval:
			b.IntervalMS = uint32(min(f.value, max32))
		case fieldAttach:
			f.err = d.parseAttach(f.data, b)
		case fieldLosses:
			f.err = d.parseLosses(f.data, &b.Losses, maxLosses)
		case fieldFeatures:
			f.err = d.parseFeature(f.data, b)
		case fieldSources:
			f.err = parseSource(f.data, b)
		case fieldLast:
			b.Last = f.value != 0
		case fieldFlows:
			flows = f.value
		case fieldFirstStart:
			first = f.value
		default:
			if int(f.number) < len(packed) {
				packed[f.number] = f.data
			}
		}
	}
	switch {
	case f.err != nil:
		return f.err
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
	if err := b.parseAddrs(packed[fieldAddresses4], 4); err != nil {
		return err
	}
	if err := b.parseAddrs(packed[fieldAddresses6], 16); err != nil {
		return err
	}
	if err := d.parseNames(packed[fieldNames], packed[fieldNameLengths], b); err != nil {
		return err
	}
	b.keptPlain = d.InPlace
	if err := b.parseColumns(packed[:], int(flows), int64(at)+protowire.DecodeZigZag(first)); err != nil {
		return err
	}
	if err := b.validateEnvelope(); err != nil {
		return err
	}
	return b.validateValues()
}

// parseColumns decodes the columns of flows records, of which the first began at first.
func (b *Batch) parseColumns(packed [][]byte, flows int, first int64) (err error) {
	if b.Start, err = unpack(b.Start, packed[fieldStart], flows); err != nil {
		return fmt.Errorf("column start: %w", err)
	}
	for i := range b.Start {
		b.Start[i] += first
	}
	cols := b.columns()
	for i := range cols {
		data := packed[cols[i].field]
		if plain, ok := cols[i].plain(); ok && b.keptPlain {
			b.PlainColumns[plain], err = data, cols[i].check(data, flows)
		} else {
			err = cols[i].unpack(data, flows)
		}
		if err != nil {
			return err
		}
	}
	return b.parseAttributes(packed, flows)
}

// parseNames makes the dictionary of names that stand one after the other in
// text: one string that all are parts of.
func (d *Decoder) parseNames(text, lengths []byte, b *Batch) (err error) {
	n, size := protowire.ConsumeVarint(lengths)
	switch {
	case lengths == nil && len(text) == 0:
		return nil
	case size < 0 || n > MaxBatchFlows:
		return fmt.Errorf("%w: number of names", ErrInvalid)
	}
	if d.lengths, err = unpack(d.lengths, lengths[size:], int(n)); err != nil {
		return fmt.Errorf("lengths of names: %w", err)
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("%w: a name is not UTF-8", ErrInvalid)
	}
	all, at := unsafe.String(unsafe.SliceData(text), len(text)), 0 // parts of d.raw
	if !d.InPlace {
		all = d.copyText(text)
	}
	for _, length := range d.lengths {
		if at+int(length) > len(all) {
			return fmt.Errorf("%w: names are longer than their text", ErrInvalid)
		}
		if at < len(all) && !utf8.RuneStart(all[at]) {
			return fmt.Errorf("%w: a name begins within a character", ErrInvalid)
		}
		b.Strings = append(b.Strings, all[at:at+int(length)])
		at += int(length)
	}
	if at < len(all) {
		return fmt.Errorf("%w: names are shorter than their text", ErrInvalid)
	}
	return nil
}

// copyText returns a copy of text in memory that is shared by some copies, so
// that few are made.
func (d *Decoder) copyText(text []byte) string {
	const most = 1 << 15
	if d.text.Cap()-d.text.Len() < len(text) {
		d.text = strings.Builder{}
		d.text.Grow(max(most, len(text)))
	}
	at := d.text.Len()
	d.text.Write(text)
	return d.text.String()[at:]
}

// names keeps the names of envelopes, which come again with every batch of an agent.
type names map[string]string

func (n *names) get(data []byte) string {
	if s, ok := (*n)[string(data)]; ok {
		return s
	}
	const most = 1 << 14
	if *n == nil || len(*n) >= most {
		*n = make(names)
	}
	s := string(data)
	if len(s) <= MaxName { // else it is refused
		(*n)[s] = s
	}
	return s
}

func (b *Batch) parseAddrs(data []byte, size int) error {
	if len(data)%size != 0 || len(data)/size > 2*MaxBatchFlows {
		return fmt.Errorf("%w: address dictionary of %d bytes", ErrInvalid, len(data))
	}
	for ; len(data) > 0; data = data[size:] {
		a, _ := netip.AddrFromSlice(data[:size])
		if a.Is4In6() {
			return fmt.Errorf("%w: address %v is IPv4 written as IPv6", ErrInvalid, a)
		}
		b.Addrs = append(b.Addrs, a)
	}
	return nil
}

func (d *Decoder) parseAttach(data []byte, b *Batch) error {
	var a AttachPoint
	if n := len(b.Attach); n < cap(b.Attach) {
		a.Reasons = b.Attach[:n+1][n].Reasons[:0]
	}
	counters := [...]*Counter{3: &a.Seen, 4: &a.Recorded, 5: &a.Overflow, 6: &a.Other, 7: &a.Skipped}
	f := fieldReader{rest: data}
	for f.next() {
		switch f.number {
		case 1:
			a.Interface = d.names.get(f.data)
		case 2:
			a.Egress = f.value != 0
		case 3, 4, 5, 6, 7:
			f.err = parseCounter(f.data, counters[f.number])
		case 8:
			a.NetNS = d.names.get(f.data)
		case 9:
			f.err = d.parseLosses(f.data, &a.Reasons, maxReasons)
		default: // from a newer agent
		}
	}
	if len(b.Attach) < maxAttachPoints+1 { // one too many is refused by Validate
		b.Attach = append(b.Attach, a)
	}
	return f.err
}

func parseCounter(data []byte, c *Counter) error {
	f := fieldReader{rest: data}
	for f.next() {
		switch f.number {
		case 1:
			c.Packets = f.value
		case 2:
			c.Bytes = f.value
		default: // from a newer agent
		}
	}
	return f.err
}

// parseLosses adds one loss to all, of which one more than most is refused by Validate.
func (d *Decoder) parseLosses(data []byte, all *[]Loss, most int) error {
	var l Loss
	f := fieldReader{rest: data}
	for f.next() {
		switch f.number {
		case 1:
			l.Name = d.names.get(f.data)
		case 2:
			l.Count = f.value
		default: // from a newer agent
		}
	}
	if len(*all) <= most {
		*all = append(*all, l)
	}
	return f.err
}

// fieldReader walks the fields of a message one after the other.
type fieldReader struct {
	rest   []byte // what follows
	err    error  // why the walk ended early; who sets it ends it
	number protowire.Number
	value  uint64 // of a varint
	data   []byte // of a length-delimited field, never nil; empty of others
}

// next goes to the next field, and reports whether there is one.
func (f *fieldReader) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	var (
		kind protowire.Type
		n    int
	)
	f.number, kind, n = consumeTag(f.rest)
	if n < 0 {
		f.err = fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		return false
	}
	rest := f.rest[n:]
	f.value, f.data = 0, rest[:0]
	switch kind {
	case protowire.VarintType:
		f.value, n = shortVarint(rest)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(rest)
	default:
		n = protowire.ConsumeFieldValue(f.number, kind, rest)
		f.number = 0
	}
	if n < 0 {
		f.err = fmt.Errorf("%w: field %d: %w", ErrInvalid, f.number, protowire.ParseError(n))
		return false
	}
	f.rest = rest[n:]
	return true
}

// consumeTag is protowire.ConsumeTag, made quick for one and two bytes.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	if len(b) >= 2 {
		tag, n := uint(b[0]), 1
		if tag >= 0x80 {
			tag, n = tag&0x7f|uint(b[1])<<7, 2
		}
		if tag >= 1<<3 && tag < 1<<14 {
			return protowire.Number(tag >> 3), protowire.Type(tag & 7), n
		}
	}
	return protowire.ConsumeTag(b)
}
