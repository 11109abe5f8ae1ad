// Package flowgen makes batches that look like those of a fleet, the same ones
// for the same seed. Benchmarks and tests use it; nothing that ships does.
package flowgen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Fleet generates the batches of a number of agents in turn. It is not safe for
// concurrent use.
type Fleet struct {
	rnd    *rand.Rand
	zipf   *rand.Zipf // which server
	agents []agent
	remote []netip.Addr
	names  []string
	ja4    []string
	next   int
	now    time.Time
	step   time.Duration
}

type agent struct {
	name, boot string
	addr       netip.Addr
	addr6      netip.Addr
	interfaces []string
	processes  []process
	vni        uint32 // of the overlay network that some hosts have
	talks      []talk
	sequence   uint64
}

// talk is what a host does again and again: its own address, whom it talks with,
// by which service, and who of both serves.
type talk struct {
	local, peer netip.Addr
	service     int
	isServer    bool
}

// regularTalks is how many of them a host has. In a network of 100 million flows
// a day there are a million or so of pairs; if every flow chose anew whom to talk
// to, there were fifty times as many.
const regularTalks = 100

// New returns a fleet of the given size whose first batch ends at start. All
// agents drain once in each interval.
func New(seed uint64, agents int, start time.Time, interval time.Duration) *Fleet {
	rnd := rand.New(rand.NewPCG(seed, 0x5eed))
	f := &Fleet{rnd: rnd, now: start, step: interval / time.Duration(agents)}
	f.zipf = rand.NewZipf(f.rnd, 1.2, 4, 4095)
	for i := range agents {
		f.agents = append(f.agents, agent{
			name: fmt.Sprintf("host-%04d", i), boot: uuid(f.rnd),
			addr:       netip.AddrFrom4([4]byte{10, byte(i >> 12), byte(i >> 4), byte(10 + i&15)}),
			addr6:      netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 12: byte(i >> 8), 13: byte(i), 15: 1}),
			interfaces: []string{"eth0", fmt.Sprintf("veth%04x", f.rnd.IntN(1<<16)), "lo"},
			processes:  processes(f.rnd, i),
			vni:        uint32(max(0, i%6-4)) * 4096,
		})
	}
	for range 4096 {
		f.remote = append(f.remote, netip.AddrFrom4([4]byte{byte(1 + f.rnd.IntN(222)), byte(f.rnd.IntN(256)), byte(f.rnd.IntN(256)), byte(f.rnd.IntN(256))}))
	}
	f.makeNames()
	for i := range f.agents {
		for range regularTalks {
			f.agents[i].talks = append(f.agents[i].talks, f.talk(&f.agents[i]))
		}
	}
	return f
}

// talk makes up whom a host talks with. A server has one service, rarely two.
func (f *Fleet) talk(a *agent) talk {
	t := talk{local: a.addr, peer: f.remote[f.zipf.Uint64()], isServer: f.rnd.IntN(4) == 0}
	switch r := f.rnd.IntN(100); {
	case r < 45: // inside the fleet
		other := &f.agents[f.zipf.Uint64()%uint64(len(f.agents))]
		t.peer = other.addr
		if r < 8 {
			t.local, t.peer = a.addr6, other.addr6
		}
	}
	server := t.peer.As16()
	if t.isServer {
		server = t.local.As16()
	}
	pick := (int(server[12])*31 + int(server[13])*17 + int(server[14])*7 + int(server[15])*37) % 100
	if f.rnd.IntN(8) == 0 {
		pick = f.rnd.IntN(100)
	}
	for i, s := range services {
		t.service = i
		if pick -= s.weight; pick < 0 {
			break
		}
	}
	return t
}

func uuid(rnd *rand.Rand) string {
	a, b := rnd.Uint64(), rnd.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(a), uint16(a>>32), (a>>48)&0xfff, b>>52, b&0xffffffffffff)
}

// Next replaces b with the next agent's batch of n flows.
func (f *Fleet) Next(b *ebbwatch.Batch, n int) {
	a := &f.agents[f.next]
	f.next = (f.next + 1) % len(f.agents)
	f.now = f.now.Add(f.step)
	a.sequence++
	b.Reset()
	b.Agent, b.AgentVersion, b.Boot, b.Sequence = a.name, "v1.0.0", a.boot, a.sequence
	b.Time, b.IntervalMS = f.now, 5000
	var recorded ebbwatch.Counter
	for range n {
		flow := f.flow(a)
		recorded.Add(ebbwatch.Counter{Packets: flow.SrcPackets + flow.DstPackets, Bytes: flow.SrcBytes + flow.DstBytes})
		b.Append(&flow)
	}
	other := ebbwatch.Counter{Packets: uint64(f.rnd.IntN(5))}
	other.Bytes = 60 * other.Packets
	seen := recorded
	seen.Add(other)
	point := ebbwatch.AttachPoint{Interface: a.interfaces[0], Seen: seen, Recorded: recorded, Other: other}
	if other.Packets > 0 {
		point.Reasons = []ebbwatch.Loss{{Name: "not_ip", Count: other.Packets}}
	}
	b.Attach = append(b.Attach, point)
	f.warn(b, a)
}

