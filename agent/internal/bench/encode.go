package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// measureEncoding appends and encodes the flows of a busy host, 100 and 1000 a batch.
func measureEncoding() ([]figure, error) {
	var figures []figure
	for _, size := range []int{100, 1000} {
		ns, bytes, err := encode(size)
		if err != nil {
			return nil, err
		}
		suffix := ""
		if size != 100 {
			suffix = fmt.Sprintf("_%d", size)
		}
		figures = append(figures, figure{"encode_ns_per_flow" + suffix, ns, "ns/flow"}, figure{"wire_bytes_per_flow" + suffix, bytes, "bytes/flow"})
	}
	return figures, nil
}

// encode returns the median cost of a flow over many batches of size flows.
func encode(size int) (ns, bytes float64, err error) {
	const rounds, batches = 15, 60
	var encoder ebbwatch.Encoder
	var costs, sizes []float64
	for round := range rounds {
		m := newMix(uint64(round))
		flows := make([][]ebbwatch.Flow, batches)
		for i := range flows {
			flows[i] = m.batch(size)
		}
		var batch ebbwatch.Batch
		var message []byte
		total := 0
		begin := time.Now()
		for i := range flows {
			batch.Reset()
			batch.Envelope = envelope(m.now, i+1)
			for j := range flows[i] {
				batch.Append(&flows[i][j])
			}
			if message, err = encoder.Encode(message[:0], &batch); err != nil {
				return 0, 0, err
			}
			total += len(message)
		}
		costs = append(costs, float64(time.Since(begin).Nanoseconds())/float64(size*batches))
		sizes = append(sizes, float64(total)/float64(size*batches))
	}
	return median(costs), median(sizes), nil
}

func envelope(now time.Time, sequence int) ebbwatch.Envelope {
	c := ebbwatch.Counter{Packets: 123_456, Bytes: 98_765_432}
	return ebbwatch.Envelope{
		Agent: "web-017", AgentVersion: "v1.0.0", Boot: "5b3a20a9-2ed4-4644-8d28-3229a0acbcf0", Sequence: uint64(sequence), Time: now, IntervalMS: 5000,
		Attach: []ebbwatch.AttachPoint{{Interface: "eth0", Seen: c, Recorded: c}, {Interface: "eth0", Egress: true, Seen: c, Recorded: c}},
	}
}

// mix makes the flows of one busy web server: its clients come from everywhere
// and mostly once, its own calls go to few services. Random numbers that matter
// for compression (ports, addresses, times, sizes) are as random as on a real host.
type mix struct {
	rnd      *rand.Rand
	now      time.Time
	self     netip.Addr
	self6    netip.Addr
	services []netip.AddrPort
	resolver netip.AddrPort
}

func newMix(seed uint64) *mix {
	m := &mix{
		rnd:  rand.New(rand.NewPCG(seed, 7)),
		now:  time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC),
		self: netip.MustParseAddr("10.20.3.17"), self6: netip.MustParseAddr("2001:db8:20:3::17"),
		resolver: netip.MustParseAddrPort("10.20.0.2:53"),
	}
	for i := range 12 {
		m.services = append(m.services, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, 1, byte(i)}), []uint16{5432, 6379, 9092, 8080}[i%4]))
	}
	return m
}

func (m *mix) batch(n int) []ebbwatch.Flow {
	flows := make([]ebbwatch.Flow, n)
	for i := range flows {
		flows[i] = m.flow()
		m.attribute(&flows[i])
	}
	return flows
}

