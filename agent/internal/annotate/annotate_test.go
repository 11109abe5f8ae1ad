package annotate

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/trace"
)

// kernel is a stand-in for what the annotator asks: the given hints, losses,
// and conversations.
type kernel struct {
	hints  []flowbpf.Hint
	losses map[trace.Key]trace.Loss
	known  map[flowbpf.Key]bool
}

func (k *kernel) Hints(visit func(*flowbpf.Hint)) error {
	for i := range k.hints {
		visit(&k.hints[i])
	}
	k.hints = nil
	return nil
}
func (k *kernel) HintsLost() uint64           { return 0 }
func (k *kernel) Stats() (trace.Stats, error) { return trace.Stats{}, nil }
func (k *kernel) Known(key flowbpf.Key) bool  { return k.known[key] }
func (k *kernel) Bare(key flowbpf.Key, sender uint8) *conn.Record {
	return &conn.Record{Key: key, Src: sender}
}
func (k *kernel) Drain() (map[trace.Key]trace.Loss, error) {
	losses := k.losses
	k.losses = nil
	return losses, nil
}

func key(a, b string, port uint16) flowbpf.Key {
	return flowbpf.Key{A: netip.MustParseAddr(a).As16(), B: netip.MustParseAddr(b).As16(), APort: port, BPort: 9, Proto: ebbwatch.ProtoTCP}
}

// drain is one drain with a record of each of recorded; it returns those, and
// those without packets.
func drain(a *Annotator, recorded ...flowbpf.Key) (records []conn.Record, bare []ebbwatch.Flow) {
	a.Begin()
	for _, k := range recorded {
		r := conn.Record{Key: k}
		a.Annotate(&r)
		records = append(records, r)
	}
	a.End(func(f *ebbwatch.Flow) { bare = append(bare, *f) })
	return records, bare
}

func TestDropsJustBeforeTheirConversationsFirstRecordStandInIt(t *testing.T) {
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"10.0.0.1", "10.0.0.2"}} {
		k := &kernel{}
		a := New(Sources{Hints: k, Losses: k, Conversations: k}, prometheus.NewRegistry(), slog.Default())
		name := key(ends[0], ends[1], 1)
		k.losses = map[trace.Key]trace.Loss{{Key: name}: {Drops: [2]uint64{1, 0}, Reason: "NO_SOCKET"}}
		if _, bare := drain(a); len(bare) != 0 {
			t.Errorf("%v: told before the conversation: %+v", ends, bare)
		}
		k.losses = map[trace.Key]trace.Loss{{Key: name}: {Drops: [2]uint64{2, 1}, Retransmits: [2]uint64{0, 1}, Reason: "TCP_OLD_DATA"}}
		records, bare := drain(a, name)
		if r := records[0]; r.SrcHealth.Drops != 3 || r.DstHealth.Drops != 1 || r.DstHealth.Retransmits != 1 || r.DropReason != "TCP_OLD_DATA" || len(bare) != 0 {
			t.Errorf("%v: %+v, and %+v", ends, r.Flow, bare)
		}
		if records, bare := drain(a, name); records[0].SrcHealth.Drops != 0 || len(bare) != 0 {
			t.Errorf("%v: told twice: %+v, %+v", ends, records[0].Flow, bare)
		}
	}
}

func TestDropsOfNoConversationAreToldOneDrainLater(t *testing.T) {
	k := &kernel{}
	a := New(Sources{Hints: k, Losses: k, Conversations: k}, prometheus.NewRegistry(), slog.Default())
	for range 3 {
		k.losses = map[trace.Key]trace.Loss{
			{Key: key("10.0.0.1", "10.0.0.2", 1)}:   {Drops: [2]uint64{5, 0}, Reason: "IP_INNOROUTES"},
			{Key: key("10.0.0.1", "10.0.0.2", 2)}:   {Drops: [2]uint64{5, 0}, Reason: notSpecified},
			{Key: key("127.0.0.1", "127.0.0.1", 3)}: {Drops: [2]uint64{5, 0}, Reason: "NO_SOCKET"},
		}
		if _, bare := drain(a); len(bare) != 0 {
			t.Errorf("at once: %+v", bare)
		}
		if _, bare := drain(a); len(bare) != 1 || bare[0].SrcHealth.Drops != 5 || bare[0].DropReason != "IP_INNOROUTES" {
			t.Errorf("one drain later: %+v", bare)
		}
		if _, bare := drain(a); len(bare) != 0 {
			t.Errorf("again: %+v", bare)
		}
	}
}

func TestDropsOfAKnownConversationWithoutPacketsAreToldAtOnce(t *testing.T) {
	name := key("10.0.0.1", "10.0.0.2", 1)
	k := &kernel{known: map[flowbpf.Key]bool{name: true}, losses: map[trace.Key]trace.Loss{{Key: name}: {Drops: [2]uint64{0, 7}, Reason: "NETFILTER_DROP"}}}
	a := New(Sources{Hints: k, Losses: k, Conversations: k}, prometheus.NewRegistry(), slog.Default())
	if _, bare := drain(a); len(bare) != 1 || bare[0].SrcHealth.Drops != 7 { // the side that sent them is the source
		t.Errorf("%+v", bare)
	}
}

