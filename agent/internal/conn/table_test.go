package conn

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a reading of a clock that showed epoch when the monotonic one showed 0.
func at(ns int64) hostclock.Reading {
	return hostclock.Reading{Wall: epoch.Add(time.Duration(ns)), MonoNS: ns}
}

func newTable(t *testing.T, cfg Config) *Table {
	t.Helper()
	return NewTable(cfg, links{})
}

// links are interfaces called by their index, of which some are stacked.
type links [][2]uint32

func (links) Name(p flowbpf.Place) string { return "if" + strconv.Itoa(int(p.Ifindex)) }

func (links) NetNS(p flowbpf.Place) string {
	if p.NetNS == 0 {
		return ""
	}
	return "ns" + strconv.Itoa(int(p.NetNS))
}

func (l links) Related(a, b flowbpf.Place) bool {
	for _, pair := range l {
		if pair == [2]uint32{a.Ifindex, b.Ifindex} || pair == [2]uint32{b.Ifindex, a.Ifindex} {
			return true
		}
	}
	return false
}

// groups are the entries as a drain hands them out: those of the same endpoints together.
func groups(entries []*flowbpf.Entry) [][]flowbpf.Entry {
	var all [][]flowbpf.Entry
	index := make(map[flowbpf.Key]int)
	for _, e := range entries {
		k := e.Key()
		k.Tunnel, k.TunnelID = 0, 0
		i, ok := index[k]
		if !ok {
			i = len(all)
			index[k] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], *e)
	}
	return all
}

const second = int64(time.Second)

// observe puts the record of one entry into f, and reports whether there is one.
func observe(table *Table, f *ebbwatch.Flow, e *flowbpf.Entry) (made bool) {
	table.Observe([]flowbpf.Entry{*e}, func(r *Record) { *f, made = r.Flow, true })
	return made
}

// drain runs one interval of a second that ends at endNS.
func drain(table *Table, endNS int64, entries ...*flowbpf.Entry) (records, finals []ebbwatch.Flow) {
	table.Begin(at(endNS), endNS-second, false)
	for _, g := range groups(entries) {
		table.Observe(g, func(r *Record) { records = append(records, r.Flow) })
	}
	table.Expire(func(f *ebbwatch.Flow) { finals = append(finals, *f) })
	return records, finals
}

func TestRecordCarriesTheInterval(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(5*second, packet{1, syn}, packet{0, synack}, packet{1, ack})
	e.VLAN, e.Place = 7, flowbpf.Place{Ifindex: 3}
	records, _ := drain(table, 6*second, e)
	want := ebbwatch.Flow{
		Start: epoch.Add(5 * time.Second), End: epoch.Add(5*time.Second + 2*time.Microsecond),
		Src: netip.MustParseAddr("192.0.2.2"), SrcPort: 80, Dst: netip.MustParseAddr("192.0.2.1"), DstPort: 40000,
		Proto: ebbwatch.ProtoTCP, Initiator: ebbwatch.InitiatorSYN, Interface: "if3", VLAN: 7,
		SrcPackets: 2, SrcBytes: 132, DstPackets: 1, DstBytes: 66, SrcFlags: syn | ack, DstFlags: synack,
		ConnState: ebbwatch.StateS1, Sampling: 1, HandshakeUS: 2,
	}
	if len(records) != 1 || records[0] != want {
		t.Errorf("got  %+v\nwant %+v", records, want)
	}
}

// IPv6 packets can claim IPv4-mapped addresses, whatever RFC 4291 has these for: they
// are no part of the IPv4 conversation that reads alike.
func TestMappedAddressesAreAnotherConversationThanIPv4(t *testing.T) {
	table := newTable(t, DefaultConfig())
	plain := entry(second+second/2, packet{1, syn}, packet{0, synack})
	mapped := entry(second+second/2, packet{0, syn})
	mapped.A, mapped.B = netip.AddrFrom16(plain.A.As16()), netip.AddrFrom16(plain.B.As16())
	records, _ := drain(table, 2*second, plain, mapped)
	if len(records) != 2 || records[0].SrcPort != plain.BPort || records[1].SrcPort != plain.APort || table.Stats().Conversations != 2 {
		t.Fatalf("%d conversations: %+v", table.Stats().Conversations, records)
	}
	if records[0].Src != plain.B || records[1].Src != mapped.A {
		t.Errorf("from %v and %v", records[0].Src, records[1].Src)
	}
	if plain.Key() == mapped.Key() {
		t.Error("both have one name: hints of one would stand in the record of the other")
	}
	_, finals := drain(table, 1000*second)
	if len(finals) != 1 || finals[0].Src != plain.B {
		t.Errorf("final records: %+v", finals)
	}
	if r := table.Bare(mapped.Key(), 0); r.Src != 0 || r.Flow.Src != mapped.A {
		t.Errorf("without packets: from %v", r.Flow.Src)
	}
}

