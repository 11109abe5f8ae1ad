package conn

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// seen is e as seen at another place, by the hook that dirA names for side A's packets.
func seen(e *flowbpf.Entry, place flowbpf.Place, dirA flowbpf.Direction) *flowbpf.Entry {
	m := *e
	m.Place, m.FirstDirection = place, dirA
	if m.FirstSide != 0 {
		m.FirstDirection = 1 - dirA
	}
	m.FirstNS += int64(place.Ifindex) // each place a little later
	return &m
}

func TestOnePacketOneCount(t *testing.T) {
	const in, out = flowbpf.Ingress, flowbpf.Egress
	at := func(ifindex uint32) flowbpf.Place { return flowbpf.Place{Ifindex: ifindex} }
	inside := func(ifindex uint32) flowbpf.Place { return flowbpf.Place{NetNS: 1, Ifindex: ifindex} }
	e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
	fewer := entry(second, packet{0, syn})
	tunnel := func(e *flowbpf.Entry, id uint32) *flowbpf.Entry {
		m := *e
		m.Tunnel, m.TunnelID = uint8(ebbwatch.TunnelVXLAN), id
		return &m
	}
	for _, c := range []struct {
		name    string
		links   links
		entries []*flowbpf.Entry
		want    []string // interfaces of each record
	}{
		{"one interface names itself alone", nil, []*flowbpf.Entry{seen(e, at(1), out)}, []string{""}},
		{"forwarded from one interface to another", nil, []*flowbpf.Entry{seen(e, at(1), in), seen(fewer, at(2), out)}, []string{"if1 if2"}},
		{"a bridge port, the bridge, and the uplink", links{{1, 2}}, []*flowbpf.Entry{seen(e, at(1), in), seen(fewer, at(2), in), seen(fewer, at(3), out)}, []string{"if1 if2 if3"}},
		{"a container's own interface and the host's end of it", nil, []*flowbpf.Entry{seen(e, inside(1), out), seen(fewer, at(2), in)}, []string{"if1 if2"}}, // out inside is in outside, so only a relation tells
		{"equal counts at places that nobody knows to be related", nil, []*flowbpf.Entry{seen(e, at(1), in), seen(e, at(2), in)}, []string{"if1 if2"}},
		{"two uplinks that carry different packets", nil, []*flowbpf.Entry{seen(e, at(1), out), seen(fewer, at(2), out)}, []string{"", ""}},
		{"a tunnel's device and the one below", nil, []*flowbpf.Entry{tunnel(seen(fewer, at(1), out), 7), seen(e, at(2), out)}, []string{"if2 if1"}},
		{"two networks in two tunnels", nil, []*flowbpf.Entry{tunnel(seen(e, at(1), out), 7), tunnel(seen(e, at(1), out), 8)}, []string{"", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(DefaultConfig(), c.links)
			if c.entries[0].Place.NetNS != 0 {
				table = NewTable(DefaultConfig(), links{{1, 2}})
			}
			records, _ := drain(table, 2*second, c.entries...)
			var got []string
			packets := uint64(0)
			for _, r := range records {
				got = append(got, r.Interfaces)
				packets += r.SrcPackets + r.DstPackets
			}
			if len(got) != len(c.want) {
				t.Fatalf("records of %q, want %q", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("records of %q, want %q", got, c.want)
				}
			}
			all := uint64(0)
			for _, e := range c.entries {
				all += e.Side[0].Packets + e.Side[1].Packets
			}
			if repeated := table.Stats().Repeated.Packets; packets+repeated != all {
				t.Errorf("%d packets recorded, %d repeated, %d seen", packets, repeated, all)
			}
		})
	}
}

