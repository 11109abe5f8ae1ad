package sink

import (
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// features holds the rows of table features: what each attach point saw during a
// short time.
type features struct {
	time, received proto.ColInt64
	agent          dictionary
	iface, netns   dictionary
	direction      proto.ColUInt8
	intervalMS     proto.ColUInt32
	seen           counters
	syn, synACK    proto.ColUInt64
	fin, rst       proto.ColUInt64
	newFlows       proto.ColUInt64
	overflow       proto.ColUInt64
	sizes, gaps    *proto.ColArr[uint64]
	input          proto.Input
}

func (f *features) init() {
	f.agent.init()
	f.iface.init()
	f.netns.init()
	f.sizes, f.gaps = proto.NewArray(new(proto.ColUInt64)), proto.NewArray(new(proto.ColUInt64))
	f.input = proto.Input{
		{Name: "time", Data: proto.Alias(&f.time, typeMillis)},
		{Name: "received", Data: proto.Alias(&f.received, typeMillis)},
		{Name: "agent", Data: &f.agent},
		{Name: "interface", Data: &f.iface},
		{Name: "netns", Data: &f.netns},
		{Name: "direction", Data: proto.Alias(&f.direction, typeDirection)},
		{Name: "interval_ms", Data: &f.intervalMS},
		{Name: "seen_packets", Data: &f.seen.packets},
		{Name: "seen_bytes", Data: &f.seen.bytes},
		{Name: "syn_packets", Data: &f.syn},
		{Name: "syn_ack_packets", Data: &f.synACK},
		{Name: "fin_packets", Data: &f.fin},
		{Name: "rst_packets", Data: &f.rst},
		{Name: "new_flows", Data: &f.newFlows},
		{Name: "overflow_packets", Data: &f.overflow},
		{Name: "sizes", Data: f.sizes},
		{Name: "gaps", Data: f.gaps},
	}
}

func (f *features) rows() int { return len(f.time) }

func (f *features) reset() { f.input.Reset() }

func (f *features) bytes() int {
	const row, bucket = 122, 8
	return row*f.rows() + bucket*(f.sizes.Data.Rows()+f.gaps.Data.Rows()) + f.agent.bytes() + f.iface.bytes() + f.netns.bytes()
}

func (f *features) append(in *ebbwatch.Batch, received time.Time) {
	if len(in.Features) == 0 {
		return
	}
	agent := f.agent.key(in.Agent)
	for i := range in.Features {
		v := &in.Features[i]
		f.time = append(f.time, in.Time.UnixMilli())
		f.received = append(f.received, received.UnixMilli())
		f.agent.repeat(agent, 1)
		f.iface.repeat(f.iface.key(v.Interface), 1)
		f.netns.repeat(f.netns.key(v.NetNS), 1)
		f.direction = append(f.direction, direction(v.Egress))
		f.intervalMS = append(f.intervalMS, v.IntervalMS)
		f.seen.append(v.Seen)
		f.syn = append(f.syn, v.SYN)
		f.synACK = append(f.synACK, v.SYNACK)
		f.fin = append(f.fin, v.FIN)
		f.rst = append(f.rst, v.RST)
		f.newFlows = append(f.newFlows, v.NewFlows)
		f.overflow = append(f.overflow, v.Overflow)
		f.sizes.Append(v.Sizes)
		f.gaps.Append(v.Gaps)
	}
}

// sources holds the rows of table sources: what each address did during a drain
// interval so far.
type sources struct {
	time, received proto.ColInt64
	agent          dictionary
	addr           proto.ColIPv6
	others         proto.ColUInt8
	intervalMS     proto.ColUInt32
	flows, targets proto.ColUInt64
	overflow       counters
	input          proto.Input
}

func (s *sources) init() {
	s.agent.init()
	s.input = proto.Input{
		{Name: "time", Data: proto.Alias(&s.time, typeMillis)},
		{Name: "received", Data: proto.Alias(&s.received, typeMillis)},
		{Name: "agent", Data: &s.agent},
		{Name: "addr", Data: &s.addr},
		{Name: "others", Data: proto.Alias(&s.others, typeBool)},
		{Name: "interval_ms", Data: &s.intervalMS},
		{Name: "flows", Data: &s.flows},
		{Name: "targets", Data: &s.targets},
		{Name: "overflow_packets", Data: &s.overflow.packets},
		{Name: "overflow_bytes", Data: &s.overflow.bytes},
	}
}

func (s *sources) rows() int { return len(s.time) }

func (s *sources) reset() { s.input.Reset() }

func (s *sources) bytes() int {
	const row = 73
	return row*s.rows() + s.agent.bytes()
}

func (s *sources) append(in *ebbwatch.Batch, received time.Time) {
	if len(in.Sources) == 0 {
		return
	}
	agent := s.agent.key(in.Agent)
	for i := range in.Sources {
		v := &in.Sources[i]
		s.time = append(s.time, in.Time.UnixMilli())
		s.received = append(s.received, received.UnixMilli())
		s.agent.repeat(agent, 1)
		addr, others := proto.IPv6{}, uint8(1) // the invalid address
		if v.Addr.IsValid() {
			others = 0
			mapTo(&addr, v.Addr)
		}
		s.addr, s.others = append(s.addr, addr), append(s.others, others)
		s.intervalMS = append(s.intervalMS, v.IntervalMS)
		s.flows = append(s.flows, v.Flows)
		s.targets = append(s.targets, v.Targets)
		s.overflow.append(v.Overflow)
	}
}