func TestLaterRecordsAgeAndKeepTheirSource(t *testing.T) {
	table := newTable(t, DefaultConfig())
	drain(table, 2*second, entry(second+second/2, packet{1, syn}, packet{0, synack}))
	records, _ := drain(table, 3*second, entry(2*second, packet{0, data}, packet{1, ack}))
	f := records[0]
	if f.AgeMS != 500 || f.SrcPort != 80 || f.Final || f.ConnState != ebbwatch.StateS1 {
		t.Errorf("second record: age %d, source port %d, final %v, %v", f.AgeMS, f.SrcPort, f.Final, f.ConnState)
	}
	records, _ = drain(table, 4*second, entry(3*second, packet{0, fin}, packet{1, fin}, packet{0, ack}))
	if f := records[0]; !f.Final || f.ConnState != ebbwatch.StateSF || f.AgeMS != 1500 {
		t.Errorf("last record: age %d, final %v, %v", f.AgeMS, f.Final, f.ConnState)
	}
}

func TestStragglersBelongToTheEndedConversation(t *testing.T) {
	table := newTable(t, DefaultConfig())
	drain(table, 2*second, entry(second, packet{0, syn}, packet{1, synack}, packet{0, fin}, packet{1, fin}))
	records, _ := drain(table, 3*second, entry(2*second, packet{0, ack}))
	if f := records[0]; f.AgeMS == 0 || !f.Final || f.ConnState != ebbwatch.StateSF {
		t.Errorf("straggler: age %d, final %v, %v", f.AgeMS, f.Final, f.ConnState)
	}
	for i := int64(4); i < 20; i++ {
		_, finals := drain(table, i*second)
		if len(finals) > 0 {
			t.Errorf("an ended conversation ended again: %+v", finals)
		}
	}
	if n := table.Stats().Conversations; n != 0 {
		t.Errorf("%d conversations remembered", n)
	}
}

func TestSYNAfterTheEndBeginsAnewConversation(t *testing.T) {
	table := newTable(t, DefaultConfig())
	drain(table, 2*second, entry(second, packet{0, syn}, packet{1, rstack}))
	records, _ := drain(table, 3*second, entry(2*second, packet{0, syn}, packet{1, synack}))
	if f := records[0]; f.AgeMS != 0 || f.ConnState != ebbwatch.StateS1 {
		t.Errorf("age %d, %v", f.AgeMS, f.ConnState)
	}
}

func TestEndAndReopeningInOneInterval(t *testing.T) {
	table := newTable(t, DefaultConfig())
	drain(table, 2*second, entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack}))
	records, _ := drain(table, 3*second, entry(2*second, packet{0, fin}, packet{1, fin}, packet{0, ack}, packet{0, syn}, packet{1, synack}))
	if f := records[0]; f.ConnState != ebbwatch.StateSF || !f.Final {
		t.Errorf("the record of both: %v, final %v", f.ConnState, f.Final)
	}
	records, _ = drain(table, 4*second, entry(3*second, packet{0, data}, packet{1, ack}))
	if f := records[0]; f.AgeMS != 0 || f.ConnState != ebbwatch.StateS1 || f.Initiator != ebbwatch.InitiatorSYN || f.Final {
		t.Errorf("the new one's first record: age %d, %v, initiator %v, final %v", f.AgeMS, f.ConnState, f.Initiator, f.Final)
	}
}

func TestHandshakeAfterMidstreamTrafficBeginsAnewConversation(t *testing.T) {
	table := newTable(t, DefaultConfig())
	drain(table, 2*second, entry(second, packet{0, data}))
	records, _ := drain(table, 3*second, entry(2*second, packet{1, syn}, packet{0, synack}))
	if f := records[0]; f.AgeMS != 0 || f.Initiator != ebbwatch.InitiatorSYN || f.SrcPort != 80 {
		t.Errorf("age %d, initiator %v, source port %d", f.AgeMS, f.Initiator, f.SrcPort)
	}
}

