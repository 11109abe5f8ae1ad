// Package sink writes batches to ClickHouse: columns that are reused from one
// insert to the next, and inserts that are repeated until they succeed.
package sink

import (
	"math"
	"net/netip"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// Types of columns whose wire form is a plain integer.
const (
	typeMillis    = proto.ColumnType("DateTime64(3, 'UTC')")
	typeBool      = proto.ColumnType("Bool")
	typeDirection = proto.ColumnType("Enum8('ingress' = 0, 'egress' = 1)")
)

// Block holds what is stored together as columns: the rows of flows, features,
// sources, coverage and refused_batches. It is not safe for concurrent use.
type Block struct {
	names                interner
	agent                dictionary
	start                proto.ColInt64
	durationMS           proto.ColUInt32
	srcIP, dstIP         proto.ColIPv6
	srcPort, dstPort     proto.ColUInt16
	srcPackets, srcBytes proto.ColUInt64
	dstPackets, dstBytes proto.ColUInt64
	ageMS                proto.ColUInt32
	handshakeUS, rttUS   proto.ColUInt32
	latencyUS            proto.ColUInt32

	attributes attributes

	features features
	sources  sources
	coverage coverage
	refused  refused

	flows proto.Input // the columns above under their names, attributes left out
	addrs []proto.IPv6
}

// NewBlock returns an empty block.
func NewBlock() *Block {
	b := &Block{}
	b.agent.init()
	b.names.init()
	b.attributes.init(&b.names)
	b.flows = proto.Input{
		{Name: "agent", Data: &b.agent},
		{Name: "start", Data: proto.Alias(&b.start, typeMillis)},
		{Name: "duration_ms", Data: &b.durationMS},
		{Name: "src_ip", Data: &b.srcIP},
		{Name: "dst_ip", Data: &b.dstIP},
		{Name: "src_port", Data: &b.srcPort},
		{Name: "dst_port", Data: &b.dstPort},
		{Name: "src_packets", Data: &b.srcPackets},
		{Name: "src_bytes", Data: &b.srcBytes},
		{Name: "dst_packets", Data: &b.dstPackets},
		{Name: "dst_bytes", Data: &b.dstBytes},
		{Name: "age_ms", Data: &b.ageMS},
		{Name: "handshake_us", Data: &b.handshakeUS},
		{Name: "rtt_us", Data: &b.rttUS},
		{Name: "app_latency_us", Data: &b.latencyUS},
	}
	b.features.init()
	b.sources.init()
	b.coverage.init()
	b.refused.init()
	return b
}

// Rows returns the number of flow records in the block.
func (b *Block) Rows() int { return len(b.start) }

// Longest returns the number of rows of the longest of the tables. A batch
// without a flow record has thousands of rows of the others if it likes.
func (b *Block) Longest() int {
	return max(len(b.start), b.features.rows(), b.sources.rows(), b.coverage.rows(), b.refused.rows())
}

// flowRowBytes are those of a row's columns of fixed width, attributes left out
// and dictionary keys included.
const flowRowBytes = 100

// Bytes returns what the rows take in memory, with their names. The first row
// that has an attribute makes a column of it for all rows: up to 4 bytes for
// each, beside what its batch adds.
func (b *Block) Bytes() int {
	return flowRowBytes*len(b.start) + b.agent.bytes() + b.names.bytes() + b.attributes.bytes(len(b.start)) +
		b.features.bytes() + b.sources.bytes() + b.coverage.bytes() + b.refused.bytes()
}

// table is the part of a block that goes into one table.
type table struct {
	name  string
	input proto.Input
	rows  int
}

// tables returns the parts in the order in which they are to be inserted:
// coverage is last, because it tells that the others are there.
func (b *Block) tables() []table {
	return []table{
		{"flows", b.attributes.appendInputs(b.flows[:len(b.flows):len(b.flows)]), b.Rows()},
		{"features", b.features.input, b.features.rows()},
		{"sources", b.sources.input, b.sources.rows()},
		{"refused_batches", b.refused.input, b.refused.rows()},
		{"coverage", b.coverage.input, b.coverage.rows()},
	}
}

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	b.flows.Reset()
	b.attributes.reset()
	b.names.reset() // after all columns that hold its numbers
	b.features.reset()
	b.sources.reset()
	b.coverage.reset()
	b.refused.reset()
}

// Append adds a batch that decoded without error. received is the time that the
// columns of that name hold.
func (b *Block) Append(in *ebbwatch.Batch, received time.Time) {
	b.features.append(in, received)
	b.sources.append(in, received)
	b.coverage.append(in, received)
	n := in.Len()
	if n == 0 {
		return
	}
	b.agent.repeat(b.agent.key(in.Agent), n)
	b.names.load(in.Strings)
	b.attributes.append(in, len(b.start))
	at := len(b.start)
	b.start, b.durationMS = extend(b.start, n), extend(b.durationMS, n)
	for i, us := range in.Start {
		b.start[at+i] = int64(uint64(us) / 1000) // never negative
	}
	for i, us := range in.Duration {
		b.durationMS[at+i] = uint32(min(us/1000, math.MaxUint32)) // 49 days
	}
	b.addrs = b.addrs[:0]
	for _, a := range in.Addrs {
		b.addrs = append(b.addrs, mapped(a))
	}
	b.srcIP, b.dstIP = gather(b.srcIP, b.addrs, in.SrcAddr), gather(b.dstIP, b.addrs, in.DstAddr)
	b.srcPort = append(b.srcPort, in.SrcPort...)
	b.dstPort = append(b.dstPort, in.DstPort...)
	b.srcPackets = append(b.srcPackets, in.SrcPackets...)
	b.srcBytes = append(b.srcBytes, in.SrcBytes...)
	b.dstPackets = append(b.dstPackets, in.DstPackets...)
	b.dstBytes = append(b.dstBytes, in.DstBytes...)
	b.ageMS = append(b.ageMS, in.AgeMS...)
	b.handshakeUS = append(b.handshakeUS, in.HandshakeUS...)
	b.rttUS = append(b.rttUS, in.RTTUS...)
	b.latencyUS = append(b.latencyUS, in.LatencyUS...)
}

// mapped returns a as the store's IPv6: IPv4 as ::ffff:a.b.c.d.
func mapped(a netip.Addr) proto.IPv6 { return proto.IPv6(a.As16()) }
