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
	typeInitiator = proto.ColumnType("Enum8('unknown' = 0, 'syn' = 1, 'socket' = 2, 'first' = 3)")
	typeConnState = proto.ColumnType("Enum8('OTH' = 0, 'S0' = 1, 'S1' = 2, 'SF' = 3, 'REJ' = 4, 'S2' = 5, 'S3' = 6, 'RSTO' = 7, 'RSTR' = 8, 'RSTOS0' = 9, 'RSTRH' = 10, 'SH' = 11, 'SHR' = 12)")
	typeMillis    = proto.ColumnType("DateTime64(3, 'UTC')")
	typeBool      = proto.ColumnType("Bool")
	typeDirection = proto.ColumnType("Enum8('ingress' = 0, 'egress' = 1)")
)

// Block holds what is stored together as columns: the rows of flows, features,
// sources and coverage. It is not safe for concurrent use.
type Block struct {
	names                interner
	agent                dictionary
	iface                nameColumn
	start                proto.ColInt64
	durationMS           proto.ColUInt32
	srcIP, dstIP         proto.ColIPv6
	srcPort, dstPort     proto.ColUInt16
	protocol             proto.ColUInt8
	initiator            proto.ColUInt8
	vlan                 proto.ColUInt16
	srcPackets, srcBytes proto.ColUInt64
	dstPackets, dstBytes proto.ColUInt64
	srcFlags, dstFlags   proto.ColUInt16
	connState            proto.ColUInt8
	icmpType, icmpCode   proto.ColUInt8
	ageMS                proto.ColUInt32
	final                proto.ColUInt8
	sampling             proto.ColUInt32

	attributes attributes

	features features
	sources  sources
	coverage coverage

	flows proto.Input // the columns above under their names, attributes left out
	addrs []proto.IPv6
}

// NewBlock returns an empty block.
func NewBlock() *Block {
	b := &Block{}
	b.agent.init()
	b.names.init()
	b.iface.init(&b.names)
	b.attributes.init(&b.names)
	b.flows = proto.Input{
		{Name: "agent", Data: &b.agent},
		{Name: "interface", Data: &b.iface},
		{Name: "start", Data: proto.Alias(&b.start, typeMillis)},
		{Name: "duration_ms", Data: &b.durationMS},
		{Name: "src_ip", Data: &b.srcIP},
		{Name: "dst_ip", Data: &b.dstIP},
		{Name: "src_port", Data: &b.srcPort},
		{Name: "dst_port", Data: &b.dstPort},
		{Name: "proto", Data: &b.protocol},
		{Name: "initiator", Data: proto.Alias(&b.initiator, typeInitiator)},
		{Name: "vlan", Data: &b.vlan},
		{Name: "src_packets", Data: &b.srcPackets},
		{Name: "src_bytes", Data: &b.srcBytes},
		{Name: "dst_packets", Data: &b.dstPackets},
		{Name: "dst_bytes", Data: &b.dstBytes},
		{Name: "src_flags", Data: &b.srcFlags},
		{Name: "dst_flags", Data: &b.dstFlags},
		{Name: "conn_state", Data: proto.Alias(&b.connState, typeConnState)},
		{Name: "icmp_type", Data: &b.icmpType},
		{Name: "icmp_code", Data: &b.icmpCode},
		{Name: "age_ms", Data: &b.ageMS},
		{Name: "final", Data: proto.Alias(&b.final, typeBool)},
		{Name: "sampling", Data: &b.sampling},
	}
	b.features.init()
	b.sources.init()
	b.coverage.init()
	return b
}

// Rows returns the number of flow records in the block.
func (b *Block) Rows() int { return len(b.start) }

// Longest returns the number of rows of the longest of the tables. A batch
// without a flow record has thousands of rows of the others if it likes.
func (b *Block) Longest() int {
	return max(len(b.start), b.features.rows(), b.sources.rows(), b.coverage.rows())
}

// flowRowBytes are those of a row's columns of fixed width, attributes left out
// and dictionary keys included.
const flowRowBytes = 118

// Bytes returns what the rows take in memory, with their names. The first row
// that has an attribute makes a column of it for all rows: up to 4 bytes for
// each, beside what its batch adds.
func (b *Block) Bytes() int {
	return flowRowBytes*len(b.start) + b.agent.bytes() + b.iface.bytes() + b.names.bytes() + b.attributes.bytes(len(b.start)) +
		b.features.bytes() + b.sources.bytes() + b.coverage.bytes()
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
	b.attributes.append(in, len(b.start), &b.iface)
	b.iface.appendIndices(in.Interface)
	for _, us := range in.Start {
		b.start = append(b.start, us/1000)
	}
	for _, us := range in.Duration {
		b.durationMS = append(b.durationMS, uint32(min(us/1000, math.MaxUint32))) // 49 days
	}
	b.addrs = b.addrs[:0]
	for _, a := range in.Addrs {
		b.addrs = append(b.addrs, mapped(a))
	}
	for _, i := range in.SrcAddr {
		b.srcIP = append(b.srcIP, b.addrs[i])
	}
	for _, i := range in.DstAddr {
		b.dstIP = append(b.dstIP, b.addrs[i])
	}
	b.srcPort = append(b.srcPort, in.SrcPort...)
	b.dstPort = append(b.dstPort, in.DstPort...)
	b.protocol = append(b.protocol, in.Proto...)
	b.initiator = append(b.initiator, in.Initiator...)
	b.vlan = append(b.vlan, in.VLAN...)
	b.srcPackets = append(b.srcPackets, in.SrcPackets...)
	b.srcBytes = append(b.srcBytes, in.SrcBytes...)
	b.dstPackets = append(b.dstPackets, in.DstPackets...)
	b.dstBytes = append(b.dstBytes, in.DstBytes...)
	b.srcFlags = append(b.srcFlags, in.SrcFlags...)
	b.dstFlags = append(b.dstFlags, in.DstFlags...)
	b.connState = append(b.connState, in.ConnState...)
	b.icmpType = append(b.icmpType, in.ICMPType...)
	b.icmpCode = append(b.icmpCode, in.ICMPCode...)
	b.ageMS = append(b.ageMS, in.AgeMS...)
	b.final = append(b.final, in.Final...)
	b.sampling = append(b.sampling, in.Sampling...)
}

// mapped returns a as the store's IPv6: IPv4 as ::ffff:a.b.c.d.
func mapped(a netip.Addr) proto.IPv6 { return proto.IPv6(a.As16()) }