func TestIdleConversationsExpire(t *testing.T) {
	cfg := DefaultConfig()
	probe := entry(second, packet{0, syn})
	open := entry(second, packet{0, syn}, packet{1, synack})
	open.APort++
	query := packet{from: 0}.as(ebbwatch.ProtoUDP)
	table := newTable(t, cfg)
	drain(table, 2*second, probe, open, query)

	again := packet{from: 1}.as(ebbwatch.ProtoUDP)
	again.FirstNS, again.LastNS = 2*second, 2*second
	drain(table, 3*second, again)

	_, finals := drain(table, 70*second)
	if len(finals) != 1 || finals[0].Proto != ebbwatch.ProtoUDP || !finals[0].Final || finals[0].AgeMS == 0 {
		t.Fatalf("after a minute: %+v, want only the final record of the UDP conversation, which had two", finals)
	}
	if f := finals[0]; f.SrcPackets+f.DstPackets+f.SrcBytes+f.DstBytes != 0 || !f.Start.Equal(epoch.Add(2*time.Second)) {
		t.Errorf("final record has packets or a wrong time: %+v", f)
	}
	if n := table.Stats(); n.Conversations != 1 || n.Expired != 2 {
		t.Errorf("%+v, want one remembered and two expired", n)
	}
	_, finals = drain(table, 1000*second)
	if len(finals) != 1 || finals[0].ConnState != ebbwatch.StateS1 || finals[0].Interface != "if1" {
		t.Errorf("after a quarter of an hour: %+v, want the TCP connection", finals)
	}
}

func TestFullTableForgetsTheEndedAndTheIdlestButRecordsEverything(t *testing.T) {
	table := newTable(t, Config{MaxConversations: 3, IdleTCP: time.Hour, IdleOther: time.Hour})
	numbered := func(port uint16, startNS int64, packets ...packet) *flowbpf.Entry {
		e := entry(startNS, packets...)
		e.APort = port
		return e
	}
	records, _ := drain(table, 9*second,
		numbered(1, 3*second, packet{0, syn}, packet{1, synack}),
		numbered(2, 1*second, packet{0, syn}, packet{1, synack}),
		numbered(3, 5*second, packet{0, syn}, packet{1, rst}),
		numbered(4, 6*second, packet{0, syn}),
		numbered(5, 7*second, packet{0, syn}))
	if len(records) != 5 {
		t.Errorf("%d records of 5 conversations", len(records))
	}
	if n := table.Stats(); n.Evicted != 2 || n.Conversations != 3 {
		t.Errorf("%+v, want 2 evicted, 3 left", n)
	}
	for port, known := range map[uint16]bool{1: true, 2: false, 3: false, 4: true, 5: true} {
		k := key{a: netip.MustParseAddr("192.0.2.1").As16(), b: netip.MustParseAddr("192.0.2.2").As16(), aPort: port, bPort: 80, proto: 6}
		if ok := table.slots.find(&k) != nil; ok != known {
			t.Errorf("port %d: remembered %v, want %v", port, ok, known)
		}
	}
}

func TestSlotsKeepWhatAMapWouldKeep(t *testing.T) {
	const most = 500
	s, model := newSlots(most), map[key]int64{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range int64(50_000) {
		k := key{aPort: uint16(rnd.IntN(800))}
		c := s.find(&k)
		want, known := model[k]
		if (c != nil) != known || known && c.firstNS != want {
			t.Fatalf("step %d: port %d known %v, want %v", step, k.aPort, c != nil, known)
		}
		switch {
		case known && rnd.IntN(2) == 0:
			s.remove(c)
			delete(model, k)
		case !known && len(model) < most:
			s.add(&k).firstNS = step
			model[k] = step
		}
		if s.used != len(model) || s.full() != (len(model) == most) {
			t.Fatalf("step %d: %d used, full %v, want %d", step, s.used, s.full(), len(model))
		}
	}
}

// mirrored is e as another interface sees it that forwards the same packets.
func mirrored(e *flowbpf.Entry, ifindex uint32) *flowbpf.Entry {
	m := *e
	m.Place.Ifindex, m.FirstDirection = ifindex, 1-e.FirstDirection
	return &m
}

func TestForwardedPacketsAreRecordedOnce(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
	records, _ := drain(table, 2*second, e, mirrored(e, 2))
	if len(records) != 1 || records[0].Interface != "if1" {
		t.Fatalf("%d records: %+v", len(records), records)
	}
	if got := table.Stats().Repeated; got != (ebbwatch.Counter{Packets: 3, Bytes: 198}) {
		t.Errorf("repeated %+v", got)
	}
	next := entry(2*second, packet{0, data}, packet{1, ack})
	records, _ = drain(table, 3*second, mirrored(next, 2), next)
	if len(records) != 1 || records[0].Interface != "if1" {
		t.Errorf("next interval, other order: %+v", records)
	}
}

func TestForwardedConversationThatLivesWithinOneIntervalIsRecordedOnce(t *testing.T) {
	table := newTable(t, DefaultConfig())
	for i := range int64(2) { // the second time with the endpoints known
		start := (1 + i) * second
		e := entry(start, packet{0, syn}, packet{1, synack}, packet{0, ack}, packet{0, fin}, packet{1, fin})
		records, _ := drain(table, start+second, e, mirrored(e, 2))
		if len(records) != 1 || records[0].AgeMS != 0 || records[0].ConnState != ebbwatch.StateSF {
			t.Errorf("interval %d: %+v", i, records)
		}
	}
	if got := table.Stats().Repeated.Packets; got != 10 {
		t.Errorf("%d packets repeated", got)
	}
}

func TestBothEndsSendFromOneAddress(t *testing.T) { // as in duplicate address detection: :: to ff02::16
	table := newTable(t, DefaultConfig())
	e := packet{from: 0}.as(ebbwatch.ProtoUDP)
	drain(table, 2*second, e)
	if records, _ := drain(table, 3*second, mirrored(e, e.Place.Ifindex)); len(records) != 1 {
		t.Errorf("%+v", records)
	}
}

func TestLinkLocalPacketsOfTwoLinksAreDifferent(t *testing.T) {
	for _, addrs := range [][2]string{{"::", "ff02::16"}, {"fe80::1", "fe80::2"}, {"0.0.0.0", "255.255.255.255"}, {"192.0.2.1", "224.0.0.251"}} {
		table := newTable(t, DefaultConfig())
		e := packet{from: 0}.as(ebbwatch.ProtoUDP)
		e.A, e.B = netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1])
		records, _ := drain(table, 2*second, e, mirrored(e, 2))
		if len(records) != 2 || records[1].AgeMS != 0 {
			t.Errorf("%v: %+v", addrs, records)
		}
	}
}