// attribute adds what the agent finds out beside the packets.
func (m *mix) attribute(f *ebbwatch.Flow) {
	server := ebbwatch.Owner{PID: uint32(1200 + m.rnd.IntN(4)), UID: 33, Process: "nginx", Unit: "nginx.service"}
	client := ebbwatch.Owner{PID: uint32(1300 + m.rnd.IntN(8)), UID: 1001, Process: "shop", Unit: "shop.service"}
	if f.Proto == ebbwatch.ProtoTCP && f.ConnState != ebbwatch.StateREJ {
		f.RTTUS = uint32(20_000 * math.Exp(m.rnd.NormFloat64()))
		if f.AgeMS == 0 {
			f.HandshakeUS = f.RTTUS + uint32(m.rnd.IntN(3000))
		}
		if m.rnd.IntN(30) == 0 {
			f.SrcHealth.Retransmits = uint32(1 + m.rnd.IntN(5))
		}
	}
	switch {
	case f.DstPort == 443:
		f.DstOwner = server
		f.Hint = ebbwatch.Hint{App: ebbwatch.AppTLS, ServerName: pick(m, "shop.example", "api.shop.example", "img.shop.example"), TLSALPN: "h2", LatencyUS: f.RTTUS / 3,
			TLSJA4: pick(m, "t13d1516h2_8daaf6152771_02713d6af862", "t13d1715h2_5b57614c22b0_3d5424432f57", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6")}
	case f.DstPort == 53:
		f.SrcOwner = ebbwatch.Owner{PID: 801, UID: 101, Process: "systemd-resolve", Unit: "systemd-resolved.service"}
		f.Hint = ebbwatch.Hint{App: ebbwatch.AppDNS, ServerName: fmt.Sprintf("host-%d.customers.example", m.rnd.IntN(2000)), DNSType: pick(m, "A", "AAAA"), DNSRcode: "NOERROR",
			DNSAnswers: uint32(1 + m.rnd.IntN(4)), LatencyUS: uint32(300 + m.rnd.IntN(20_000))}
	case f.Src == m.self:
		f.SrcOwner = client
	}
}

func pick(m *mix, names ...string) string { return names[m.rnd.IntN(len(names))] }

func (m *mix) flow() ebbwatch.Flow {
	f := ebbwatch.Flow{Interface: "eth0", Sampling: 1, Proto: ebbwatch.ProtoTCP, Initiator: ebbwatch.InitiatorSYN, ConnState: ebbwatch.StateSF, Final: true,
		SrcFlags: 0x1b, DstFlags: 0x1b, SrcPort: uint16(32768 + m.rnd.IntN(28232))}
	f.Start = m.now.Add(-time.Duration(m.rnd.Int64N(5e9)))
	f.End = f.Start.Add(min(time.Duration(math.Exp(m.rnd.NormFloat64()*1.5-3)*1e9), m.now.Sub(f.Start)))
	request, answer := uint64(400+m.rnd.IntN(1500)), uint64(8000*math.Exp(m.rnd.NormFloat64()*1.3))
	switch r := m.rnd.IntN(100); {
	case r < 50: // a client of ours
		f.Src, f.Dst, f.DstPort = m.stranger(), m.self, 443
		if r < 8 {
			f.Src, f.Dst = m.stranger6(), m.self6
		}
	case r < 70: // our call to a service, mostly on a connection that stays open
		s := m.services[m.rnd.IntN(len(m.services))]
		f.Src, f.Dst, f.DstPort = m.self, s.Addr(), s.Port()
		if m.rnd.IntN(3) > 0 {
			f.ConnState, f.Final, f.SrcFlags, f.DstFlags, f.AgeMS = ebbwatch.StateS1, false, 0x18, 0x18, uint32(m.rnd.IntN(3_600_000))
		}
	case r < 90: // name service
		f.Src, f.Dst, f.DstPort, f.Proto, f.Initiator, f.Final = m.self, m.resolver.Addr(), 53, ebbwatch.ProtoUDP, ebbwatch.InitiatorFirst, false
		f.SrcFlags, f.DstFlags = 0, 0
		f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes = 1, uint64(70+m.rnd.IntN(30)), 1, uint64(90+m.rnd.IntN(200))
		return f
	case r < 97: // somebody's probe
		f.Src, f.Dst, f.DstPort = m.stranger(), m.self, uint16(m.rnd.IntN(65536))
		f.ConnState, f.Final, f.SrcFlags, f.DstFlags = ebbwatch.StateREJ, true, 0x02, 0x14
		f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes, f.End = 1, 60, 1, 54, f.Start.Add(30*time.Microsecond)
		return f
	default:
		f.Src, f.Dst, f.SrcPort, f.Proto, f.Initiator, f.ICMPType = m.stranger(), m.self, 0, ebbwatch.ProtoICMP, ebbwatch.InitiatorFirst, 8
		f.ConnState, f.Final, f.SrcFlags, f.DstFlags = ebbwatch.StateOTH, false, 0, 0
		f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes = 5, 490, 5, 490
		return f
	}
	f.DstBytes, f.DstPackets = answer, 4+answer/1448
	f.SrcPackets = 5 + f.DstPackets/2
	f.SrcBytes = request + 66*f.SrcPackets
	return f
}

func (m *mix) stranger() netip.Addr {
	return netip.AddrFrom4([4]byte{byte(1 + m.rnd.IntN(222)), byte(m.rnd.IntN(256)), byte(m.rnd.IntN(256)), byte(m.rnd.IntN(256))})
}

func (m *mix) stranger6() netip.Addr {
	b := [16]byte{0x2a, 0x02}
	for i := 2; i < 16; i++ {
		b[i] = byte(m.rnd.IntN(256))
	}
	return netip.AddrFrom16(b)
}