// services are the ports that conversations go to, by how often.
var services = []struct {
	port   uint16
	proto  uint8
	weight int
	bytes  float64 // median of the larger side
}{
	{443, ebbwatch.ProtoTCP, 42, 9000}, {443, ebbwatch.ProtoUDP, 3, 20_000}, {53, ebbwatch.ProtoUDP, 25, 180}, {80, ebbwatch.ProtoTCP, 8, 4000},
	{5432, ebbwatch.ProtoTCP, 6, 3000}, {6379, ebbwatch.ProtoTCP, 5, 700}, {9092, ebbwatch.ProtoTCP, 3, 50_000},
	{123, ebbwatch.ProtoUDP, 2, 90}, {22, ebbwatch.ProtoTCP, 1, 20_000}, {8080, ebbwatch.ProtoTCP, 3, 5000}, {0, ebbwatch.ProtoICMP, 2, 98},
}

func (f *Fleet) flow(a *agent) ebbwatch.Flow {
	t := a.talks[min(f.rnd.IntN(regularTalks), f.rnd.IntN(regularTalks))] // some are more frequent than others
	if f.rnd.IntN(50) == 0 {
		t = f.talk(a)
	}
	s := services[t.service]
	start := f.now.Add(-time.Duration(f.rnd.Int64N(int64(5 * time.Second))))
	duration := time.Duration(math.Exp(f.rnd.NormFloat64()*1.5-4) * float64(time.Second)) // median 18 ms
	flow := ebbwatch.Flow{
		Start: start, End: start.Add(min(duration, 5*time.Second)), Src: t.local, Dst: t.peer,
		SrcPort: uint16(32768 + f.rnd.IntN(28232)), DstPort: s.port, Proto: s.proto, Sampling: 1,
		Interface: a.interfaces[min(f.rnd.IntN(12)/6, 1)], Final: f.rnd.IntN(10) > 0,
	}
	if t.isServer {
		flow.Src, flow.Dst = flow.Dst, flow.Src
	}
	if s.proto == ebbwatch.ProtoICMP {
		flow.SrcPort, flow.ICMPType = 0, 8
		if flow.Src.Is6() {
			flow.Proto, flow.ICMPType = ebbwatch.ProtoICMPv6, 128
		}
	}
	if a.vni > 0 && f.rnd.IntN(3) == 0 {
		flow.Tunnel, flow.TunnelID = ebbwatch.TunnelVXLAN, a.vni
	}
	f.count(&flow, s.bytes)
	p := &a.processes[f.rnd.IntN(len(a.processes))]
	f.owner(&flow, a, p, t.isServer)
	f.hint(&flow, a, p, t.peer)
	f.health(&flow, t.peer)
	return flow
}

// count fills in counters, flags and state.
func (f *Fleet) count(flow *ebbwatch.Flow, median float64) {
	bytes := uint64(median * math.Exp(f.rnd.NormFloat64()*1.2))
	flow.DstBytes, flow.DstPackets = bytes, 1+bytes/1400
	flow.SrcPackets = 1 + flow.DstPackets/2
	flow.SrcBytes = flow.SrcPackets*66 + uint64(f.rnd.IntN(900))
	if !flow.Final || f.rnd.IntN(8) == 0 { // known for longer
		flow.AgeMS = uint32(5000 * (1 + f.rnd.IntN(30)))
	}
	if flow.Proto != ebbwatch.ProtoTCP {
		flow.Initiator, flow.ConnState = ebbwatch.InitiatorFirst, ebbwatch.StateSF
		return
	}
	flow.Initiator = ebbwatch.InitiatorSYN
	flow.SrcFlags = ebbwatch.FlagSYN | ebbwatch.FlagACK | ebbwatch.FlagPSH | ebbwatch.FlagFIN
	flow.DstFlags, flow.ConnState = flow.SrcFlags, ebbwatch.StateSF
	switch r := f.rnd.IntN(100); {
	case r < 5: // nobody answers
		flow.DstPackets, flow.DstBytes, flow.DstFlags, flow.AgeMS = 0, 0, 0, 0
		flow.SrcPackets, flow.SrcBytes = 3, 222
		flow.SrcFlags, flow.ConnState = ebbwatch.FlagSYN, ebbwatch.StateS0
	case r < 7: // refused
		flow.DstPackets, flow.DstBytes, flow.DstFlags, flow.AgeMS = 1, 54, ebbwatch.FlagRST|ebbwatch.FlagACK, 0
		flow.SrcPackets, flow.SrcBytes = 1, 74
		flow.SrcFlags, flow.ConnState = ebbwatch.FlagSYN, ebbwatch.StateREJ
	case !flow.Final:
		flow.SrcFlags &^= ebbwatch.FlagFIN
		flow.DstFlags &^= ebbwatch.FlagFIN
		flow.ConnState = ebbwatch.StateS1
	case r < 12:
		flow.SrcFlags |= ebbwatch.FlagRST
		flow.ConnState = ebbwatch.StateRSTO
	}
}