func TestTwoPathsOfOneConversationAreBothRecorded(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
	other := entry(second, packet{0, data})
	other.Place.Ifindex = 2
	records, _ := drain(table, 2*second, e, other)
	if len(records) != 2 || records[1].Interface != "if2" || records[1].AgeMS == 0 {
		t.Fatalf("%+v", records)
	}
	if got := table.Stats().Repeated; got.Packets != 0 {
		t.Errorf("repeated %+v", got)
	}
}

func TestSecondInterfaceTakesOver(t *testing.T) {
	for _, c := range []struct {
		name string
		next int64 // end of the next interval, in which only the second interface has the conversation
		full bool
		want int
	}{
		{"not between two drains of a live conversation", 3 * second, false, 0},
		{"when a flow map was full", 3 * second, true, 1},
	} {
		table := newTable(t, DefaultConfig())
		e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
		drain(table, 2*second, e, mirrored(e, 2))
		table.Begin(at(c.next), c.next-second, c.full)
		got := 0
		table.Observe([]flowbpf.Entry{*mirrored(entry(c.next-second, packet{0, data}), 2)}, func(*Record) { got++ })
		if got != c.want {
			t.Errorf("%s: %d records, want %d", c.name, got, c.want)
		}
	}
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, syn}, packet{1, synack}, packet{0, ack})
	drain(table, 2*second, e, mirrored(e, 2))
	drain(table, 3*second)
	if records, _ := drain(table, 4*second, mirrored(entry(3*second, packet{0, data}), 2)); len(records) != 1 || records[0].Interface != "if2" {
		t.Errorf("when the first was silent for an interval: %+v", records)
	}
}

func TestARecordWithoutPacketsHasTheSourceThatIsKnown(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{1, syn})
	drain(table, 2*second, e)
	unknown := e.Key()
	unknown.APort++
	for _, c := range []struct {
		name          string
		key           flowbpf.Key
		sender        uint8
		src           uint8
		interfaceName string
		initiator     ebbwatch.Initiator
	}{
		{"the conversation's own", e.Key(), 0, 1, "if1", ebbwatch.InitiatorSYN},
		{"a sender, of an unknown one", unknown, 0, 0, "", ebbwatch.InitiatorUnknown},
		{"the other sender", unknown, 1, 1, "", ebbwatch.InitiatorUnknown},
	} {
		r := table.Bare(c.key, c.sender)
		ports := [2]uint16{c.key.APort, c.key.BPort}
		if r.Src != c.src || r.SrcPort != ports[c.src] || r.DstPort != ports[1-c.src] || r.Interface != c.interfaceName || r.Initiator != c.initiator || r.AgeMS == 0 || r.Final {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestAConversationIsKnownByItsPacketsAlone(t *testing.T) {
	table := newTable(t, DefaultConfig())
	e := entry(second, packet{0, syn})
	name := e.Key()
	table.Seed(netip.AddrPortFrom(e.A, e.APort), netip.AddrPortFrom(e.B, e.BPort), true)
	if table.Known(name) {
		t.Error("the kernel's word makes it known, which also speaks of loopback that nobody watches")
	}
	drain(table, 2*second, e)
	if !table.Known(name) {
		t.Error("its packets do not make it known")
	}
}
