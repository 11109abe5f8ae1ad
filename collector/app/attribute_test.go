package app

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// everyAttribute sends three batches that share a block: one whose record has no
// attribute, one whose record has each with a value of its own, and one without.
func everyAttribute(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.run()
	for i := range 3 {
		batch := b.envelope("web-1")
		flow := plainFlow()
		flow.SrcPort, flow.Interface = uint16(i), fmt.Sprintf("eth%d", i)
		batch.Append(&flow)
		if i == 1 {
			for g := range ebbwatch.Groups {
				batch.Index[g], batch.Entries[g] = []uint16{1}, 1
			}
			for attr := range ebbwatch.Attributes {
				batch.Attributes[attr] = []uint32{uint32(attr) + 1}
				switch {
				case attr.Text():
					batch.Strings = append(batch.Strings, "it's "+attr.Name())
					batch.Attributes[attr][0] = uint32(len(batch.Strings))
				case attr == ebbwatch.AttrTunnel:
					batch.Attributes[attr][0] = uint32(ebbwatch.TunnelGRE)
				case attr == ebbwatch.AttrApp:
					batch.Attributes[attr][0] = uint32(ebbwatch.AppQUIC)
				case attr == ebbwatch.AttrFinal:
					batch.Attributes[attr][0] = 1
				}
			}
		}
		b.publish(ebbwatch.FlowSubject("web-1"), b.encode(batch), batch.MessageID())
	}
	b.sent = sums{3, 6, 600, 3, 300, 3}
	b.wantExact()
	for attr := range ebbwatch.Attributes {
		want := []string{"0", fmt.Sprint(uint32(attr) + 1), "0"}
		switch {
		case attr == ebbwatch.AttrInterfaces: // names at least the one that accounted the packets
			want = []string{"eth0", "it's interfaces", "eth2"}
		case attr == ebbwatch.AttrInterface:
			want = []string{"eth0", "it's interface", "eth2"}
		case attr == ebbwatch.AttrProto:
			want = []string{"6", "1", "6"}
		case attr == ebbwatch.AttrInitiator:
			want = []string{"unknown", "socket", "unknown"}
		case attr == ebbwatch.AttrConnState:
			want = []string{"OTH", "S2", "OTH"}
		case attr == ebbwatch.AttrFinal:
			want = []string{"false", "true", "false"}
		case attr == ebbwatch.AttrSampling:
			want = []string{"1", fmt.Sprint(uint32(attr) + 2), "1"}
		case attr.Text():
			want = []string{"", "it's " + attr.Name(), ""}
		case attr == ebbwatch.AttrTunnel:
			want = []string{"", ebbwatch.TunnelGRE.String(), ""}
		case attr == ebbwatch.AttrApp:
			want = []string{"", ebbwatch.AppQUIC.String(), ""}
		}
		got := ch.Query(t, "SELECT toString("+attr.Name()+") FROM "+b.db+".flows ORDER BY src_port")
		if got != strings.ReplaceAll(strings.Join(want, "\n"), "'", "\\'") {
			t.Errorf("%s is %q, want %q", attr.Name(), got, want)
		}
	}
	for app := ebbwatch.AppNone; !strings.HasPrefix(app.String(), "invalid"); app++ {
		if got := ch.Query(t, fmt.Sprintf("SELECT toString(CAST(%d AS %s))", app, columnType(t, ch, b.db, "app"))); got != app.String() {
			t.Errorf("application %s is %s in the table", app, got)
		}
	}
	for tunnel := ebbwatch.TunnelNone; !strings.HasPrefix(tunnel.String(), "invalid"); tunnel++ {
		if got := ch.Query(t, fmt.Sprintf("SELECT toString(CAST(%d AS %s))", tunnel, columnType(t, ch, b.db, "tunnel"))); got != tunnel.String() {
			t.Errorf("tunnel %s is %s in the table", tunnel, got)
		}
	}
}

func columnType(t *testing.T, ch *chtest.Server, db, column string) string {
	return ch.Query(t, fmt.Sprintf("SELECT type FROM system.columns WHERE database = '%s' AND table = 'flows' AND name = '%s' FORMAT TSVRaw", db, column))
}

func earlyWarnings(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.run()
	batch := b.envelope("web-1")
	at := time.Now().UTC().Truncate(time.Millisecond)
	batch.Time, batch.IntervalMS = at, 0
	batch.Features = []ebbwatch.Feature{
		{Interface: "eth0", Egress: true, IntervalMS: 1000, Seen: ebbwatch.Counter{Packets: 1, Bytes: 2}, SYN: 3, SYNACK: 4, FIN: 5, RST: 6, NewFlows: 7, Overflow: 8, Sizes: []uint64{0, 9}, Gaps: []uint64{10}},
		{Interface: "eth1", NetNS: "blue", IntervalMS: 999},
	}
	batch.Sources = []ebbwatch.Source{
		{Addr: netip.MustParseAddr("192.0.2.7"), IntervalMS: 3000, Flows: 11, Targets: 12, Overflow: ebbwatch.Counter{Packets: 13, Bytes: 14}},
		{Addr: netip.MustParseAddr("2001:db8::7"), IntervalMS: 3000, Flows: 15},
		{IntervalMS: 3000, Flows: 16, Targets: 17},
		{Addr: netip.IPv6Unspecified(), IntervalMS: 3000, Flows: 18}, // who looks for a free address sends from ::
	}
	b.publish(ebbwatch.FlowSubject("web-1"), b.encode(batch), batch.MessageID())
	eventually(t, 20*time.Second, "a row of coverage", func() error {
		_, err := ch.QueryAs(chtest.Collector, "SELECT throwIf(count() < 1) FROM "+b.db+".coverage")
		return err
	})
	ms := at.Format("2006-01-02 15:04:05.000") + "\tweb-1\t"
	for query, want := range map[string]string{
		"SELECT time, agent, interface, netns, direction, interval_ms, seen_packets, seen_bytes, syn_packets, syn_ack_packets, fin_packets, rst_packets, new_flows, overflow_packets, sizes, gaps FROM %.features ORDER BY interface": ms +
			"eth0\t\tegress\t1000\t1\t2\t3\t4\t5\t6\t7\t8\t[0,9]\t[10]\n" + ms + "eth1\tblue\tingress\t999\t0\t0\t0\t0\t0\t0\t0\t0\t[]\t[]",
		"SELECT time, agent, src, others, interval_ms, flows, targets, overflow_packets, overflow_bytes FROM %.sources ORDER BY flows": ms +
			"192.0.2.7\tfalse\t3000\t11\t12\t13\t14\n" + ms + "2001:db8::7\tfalse\t3000\t15\t0\t0\t0\n" + ms + "::\ttrue\t3000\t16\t17\t0\t0\n" + ms + "::\tfalse\t3000\t18\t0\t0\t0",
		"SELECT time, agent, interface, interval_ms, flows, sequence FROM %.coverage": ms + "\t0\t0\t1",
		"SELECT countIf(abs(received - now64(3)) < 60) FROM %.features":               "2",
		"SELECT countIf(abs(received - now64(3)) < 60) FROM %.sources":                "4",
	} {
		if got := ch.Query(t, strings.ReplaceAll(query, "%", b.db)); got != want {
			t.Errorf("%s gives\n%s\nwant\n%s", query, got, want)
		}
	}
}
