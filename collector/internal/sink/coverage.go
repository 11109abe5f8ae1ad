package sink

import (
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// coverage holds the rows of table coverage: one a batch and attach point.
type coverage struct {
	time, received       proto.ColInt64
	agent, version, boot dictionary
	sequence             proto.ColUInt64
	last                 proto.ColBool
	intervalMS, flows    proto.ColUInt32
	iface, netns         dictionary
	direction            proto.ColUInt8
	seen, recorded       counters
	overflow, other      counters
	skipped              counters
	reasons, losses      lossMap
	input                proto.Input
}

type counters struct{ packets, bytes proto.ColUInt64 }

func (c *counters) append(v ebbwatch.Counter) {
	c.packets = append(c.packets, v.Packets)
	c.bytes = append(c.bytes, v.Bytes)
}

func (c *coverage) init() {
	for _, d := range []*dictionary{&c.agent, &c.version, &c.boot, &c.iface, &c.netns, &c.reasons.names, &c.losses.names} {
		d.init()
	}
	c.input = proto.Input{
		{Name: "time", Data: proto.Alias(&c.time, typeMillis)},
		{Name: "received", Data: proto.Alias(&c.received, typeMillis)},
		{Name: "agent", Data: &c.agent},
		{Name: "agent_version", Data: &c.version},
		{Name: "boot", Data: &c.boot},
		{Name: "sequence", Data: &c.sequence},
		{Name: "last_of_run", Data: &c.last},
		{Name: "interval_ms", Data: &c.intervalMS},
		{Name: "flows", Data: &c.flows},
		{Name: "interface", Data: &c.iface},
		{Name: "netns", Data: &c.netns},
		{Name: "direction", Data: proto.Alias(&c.direction, typeDirection)},
		{Name: "seen_packets", Data: &c.seen.packets},
		{Name: "seen_bytes", Data: &c.seen.bytes},
		{Name: "recorded_packets", Data: &c.recorded.packets},
		{Name: "recorded_bytes", Data: &c.recorded.bytes},
		{Name: "overflow_packets", Data: &c.overflow.packets},
		{Name: "overflow_bytes", Data: &c.overflow.bytes},
		{Name: "other_packets", Data: &c.other.packets},
		{Name: "other_bytes", Data: &c.other.bytes},
		{Name: "skipped_packets", Data: &c.skipped.packets},
		{Name: "skipped_bytes", Data: &c.skipped.bytes},
		{Name: "reasons", Data: &c.reasons},
		{Name: "losses", Data: &c.losses},
	}
}

func (c *coverage) rows() int { return len(c.time) }

func (c *coverage) reset() { c.input.Reset() }

// bytes returns what the rows take in memory, with their names.
func (c *coverage) bytes() int {
	const row, loss = 150, 12
	bytes := row*c.rows() + loss*(len(c.losses.counts)+len(c.reasons.counts))
	for _, d := range []*dictionary{&c.agent, &c.version, &c.boot, &c.iface, &c.netns, &c.reasons.names, &c.losses.names} {
		bytes += d.bytes()
	}
	return bytes
}

func direction(egress bool) uint8 {
	if egress {
		return 1
	}
	return 0
}

// append adds a row for each attach point of a batch, or one without an
// interface if it has none: the agent's heartbeat.
func (c *coverage) append(in *ebbwatch.Batch, received time.Time) {
	points := in.Attach
	if len(points) == 0 {
		points = []ebbwatch.AttachPoint{{}}
	}
	agent, version, boot := c.agent.key(in.Agent), c.version.key(in.AgentVersion), c.boot.key(in.Boot)
	for i := range points {
		p := &points[i]
		c.time = append(c.time, in.Time.UnixMilli())
		c.received = append(c.received, received.UnixMilli())
		c.agent.repeat(agent, 1)
		c.version.repeat(version, 1)
		c.boot.repeat(boot, 1)
		c.sequence = append(c.sequence, in.Sequence)
		c.last = append(c.last, in.Last)
		c.intervalMS = append(c.intervalMS, in.IntervalMS)
		flows := uint32(0)
		if i == 0 { // once a batch, so that sum(flows) counts each record once
			flows = uint32(in.Len())
		}
		c.flows = append(c.flows, flows)
		c.iface.repeat(c.iface.key(p.Interface), 1)
		c.netns.repeat(c.netns.key(p.NetNS), 1)
		c.direction = append(c.direction, direction(p.Egress))
		c.seen.append(p.Seen)
		c.recorded.append(p.Recorded)
		c.overflow.append(p.Overflow)
		c.other.append(p.Other)
		c.skipped.append(p.Skipped)
		c.reasons.append(p.Reasons)
		c.losses.append(in.Losses)
	}
}

// lossMap is a column of type Map(LowCardinality(String), UInt64).
type lossMap struct {
	offsets proto.ColUInt64
	names   dictionary
	counts  proto.ColUInt64
}

func (m *lossMap) append(losses []ebbwatch.Loss) {
	for _, l := range losses {
		m.names.repeat(m.names.key(l.Name), 1)
		m.counts = append(m.counts, l.Count)
	}
	m.offsets = append(m.offsets, uint64(len(m.counts)))
}

// Type implements proto.ColInput.
func (m *lossMap) Type() proto.ColumnType {
	return proto.ColumnTypeMap.Sub(m.names.Type(), m.counts.Type())
}

// Rows implements proto.ColInput.
func (m *lossMap) Rows() int { return len(m.offsets) }

// EncodeState implements proto.StateEncoder.
func (m *lossMap) EncodeState(b *proto.Buffer) { m.names.EncodeState(b) }

// EncodeColumn implements proto.ColInput.
func (m *lossMap) EncodeColumn(b *proto.Buffer) {
	m.offsets.EncodeColumn(b)
	m.names.EncodeColumn(b)
	m.counts.EncodeColumn(b)
}

// WriteColumn implements proto.ColInput.
func (m *lossMap) WriteColumn(w *proto.Writer) {
	m.offsets.WriteColumn(w)
	m.names.WriteColumn(w)
	m.counts.WriteColumn(w)
}

// Reset empties the column.
func (m *lossMap) Reset() {
	m.offsets = m.offsets[:0]
	m.names.Reset()
	m.counts = m.counts[:0]
}
