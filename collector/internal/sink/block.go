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
	names      interner
	agent      *coded[uint16]
	agents     codes[uint16]
	start      proto.ColInt64
	durationMS proto.ColUInt32
	src, dst   codes[uint32]
	addrs      []proto.IPv6 // entries of src and dst
	plains     plains

	attributes attributes
	origins    origins

	features features
	sources  sources
	coverage coverage
	refused  refused

	flows proto.Input // the columns above under their names, attributes and origins left out
}

// NewBlock returns an empty block.
func NewBlock() *Block {
	b := &Block{}
	b.names.init()
	b.agents.init()
	b.agent = newNames(&b.agents, &b.names)
	b.src.init()
	b.dst.init()
	b.addrs = make([]proto.IPv6, 1)
	b.attributes.init(&b.names)
	b.origins.init(&b.names, &b.src, &b.dst, &b.agents)
	b.flows = proto.Input{
		{Name: "agent", Data: b.agent},
		{Name: "start", Data: proto.Alias(&b.start, typeMillis)},
		{Name: "duration_ms", Data: &b.durationMS},
		{Name: "src_ip", Data: addresses{&b.src, &b.addrs}},
		{Name: "dst_ip", Data: addresses{&b.dst, &b.addrs}},
	}
	b.flows = b.plains.init(b.flows)
	b.features.init()
	b.sources.init()
	b.coverage.init()
	b.refused.init()
	return b
}

// Enrich makes Append add what e knows of addresses and agents. nil is nothing.
func (b *Block) Enrich(e Enricher) { b.origins.enricher = e }

// Rows returns the number of flow records in the block.
func (b *Block) Rows() int { return len(b.start) }

// Longest returns the number of rows of the longest of the tables. A batch
// without a flow record has thousands of rows of the others if it likes.
func (b *Block) Longest() int {
	return max(len(b.start), b.features.rows(), b.sources.rows(), b.coverage.rows(), b.refused.rows(), b.origins.systems.rows())
}

// flowRowBytes are those of a row's start and duration, and in an insert those of its
// addresses and plain columns.
const flowRowBytes = 96

// Bytes returns what the rows take in memory, with their names, and what their
// insert does. The first row that has an attribute makes a column of it for all
// rows: up to 4 bytes for each, beside what its batch adds.
func (b *Block) Bytes() int {
	const addr = 16
	return flowRowBytes*len(b.start) + addr*(len(b.addrs)-1) + b.src.bytes() + b.dst.bytes() +
		b.agents.bytes() + b.agent.bytes() + b.names.bytes() + b.plains.bytes() + b.attributes.bytes() + b.origins.bytes() +
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
		{"flows", b.origins.appendInputs(b.attributes.appendInputs(b.flows[:len(b.flows):len(b.flows)])), b.Rows()},
		{"as_names", b.origins.systems.input, b.origins.systems.rows()},
		{"features", b.features.input, b.features.rows()},
		{"sources", b.sources.input, b.sources.rows()},
		{"refused_batches", b.refused.input, b.refused.rows()},
		{"coverage", b.coverage.input, b.coverage.rows()},
	}
}

// EncodeFlows appends to buffer the columns of flows as an insert sends them
// without compression. It is how the cost and the size of that are measured.
func (b *Block) EncodeFlows(buffer *proto.Buffer) error {
	flows := b.tables()[0]
	return proto.Block{Columns: len(flows.input), Rows: flows.rows}.EncodeRawBlock(buffer, proto.Version, flows.input)
}

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	b.flows.Reset()
	b.agents.reset()
	b.agent.reset()
	b.src.reset()
	b.dst.reset()
	b.addrs = b.addrs[:1]
	b.plains.reset()
	b.attributes.reset()
	b.names.reset() // after all columns that hold its numbers
	b.origins.reset()
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
	b.agent.addName(entry{b.names.number(in.Agent), uint32(len(in.Agent))})
	b.agents.addSame(len(b.agent.entries)-1, n)
	b.names.load(in.Strings)
	b.attributes.append(in)
	b.origins.append(in, len(b.agent.entries)-1, received)
	at := len(b.start)
	b.start, b.durationMS = extend(b.start, n), extend(b.durationMS, n)
	for i, us := range in.Start {
		b.start[at+i] = int64(uint64(us) / 1000) // never negative
	}
	for i, us := range in.Duration {
		b.durationMS[at+i] = uint32(min(us/1000, math.MaxUint32)) // 49 days
	}
	b.src.add(in.SrcAddr, len(in.Addrs))
	b.dst.add(in.DstAddr, len(in.Addrs))
	addrs := len(b.addrs)
	b.addrs = extend(b.addrs, len(in.Addrs))
	for i, a := range in.Addrs {
		mapTo(&b.addrs[addrs+i], a)
	}
	b.plains.append(in)
}

// mapTo makes ip the store's form of a: IPv4 as ::ffff:a.b.c.d. It writes in
// place, because a copy of what was just written in pieces waits for all of them.
func mapTo(ip *proto.IPv6, a netip.Addr) {
	if !a.Is4() {
		*ip = a.As16()
		return
	}
	*ip = proto.IPv6{10: 0xff, 11: 0xff}
	*(*[4]byte)(ip[12:]) = a.As4()
}