func TestLossesOfAnUnknownNamespaceStandInRecordsOfPacketsOnly(t *testing.T) {
	name := key("10.0.0.1", "10.0.0.2", 1)
	for _, c := range []struct {
		what     string
		recorded [3]bool // whether the drain has a record of the conversation's packets
		want     uint32  // drops in records
		unplaced float64
	}{
		{"with a record in the same drain", [3]bool{true}, 9, 0},
		{"with a record in the next drain", [3]bool{false, true}, 9, 0},
		{"with a record later", [3]bool{false, false, true}, 2, 7},
		{"without any record", [3]bool{}, 2, 7},
	} {
		k := &kernel{known: map[flowbpf.Key]bool{name: true}} // from before: only a record of packets counts
		a := New(Sources{Hints: k, Losses: k, Conversations: k}, prometheus.NewRegistry(), slog.Default())
		k.losses = map[trace.Key]trace.Loss{
			{Key: name}: {Drops: [2]uint64{2, 0}, Reason: "NO_SOCKET"}, {Key: name, Unplaced: true}: {Drops: [2]uint64{7, 0}, Reason: "TCP_OLD_DATA"},
		}
		drops, bareDrops := uint32(0), uint32(0)
		for _, recorded := range c.recorded {
			var names []flowbpf.Key
			if recorded {
				names = append(names, name)
			}
			records, bare := drain(a, names...)
			for _, r := range records {
				drops += r.SrcHealth.Drops
			}
			for _, f := range bare {
				bareDrops += f.SrcHealth.Drops
			}
		}
		if drops+bareDrops != c.want || bareDrops > 2 || testutil.ToFloat64(a.unplaced) != c.unplaced {
			t.Errorf("%s: %d drops in records and %d in records without packets, %v unplaced", c.what, drops, bareDrops, testutil.ToFloat64(a.unplaced))
		}
	}
}

func TestNothingWaitsAfterTheLastDrain(t *testing.T) {
	k := &kernel{}
	a := New(Sources{Hints: k, Losses: k, Conversations: k}, prometheus.NewRegistry(), slog.Default())
	k.losses = map[trace.Key]trace.Loss{
		{Key: key("10.0.0.1", "10.0.0.2", 1)}:                 {Drops: [2]uint64{5, 0}, Reason: "IP_INNOROUTES"},
		{Key: key("10.0.0.1", "10.0.0.2", 2), Unplaced: true}: {Drops: [2]uint64{0, 6}, Reason: "TCP_OLD_DATA"},
	}
	_, bare := drain(a)
	last := func(f *ebbwatch.Flow) { bare = append(bare, *f) }
	a.Last(last)
	a.Last(last)
	if len(bare) != 1 || bare[0].SrcHealth.Drops != 5 || testutil.ToFloat64(a.unplaced) != 6 {
		t.Errorf("%+v, and %v unplaced", bare, testutil.ToFloat64(a.unplaced))
	}
}

