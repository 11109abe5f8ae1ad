package ebbwatch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Limits of one batch. A decoder refuses what exceeds them, so a hostile
// message costs bounded memory and time.
const (
	MaxBatchFlows   = 1<<16 - 1 // records, so that an index of their combinations takes 16 bits
	MaxBatchEncoded = 1 << 20   // bytes of the compressed message: NATS' default max_payload
	MaxBatchDecoded = 16 << 20  // bytes after decompression
	MaxName         = 255       // bytes of any name in a batch
	maxAttachPoints = 1 << 12
	maxLosses       = 64
	maxReasons      = 16
)

// ErrInvalid is wrapped by every error that says a batch breaks the contract
// (as opposed to one that cannot be read at all).
var ErrInvalid = errors.New("invalid batch")

// Envelope is what a batch says about itself and about its agent's losses.
type Envelope struct {
	// Agent is the sender; it must equal the agent in the message's subject.
	Agent string
	// AgentVersion is the build that made the batch, "" if unknown.
	AgentVersion string
	// Boot identifies one run of the agent (a random UUID); Sequence counts the
	// batches of that run from 1, so that gaps are visible downstream.
	Boot     string
	Sequence uint64
	// Last says that the run ended in order with this batch: everything that it
	// counted is in this batch and those before it.
	Last bool
	// Time is when the drain ended, to the microsecond; IntervalMS the length of
	// the interval that the batch covers.
	Time       time.Time
	IntervalMS uint32
	// Attach holds what each attach point saw during the interval. A drain that is
	// split over several batches carries it in the first of them.
	Attach []AttachPoint
	// Losses are counters since Boot of what the agent had to give up, by name
	// ("queue_dropped_batches", …). Absent means zero.
	Losses []Loss
	// Features and Sources are early warnings. A batch that carries nothing else
	// has IntervalMS 0: it ends no drain interval.
	Features []Feature
	Sources  []Source
}

// MessageID returns the value for the Nats-Msg-Id header: agent:boot:sequence.
func (e *Envelope) MessageID() string {
	return fmt.Sprintf("%s:%s:%d", e.Agent, e.Boot, e.Sequence)
}

// Counter is a number of packets and the bytes of their frames.
type Counter struct{ Packets, Bytes uint64 }

// Add adds d to c.
func (c *Counter) Add(d Counter) {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
}

// AttachPoint is the conservation proof of one attach point for one interval:
// Seen = Recorded + Overflow + Other + Skipped, to the byte. Seen is counted by
// the BPF program on its own, before anything can fail.
//
// Where packets are sampled 1 in N, Recorded counts the packets that were taken,
// and the records, which are scaled, add up to N times as many.
//
// A packet that passes two attach points of one agent, as a forwarded packet
// does, is Recorded at both and stands in one flow record: there the sum over
// the records is below the sum over Recorded, by the packets seen twice.
type AttachPoint struct {
	Interface string
	NetNS     string // "" for the agent's own network namespace
	Egress    bool
	Seen      Counter // everything that passed
	Recorded  Counter // what stands in flow records
	Overflow  Counter // what found no room in the flow map
	Other     Counter // what is not IP or cannot be parsed
	Skipped   Counter // what sampling left out
	// Reasons splits the packets of Other by why they stand in no record
	// ("not_ip", "truncated", …).
	Reasons []Loss
}

// Loss is a named counter of something the agent gave up.
type Loss struct {
	Name  string
	Count uint64
}

// Batch is a set of flow records in columns, the form in which they are encoded
// and stored: every column has one entry a record, in the same order. Addresses
// and names are indices into dictionaries, and so is what records have of each Group.
//
// The zero value is ready for use. A Batch is not safe for concurrent use.
type Batch struct {
	Envelope

	Addrs   []netip.Addr // dictionary of SrcAddr and DstAddr
	Strings []string     // dictionary of attributes that are names

	Start            []int64  // microseconds since the Unix epoch
	Duration         []uint64 // microseconds
	SrcAddr, DstAddr []uint32 // indices into Addrs
	SrcPort, DstPort []uint16
	SrcPackets       []uint64
	SrcBytes         []uint64
	DstPackets       []uint64
	DstBytes         []uint64
	AgeMS            []uint32
	HandshakeUS      []uint32
	RTTUS            []uint32
	LatencyUS        []uint32 // Hint.LatencyUS

	// PlainColumns holds the columns from SrcPort to LatencyUS packed as in a message,
	// if KeptPlain (Decoder.InPlace, Batch.KeepPlain).
	PlainColumns [Plains][]byte

	// Index says by Group what a record has: 0 is every attribute's default, else
	// one more than an entry of the group.
	Index [Groups][]uint16
	// Entries is how many entries each group has: not more than there are records.
	Entries [Groups]int
	// Attributes are columns by Attribute: empty if all of it is 0, else with one
	// value for each entry of its group.
	Attributes [Attributes][]uint32

	nameBytes   int // of what Append put into Strings
	addrIndex   map[netip.Addr]uint32
	stringIndex map[string]uint32
	entryIndex  [Groups]map[combination]uint16
	distance    []uint64 // of the starts, while they are encoded
	keptPlain   bool
	packed      []byte // of PlainColumns that KeepPlain made
}