func TestATunnelsPacketsTellTheirTunnelWhereTheyAreRecorded(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
	below := *seen(e, flowbpf.Place{Ifindex: 2}, flowbpf.Egress)
	below.Tunnel, below.TunnelID = uint8(ebbwatch.TunnelVXLAN), 42
	e.Side[1].PID, below.Side[0].PID, below.Side[0].KernelRTTUS = 11, 22, 33
	records, _ := drain(table, 2*second, e, &below)
	if len(records) != 1 || records[0].Tunnel != ebbwatch.TunnelVXLAN || records[0].TunnelID != 42 {
		t.Fatalf("%+v", records)
	}
	if r := records[0]; r.SrcOwner.PID != 22 || r.DstOwner.PID != 11 || r.RTTUS != 33 {
		t.Errorf("owners %d and %d, round trip %d", r.SrcOwner.PID, r.DstOwner.PID, r.RTTUS)
	}
	// What was under way when the interval ended is not recorded by the device below.
	if records, _ = drain(table, 3*second, &below); len(records) != 0 {
		t.Errorf("%+v", records)
	}
}

func TestHandshakeIsTimedOnce(t *testing.T) {
	table := newTable(t, DefaultConfig())
	record := func(endNS int64, e *flowbpf.Entry) uint32 {
		records, _ := drain(table, endNS, e)
		if len(records) != 1 {
			t.Fatalf("%d records", len(records))
		}
		return records[0].HandshakeUS
	}
	if got := record(2*second, entry(second, packet{0, syn})); got != 0 {
		t.Errorf("%d µs after the SYN", got)
	}
	// The answer comes in the next interval.
	if got := record(3*second, entry(2*second, packet{1, synack}, packet{0, ack}, packet{0, data})); got != 1_000_001 {
		t.Errorf("%d µs after the ACK, want 1000001", got)
	}
	if got := record(4*second, entry(3*second, packet{0, data}, packet{1, ack})); got != 0 {
		t.Errorf("%d µs again", got)
	}
}

func TestSampledCountersAreScaled(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, data}, packet{1, ack})
	e.Sampling, e.Side[0].Retransmits = 64, 2
	records, _ := drain(table, 2*second, e)
	if r := records[0]; r.Sampling != 64 || r.SrcPackets != 64 || r.DstBytes != 64*66 || r.SrcHealth.Retransmits != 128 {
		t.Errorf("%+v", r)
	}
}

func TestSeededConnectionsKnowTheirInitiator(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.2:80") // as in entry
	for _, c := range []struct {
		name          string
		local, remote netip.AddrPort
		localOpened   bool
		packets       []packet
		want          ebbwatch.Initiator
		src           uint16
	}{
		{"the local side connected", a, b, true, []packet{{1, data}, {0, ack}}, ebbwatch.InitiatorSocket, 40000},
		{"the local side accepted", b, a, false, []packet{{1, data}, {0, ack}}, ebbwatch.InitiatorSocket, 40000},
		{"the higher endpoint connected", b, a, true, []packet{{0, data}, {1, ack}}, ebbwatch.InitiatorSocket, 80},
		{"a handshake since then is another connection", b, a, true, []packet{{0, syn}, {1, synack}, {0, ack}}, ebbwatch.InitiatorSYN, 40000},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, DefaultConfig())
			table.Begin(at(2*second), second, false)
			table.Seed(c.local, c.remote, c.localOpened)
			table.Seed(c.local, c.remote, !c.localOpened) // known: changes nothing
			var got []ebbwatch.Flow
			table.Observe([]flowbpf.Entry{*entry(second, c.packets...)}, func(r *Record) { got = append(got, r.Flow) })
			if len(got) != 1 || got[0].Initiator != c.want || got[0].SrcPort != c.src || got[0].AgeMS != 0 {
				t.Errorf("%+v", got)
			}
			if next, _ := drain(table, 3*second, entry(2*second, packet{0, data})); len(next) != 1 || next[0].SrcPort != c.src || next[0].AgeMS == 0 {
				t.Errorf("later: %+v", next)
			}
		})
	}
	table := newTable(t, DefaultConfig())
	table.Begin(at(2*second), second, false)
	table.Seed(a, b, true)
	if _, finals := drain(table, int64(time.Hour)); len(finals) != 0 || table.Stats().Conversations != 0 {
		t.Errorf("one that never spoke leaves %d records and %d conversations", len(finals), table.Stats().Conversations)
	}
}