// Each step is a drain: what headers and tracepoints say that the sides of a
// conversation sent again, and what its record has to tell.
func TestEachSegmentThatIsSentAgainIsToldOnce(t *testing.T) {
	type step struct {
		silent        bool // no record in this drain
		drops         uint64
		seen          [2]uint32 // source, destination
		traced, tells [2]uint64
	}
	for name, steps := range map[string][]step{
		"both agree": {{seen: [2]uint32{3, 1}, traced: [2]uint64{3, 1}, tells: [2]uint64{3, 1}}, {}},
		"traced in one interval, seen in the next": {
			{traced: [2]uint64{2, 1}, tells: [2]uint64{2, 1}}, {seen: [2]uint32{2, 1}}, {seen: [2]uint32{2, 1}, tells: [2]uint64{2, 1}},
		},
		"some in each, with new ones": {
			{seen: [2]uint32{5, 0}, traced: [2]uint64{7, 0}, tells: [2]uint64{7, 0}},
			{seen: [2]uint32{4, 0}, traced: [2]uint64{3, 0}, tells: [2]uint64{3, 0}},
			{seen: [2]uint32{1, 0}, tells: [2]uint64{0, 0}},
		},
		"only the packets of somebody else's socket": {{seen: [2]uint32{0, 4}, tells: [2]uint64{0, 4}}, {seen: [2]uint32{0, 4}, tells: [2]uint64{0, 4}}},
		"traced without a record, then seen":         {{silent: true, traced: [2]uint64{1, 0}}, {seen: [2]uint32{1, 0}, tells: [2]uint64{1, 0}}, {}},
		"traced without a record, never seen":        {{silent: true, traced: [2]uint64{1, 0}}, {tells: [2]uint64{1, 0}}, {}},
		"told without packets, then seen":            {{silent: true, drops: 1, traced: [2]uint64{2, 0}, tells: [2]uint64{2, 0}}, {seen: [2]uint32{2, 0}}},
		"seen an interval too late":                  {{traced: [2]uint64{1, 0}, tells: [2]uint64{1, 0}}, {silent: true}, {seen: [2]uint32{1, 0}, tells: [2]uint64{1, 0}}},
	} {
		for src := range uint8(2) {
			k := key("10.0.0.1", "10.0.0.2", 1)
			from := &kernel{known: map[flowbpf.Key]bool{k: true}}
			a := New(Sources{Hints: from, Losses: from, Conversations: from}, prometheus.NewRegistry(), slog.Default())
			for i, s := range steps {
				loss := trace.Loss{Retransmits: [2]uint64{s.traced[src], s.traced[1-src]}}
				loss.Drops[src] = s.drops
				if from.losses = nil; loss != (trace.Loss{}) {
					from.losses = map[trace.Key]trace.Loss{{Key: k}: loss}
				}
				a.Begin()
				var f ebbwatch.Flow
				if !s.silent {
					r := conn.Record{Key: k, Src: src}
					r.SrcHealth.Retransmits, r.DstHealth.Retransmits = s.seen[0], s.seen[1]
					a.Annotate(&r)
					f = r.Flow
				}
				a.End(func(bare *ebbwatch.Flow) { f = *bare })
				if got := [2]uint64{uint64(f.SrcHealth.Retransmits), uint64(f.DstHealth.Retransmits)}; got != s.tells {
					t.Errorf("%s, from side %d: drain %d tells %v, want %v", name, src, i, got, s.tells)
				}
			}
		}
	}
}

// A message that comes in pieces is one, complete or not.
func TestMetricsCountMessagesNotPieces(t *testing.T) {
	const head = "GET / HTTP/1.1\r\n"
	piece := func(seq uint32, data string) flowbpf.Hint {
		return flowbpf.Hint{Key: key("10.0.0.1", "10.0.0.2", 1), Seq: seq, PayloadLen: uint32(len(data)), Continued: seq > 100, Data: []byte(data)}
	}
	first, second, third := piece(100, head), piece(116, "Host: exam"), piece(126, "ple.org\r\n\r\n")
	for _, c := range []struct {
		what             string
		hints            []flowbpf.Hint
		messages, flawed float64
	}{
		{"a message in one piece", []flowbpf.Hint{piece(100, head+"Host: example.org\r\n\r\n")}, 1, 0},
		{"a message in three pieces", []flowbpf.Hint{first, second, third}, 1, 0},
		{"one that two interfaces saw", []flowbpf.Hint{first, first, second, second, third}, 1, 0},
		{"one that is sent again, with more of it", []flowbpf.Hint{piece(100, "GET / "), piece(100, head+"Host: example.org\r\n\r\n")}, 1, 0},
		{"a message that does not go on", []flowbpf.Hint{first, second}, 1, 1},
		{"one that another comes after", []flowbpf.Hint{first, piece(50, head+"Host: example.org\r\n\r\n")}, 2, 1},
	} {
		k, reg := &kernel{hints: c.hints}, prometheus.NewRegistry()
		a := New(Sources{Hints: k, Losses: k, Conversations: k}, reg, slog.Default())
		records, _ := drain(a, key("10.0.0.1", "10.0.0.2", 1))
		if name := records[0].Hint.ServerName; c.flawed == 0 && name != "example.org" {
			t.Errorf("%s: the record names %q", c.what, name)
		}
		for range patience {
			drain(a)
		}
		if got := counted(t, reg, "ebbwatch_agent_hint_beginnings_total"); got != c.messages {
			t.Errorf("%s: counts as %v", c.what, got)
		}
		if got := counted(t, reg, "ebbwatch_agent_hint_flaws_total"); got != c.flawed {
			t.Errorf("%s: %v flaws, want %v", c.what, got, c.flawed)
		}
	}
}

// What still waits for the rest of a message when the agent ends, is counted.
func TestMessagesThatWaitAtTheEndAreCounted(t *testing.T) {
	k := &kernel{hints: []flowbpf.Hint{{Key: key("10.0.0.1", "10.0.0.2", 1), Data: []byte("GET / HTTP/1.1\r\n")}}}
	reg := prometheus.NewRegistry()
	a := New(Sources{Hints: k, Losses: k, Conversations: k}, reg, slog.Default())
	drain(a)
	if got := counted(t, reg, "ebbwatch_agent_hint_beginnings_total"); got != 0 {
		t.Errorf("%v while the message may go on", got)
	}
	a.Last(func(*ebbwatch.Flow) {})
	if got := counted(t, reg, "ebbwatch_agent_hint_beginnings_total"); got != 1 {
		t.Errorf("%v at the end", got)
	}
}

// counted sums up a counter over its labels.
func counted(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