// Len returns the number of flow records.
func (b *Batch) Len() int { return len(b.Start) }

// NameBytes returns how many bytes of names Append has put into the dictionary:
// names come from the network, so that they can be what makes a message too large.
func (b *Batch) NameBytes() int { return b.nameBytes }

// Reset empties the batch and its envelope but keeps its memory.
func (b *Batch) Reset() {
	b.Envelope = Envelope{Attach: b.Attach[:0], Losses: b.Losses[:0], Features: b.Features[:0], Sources: b.Sources[:0]}
	for i := range b.Attributes {
		b.Attributes[i] = b.Attributes[i][:0]
	}
	for g := range Groups {
		b.Index[g], b.Entries[g] = b.Index[g][:0], 0
		clear(b.entryIndex[g])
	}
	b.Addrs, b.Strings, b.nameBytes = b.Addrs[:0], b.Strings[:0], 0
	b.Start = b.Start[:0]
	cols := b.columns()
	for i := range cols {
		cols[i].reset()
	}
	b.PlainColumns, b.keptPlain = [Plains][]byte{}, false
	clear(b.addrIndex)
	clear(b.stringIndex)
}

// Append adds one record. It copies f.
func (b *Batch) Append(f *Flow) {
	start := f.Start.UnixMicro()
	b.Start = append(b.Start, start)
	b.Duration = append(b.Duration, uint64(max(0, f.End.UnixMicro()-start)))
	b.SrcAddr = append(b.SrcAddr, b.addr(f.Src))
	b.DstAddr = append(b.DstAddr, b.addr(f.Dst))
	b.SrcPort = append(b.SrcPort, f.SrcPort)
	b.DstPort = append(b.DstPort, f.DstPort)
	b.SrcPackets = append(b.SrcPackets, f.SrcPackets)
	b.SrcBytes = append(b.SrcBytes, f.SrcBytes)
	b.DstPackets = append(b.DstPackets, f.DstPackets)
	b.DstBytes = append(b.DstBytes, f.DstBytes)
	b.AgeMS = append(b.AgeMS, f.AgeMS)
	b.HandshakeUS = append(b.HandshakeUS, f.HandshakeUS)
	b.RTTUS = append(b.RTTUS, f.RTTUS)
	b.LatencyUS = append(b.LatencyUS, f.Hint.LatencyUS)
	b.appendAttributes(f)
	b.keptPlain = false
}

// Flow returns record i as a row. It panics if i is out of range.
func (b *Batch) Flow(i int) Flow {
	f := Flow{
		Start:       time.UnixMicro(b.Start[i]).UTC(),
		End:         time.UnixMicro(b.Start[i] + int64(b.Duration[i])).UTC(),
		Src:         b.Addrs[b.SrcAddr[i]],
		Dst:         b.Addrs[b.DstAddr[i]],
		SrcPort:     b.SrcPort[i],
		DstPort:     b.DstPort[i],
		SrcPackets:  b.SrcPackets[i],
		SrcBytes:    b.SrcBytes[i],
		DstPackets:  b.DstPackets[i],
		DstBytes:    b.DstBytes[i],
		AgeMS:       b.AgeMS[i],
		HandshakeUS: b.HandshakeUS[i],
		RTTUS:       b.RTTUS[i],
	}
	f.Hint.LatencyUS = b.LatencyUS[i]
	b.setAttributes(&f, i)
	return f
}

