package conn

import (
	"net/netip"
	"testing"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// packet is one TCP packet of a test conversation: who sent it, and its flags.
type packet struct {
	from  uint8 // 0 is A, the lower endpoint
	flags ebbwatch.TCPFlags
}

const (
	syn    = ebbwatch.FlagSYN
	synack = ebbwatch.FlagSYN | ebbwatch.FlagACK
	ack    = ebbwatch.FlagACK
	data   = ebbwatch.FlagPSH | ebbwatch.FlagACK
	fin    = ebbwatch.FlagFIN | ebbwatch.FlagACK
	rst    = ebbwatch.FlagRST
	rstack = ebbwatch.FlagRST | ebbwatch.FlagACK
)

const microsecond = 1000

// entry counts packets as the datapath does: the first one at startNS, then one
// every microsecond. A's packets pass the egress hook, B's the ingress hook.
func entry(startNS int64, packets ...packet) *flowbpf.Entry {
	e := &flowbpf.Entry{
		A: netip.MustParseAddr("192.0.2.1"), APort: 40000, B: netip.MustParseAddr("192.0.2.2"), BPort: 80,
		Proto: ebbwatch.ProtoTCP, Place: flowbpf.Place{Ifindex: 1}, Sampling: 1, FirstNS: startNS, FirstSide: packets[0].from,
	}
	if packets[0].from == 0 {
		e.FirstDirection = flowbpf.Egress
	}
	for i, p := range packets {
		e.LastNS = startNS + int64(i)*microsecond
		s := &e.Side[p.from]
		s.Add(flowbpf.Counters{Packets: 1, Bytes: 66})
		if p.from == 0 {
			e.Egress.Add(flowbpf.Counters{Packets: 1, Bytes: 66})
		}
		hadACK := ebbwatch.TCPFlags(s.Flags)&ack != 0
		s.Flags |= uint16(p.flags)
		first := func(at *int64) {
			if *at == 0 {
				*at = e.LastNS
			}
		}
		switch {
		case p.flags&synack == synack:
			first(&s.SYNACKNS)
		case p.flags&syn != 0:
			first(&s.SYNNS)
		}
		if !hadACK && p.flags&(ack|syn|rst) == ack {
			first(&s.ACKNS)
		}
		if p.flags&ebbwatch.FlagFIN != 0 {
			first(&s.FINNS)
		}
		if p.flags&ebbwatch.FlagRST != 0 {
			first(&s.RSTNS)
		}
	}
	return e
}

// udp turns e into an entry of another protocol.
func (p packet) as(proto uint8) *flowbpf.Entry {
	e := entry(1e9, p)
	e.Proto = proto
	e.Side[p.from].Flags = 0
	return e
}

// Each conversation is played twice: all in one interval, and one packet an
// interval. Zeek's answer is the same.
var conversations = []struct {
	name      string
	packets   []packet
	want      ebbwatch.ConnState
	initiator ebbwatch.Initiator
	srcIsB    bool
}{
	{"SYN and silence", []packet{{0, syn}}, ebbwatch.StateS0, ebbwatch.InitiatorSYN, false},
	{"SYN retransmitted into silence", []packet{{0, syn}, {0, syn}, {0, syn}}, ebbwatch.StateS0, ebbwatch.InitiatorSYN, false},
	{"SYN answered by a challenge ACK only", []packet{{0, syn}, {1, ack}}, ebbwatch.StateS0, ebbwatch.InitiatorSYN, false},
	{"SYN answered by payload without a SYN-ACK", []packet{{0, syn}, {1, data}}, ebbwatch.StateOTH, ebbwatch.InitiatorSYN, false},
	{"handshake", []packet{{0, syn}, {1, synack}, {0, ack}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, false},
	{"handshake opened by the higher endpoint", []packet{{1, syn}, {0, synack}, {1, ack}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, true},
	{"half-open: SYN-ACK never acknowledged", []packet{{0, syn}, {1, synack}, {1, synack}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, false},
	{"retransmitted SYN and SYN-ACK, then data", []packet{{0, syn}, {0, syn}, {1, synack}, {1, synack}, {0, ack}, {0, data}, {1, data}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, false},
	{"simultaneous open", []packet{{1, syn}, {0, syn}, {0, synack}, {1, synack}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, true},
	{"whole life", []packet{{0, syn}, {1, synack}, {0, ack}, {0, data}, {1, data}, {0, fin}, {1, fin}, {0, ack}}, ebbwatch.StateSF, ebbwatch.InitiatorSYN, false},
	{"closed by the responder first", []packet{{0, syn}, {1, synack}, {0, ack}, {1, data}, {1, fin}, {0, fin}, {1, ack}}, ebbwatch.StateSF, ebbwatch.InitiatorSYN, false},
	{"simultaneous close", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {1, fin}, {0, ack}, {1, ack}}, ebbwatch.StateSF, ebbwatch.InitiatorSYN, false},
	{"RST after both FINs", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {1, fin}, {0, rst}}, ebbwatch.StateSF, ebbwatch.InitiatorSYN, false},
	{"closed by a refused connection", []packet{{0, syn}, {1, rstack}}, ebbwatch.StateREJ, ebbwatch.InitiatorSYN, false},
	{"both sides reset before any SYN-ACK", []packet{{0, syn}, {1, rstack}, {0, rst}}, ebbwatch.StateREJ, ebbwatch.InitiatorSYN, false},
	{"initiator closes, responder does not", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {1, ack}}, ebbwatch.StateS2, ebbwatch.InitiatorSYN, false},
	{"responder closes, initiator does not", []packet{{0, syn}, {1, synack}, {0, ack}, {1, fin}, {0, ack}}, ebbwatch.StateS3, ebbwatch.InitiatorSYN, false},
	{"initiator aborts", []packet{{0, syn}, {1, synack}, {0, ack}, {1, data}, {0, rst}}, ebbwatch.StateRSTO, ebbwatch.InitiatorSYN, false},
	{"SYN scan of an open port", []packet{{0, syn}, {1, synack}, {0, rst}}, ebbwatch.StateRSTO, ebbwatch.InitiatorSYN, false},
	{"RST after the same side's FIN", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {1, ack}, {0, rst}}, ebbwatch.StateRSTO, ebbwatch.InitiatorSYN, false},
	{"responder aborts", []packet{{0, syn}, {1, synack}, {0, ack}, {0, data}, {1, rst}}, ebbwatch.StateRSTR, ebbwatch.InitiatorSYN, false},
	{"responder resets after the initiator's FIN", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {1, rst}}, ebbwatch.StateRSTR, ebbwatch.InitiatorSYN, false},
	{"initiator's FIN, its RST, then the responder's FIN: normal to Zeek", []packet{{0, syn}, {1, synack}, {0, ack}, {0, fin}, {0, rst}, {1, fin}}, ebbwatch.StateSF, ebbwatch.InitiatorSYN, false},
	{"SYN, then RST", []packet{{0, syn}, {0, rst}}, ebbwatch.StateRSTOS0, ebbwatch.InitiatorSYN, false},
	{"SYN, then RST with ACK", []packet{{0, syn}, {0, rstack}}, ebbwatch.StateRSTOS0, ebbwatch.InitiatorSYN, false},
	{"SYN, ACK, RST: an answer was missed", []packet{{0, syn}, {0, ack}, {0, rst}}, ebbwatch.StateOTH, ebbwatch.InitiatorSYN, false},
	{"SYN-ACK, then RST of the responder", []packet{{1, synack}, {1, rst}}, ebbwatch.StateRSTRH, ebbwatch.InitiatorSYN, false},
	{"SYN, then FIN", []packet{{0, syn}, {0, fin}}, ebbwatch.StateSH, ebbwatch.InitiatorSYN, false},
	{"FIN scan into silence: to Zeek the same", []packet{{0, ebbwatch.FlagFIN}}, ebbwatch.StateSH, ebbwatch.InitiatorUnknown, false},
	{"SYN-ACK, then FIN of the responder", []packet{{1, synack}, {1, fin}}, ebbwatch.StateSHR, ebbwatch.InitiatorSYN, false},
	{"SYN missed: SYN-ACK, ACK, data", []packet{{1, synack}, {0, ack}, {0, data}}, ebbwatch.StateS1, ebbwatch.InitiatorSYN, false},
	{"backscatter: SYN-ACK alone", []packet{{1, synack}}, ebbwatch.StateOTH, ebbwatch.InitiatorSYN, false},
	{"midstream traffic", []packet{{1, data}, {0, ack}, {0, data}}, ebbwatch.StateOTH, ebbwatch.InitiatorUnknown, true},
	{"midstream, closed by both", []packet{{0, data}, {1, ack}, {0, fin}, {1, fin}}, ebbwatch.StateSF, ebbwatch.InitiatorUnknown, false},
	{"midstream RST of the side that spoke first", []packet{{0, data}, {1, ack}, {0, rst}}, ebbwatch.StateOTH, ebbwatch.InitiatorUnknown, false},
	{"midstream RST of the other side", []packet{{0, data}, {1, rst}}, ebbwatch.StateRSTRH, ebbwatch.InitiatorUnknown, false},
	{"every flag at once (Christmas tree), refused", []packet{{0, ebbwatch.FlagFIN | ebbwatch.FlagPSH | ebbwatch.FlagURG}, {1, rstack}}, ebbwatch.StateRSTR, ebbwatch.InitiatorUnknown, false},
}

func TestTCPStateAndInitiator(t *testing.T) {
	seen := map[ebbwatch.ConnState]bool{}
	for _, c := range conversations {
		seen[c.want] = true
		for _, way := range []string{"in one interval", "one packet an interval"} {
			t.Run(c.name+", "+way, func(t *testing.T) {
				table := newTable(t, DefaultConfig())
				var f ebbwatch.Flow
				if way == "in one interval" {
					table.Begin(at(2e9), 1e9, false)
					observe(table, &f, entry(1e9, c.packets...))
				} else {
					for i, p := range c.packets {
						start := int64(i+1) * 1e9
						table.Begin(at(start+1e9), start, false)
						if !observe(table, &f, entry(start+1, p)) {
							t.Fatal("no record")
						}
					}
				}
				if f.ConnState != c.want {
					t.Errorf("conn_state %v, want %v", f.ConnState, c.want)
				}
				if f.Initiator != c.initiator {
					t.Errorf("initiator %v, want %v", f.Initiator, c.initiator)
				}
				if srcIsB := f.SrcPort == 80; srcIsB != c.srcIsB {
					t.Errorf("source is %v:%d", f.Src, f.SrcPort)
				}
			})
		}
	}
	for s := ebbwatch.StateOTH; s <= ebbwatch.StateSHR; s++ {
		if !seen[s] {
			t.Errorf("no conversation ends in %v", s)
		}
	}
}

func TestStateOfConnectionlessProtocols(t *testing.T) {
	for _, c := range []struct {
		name       string
		proto      uint8
		orig, resp Seen
		want       ebbwatch.ConnState
	}{
		{"UDP one way", ebbwatch.ProtoUDP, SentAny, 0, ebbwatch.StateS0},
		{"UDP both ways", ebbwatch.ProtoUDP, SentAny, SentAny, ebbwatch.StateSF},
		{"UDP of the responder only", ebbwatch.ProtoUDP, 0, SentAny, ebbwatch.StateSHR},
		{"ICMP one way", ebbwatch.ProtoICMP, SentAny, 0, ebbwatch.StateOTH},
		{"ICMP echo and reply", ebbwatch.ProtoICMP, SentAny, SentAny, ebbwatch.StateOTH},
		{"ICMPv6", ebbwatch.ProtoICMPv6, SentAny, SentAny, ebbwatch.StateOTH},
		{"GRE", 47, SentAny, SentAny, ebbwatch.StateOTH},
	} {
		if got := State(c.proto, c.orig, c.resp); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWhoSpokeFirstInitiatesWhatHasNoConnections(t *testing.T) {
	table := newTable(t, DefaultConfig())
	var f ebbwatch.Flow
	table.Begin(at(2e9), 1e9, false)
	observe(table, &f, packet{from: 1}.as(ebbwatch.ProtoUDP))
	if f.Initiator != ebbwatch.InitiatorFirst || f.SrcPort != 80 || f.ConnState != ebbwatch.StateS0 {
		t.Errorf("query: initiator %v, source port %d, %v", f.Initiator, f.SrcPort, f.ConnState)
	}
	table.Begin(at(3e9), 2e9, false)
	observe(table, &f, packet{from: 0}.as(ebbwatch.ProtoUDP))
	if f.SrcPort != 80 || f.ConnState != ebbwatch.StateSF || f.SrcPackets != 0 || f.DstPackets != 1 {
		t.Errorf("answer: source port %d, %v, %d and %d packets", f.SrcPort, f.ConnState, f.SrcPackets, f.DstPackets)
	}
}

// Zeek ignores what a side sends after its own RST.
func TestFINAfterTheSamesSidesRSTDoesNotCount(t *testing.T) {
	table := newTable(t, DefaultConfig())
	var f ebbwatch.Flow
	table.Begin(at(2e9), 1e9, false)
	observe(table, &f, entry(1e9, packet{0, syn}, packet{1, synack}, packet{0, fin}, packet{1, rst}, packet{1, fin}))
	if f.ConnState != ebbwatch.StateRSTR {
		t.Errorf("conn_state %v, want RSTR", f.ConnState)
	}
}