func (b *Batch) addr(a netip.Addr) uint32 {
	if i, ok := b.addrIndex[a]; ok {
		return i
	}
	if b.addrIndex == nil {
		b.addrIndex = make(map[netip.Addr]uint32)
	}
	i := uint32(len(b.Addrs))
	b.Addrs = append(b.Addrs, a)
	b.addrIndex[a] = i
	return i
}

func (b *Batch) str(s string) uint32 {
	if i, ok := b.stringIndex[s]; ok {
		return i
	}
	if b.stringIndex == nil {
		b.stringIndex = make(map[string]uint32)
	}
	i := uint32(len(b.Strings))
	b.Strings = append(b.Strings, s)
	b.nameBytes += len(s)
	b.stringIndex[s] = i
	return i
}

// Validate reports the first way in which b breaks the contract: columns of
// unequal length, indices out of bounds, values out of range, names that are
// too long or not UTF-8. Encode calls it; what Decode makes passes it.
func (b *Batch) Validate() error {
	n := b.Len()
	if n > MaxBatchFlows {
		return fmt.Errorf("%w: %d flows, at most %d", ErrInvalid, n, MaxBatchFlows)
	}
	if err := b.validateEnvelope(); err != nil {
		return err
	}
	cols := b.columns()
	for i := range cols {
		if c := &cols[i]; c.len() != n {
			return fmt.Errorf("%w: column %s has %d entries, want %d", ErrInvalid, c.name, c.len(), n)
		}
	}
	for i, a := range b.Addrs {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("%w: address %d of the dictionary (%v) is not plain IPv4 or IPv6", ErrInvalid, i, a)
		}
	}
	if err := b.validateNames(); err != nil {
		return err
	}
	if err := b.validateLengths(); err != nil {
		return err
	}
	return b.validateValues()
}

// validateValues checks the values of columns of the right lengths.
func (b *Batch) validateValues() error {
	if err := b.validateAttributes(); err != nil {
		return err
	}
	return b.validateRows()
}

func (b *Batch) validateNames() error {
	if len(b.Strings) > MaxBatchFlows {
		return fmt.Errorf("%w: more than %d names", ErrInvalid, MaxBatchFlows)
	}
	for _, s := range b.Strings {
		if err := validName("name", s); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) validateRows() error {
	if v := max(highest(b.SrcAddr), highest(b.DstAddr)); b.Len() > 0 && int64(v) >= int64(len(b.Addrs)) {
		return fmt.Errorf("%w: address index %d out of bounds", ErrInvalid, v)
	}
	for i, start := range b.Start {
		if duration := b.Duration[i]; start < 0 || duration > maxTime || start > maxTime-int64(duration) {
			return fmt.Errorf("%w: flow %d: time out of range", ErrInvalid, i)
		}
	}
	return nil
}

// maxTime is the year 2262 in microseconds: later times do not fit ClickHouse's DateTime64.
const maxTime = 9_223_372_036_854_775

func (b *Batch) validateEnvelope() error {
	if err := ValidateAgent(b.Agent); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if t := b.Time.UnixMicro(); t < 0 || t > maxTime {
		return fmt.Errorf("%w: envelope time out of range", ErrInvalid)
	}
	if len(b.Boot) != 36 || validName("boot", b.Boot) != nil {
		return fmt.Errorf("%w: boot id is not a UUID", ErrInvalid)
	}
	if len(b.Attach) > maxAttachPoints || len(b.Losses) > maxLosses {
		return fmt.Errorf("%w: %d attach points and %d losses, at most %d and %d", ErrInvalid, len(b.Attach), len(b.Losses), maxAttachPoints, maxLosses)
	}
	for _, a := range b.Attach {
		if len(a.Reasons) > maxReasons {
			return fmt.Errorf("%w: %d reasons, at most %d", ErrInvalid, len(a.Reasons), maxReasons)
		}
		names := [2 + maxReasons]string{a.Interface, a.NetNS}
		for i, r := range a.Reasons {
			names[2+i] = r.Name
		}
		for _, name := range names {
			if err := validName("attach point's name", name); err != nil {
				return err
			}
		}
	}
	if err := b.validateWarnings(); err != nil {
		return err
	}
	for _, l := range b.Losses {
		if err := validName("loss", l.Name); err != nil {
			return err
		}
	}
	return validName("agent version", b.AgentVersion)
}

func validName(what, s string) error {
	if len(s) > MaxName || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s of %d bytes is not UTF-8 of at most %d bytes", ErrInvalid, what, len(s), MaxName)
	}
	return nil
}

func boolByte(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}
