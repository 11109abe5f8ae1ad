package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/loadgen"
)

const testBoot = "11111111-2222-4333-8444-555555555555"

func (b *bed) envelope(agent string) *ebbwatch.Batch {
	b.sequence++
	batch := &ebbwatch.Batch{}
	batch.Agent, batch.Boot, batch.Sequence, batch.Time, batch.IntervalMS = agent, testBoot, b.sequence, time.Now().UTC(), 5000
	return batch
}

func plainFlow() ebbwatch.Flow {
	now := time.Now()
	return ebbwatch.Flow{
		Start: now.Add(-time.Second), End: now, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		SrcPort: 40000, DstPort: 443, Proto: ebbwatch.ProtoTCP, SrcPackets: 2, SrcBytes: 200, DstPackets: 1, DstBytes: 100, Sampling: 1,
	}
}

func TestPipeline(t *testing.T) {
	ch := chtest.Start(t)
	for name, test := range map[string]func(*testing.T, *chtest.Server){
		"a batch ends up as rows with the right value in every column": everyColumn,
		"every attribute ends up in the column of its name":            everyAttribute,
		"what is known of addresses is stored with them":               enriched,
		"early warnings end up as rows with the right value":           earlyWarnings,
		"rollup equals raw equals sent over many batches":              manyBatches,
		"what the load generator tells is what is stored":              generated,
		"what must not be stored is kept and told":                     deadLetters,
		"what is too large is kept, or refused by the stream":          tooLarge,
		"dead letters are replayed once":                               replay,
		"a batch over a hundred days holds nothing up":                 manyDays,
		"a million names are stored in bounded memory":                 manyNames,
		"a million names are stored in bounded memory by six shards":   manyNamesInShards,
		"unwritable dead letters do not hold the others up":            lettersAway,
		"clickhouse may be down and come back":                         clickHouseDown,
		"nats may restart":                                             natsRestart,
		"a message that comes again is stored once":                    redelivery,
		"a second collector takes over and nothing is stored twice":    takeOver,
		"a recreated stream is read from its start":                    recreatedStream,
	} {
		t.Run(name, func(t *testing.T) { test(t, ch) })
	}
}

func generated(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.run()
	cfg := loadgen.DefaultConfig()
	cfg.NATS.URL, cfg.Agents, cfg.Flows, cfg.Interval, cfg.Duration = b.nats.URL, 20, 10, 200*time.Millisecond, time.Second
	sent, err := loadgen.Run(t.Context(), cfg, slog.New(slog.DiscardHandler), new(loadgen.Progress))
	if err != nil {
		t.Fatal(err)
	}
	if sent.Batches != 100 || sent.Flows != 1000 || sent.Seconds < 1 {
		t.Errorf("sent %+v, want 100 batches with 1000 flows in a second", sent)
	}
	want := fmt.Sprintf("20\t%d\t%d", sent.Flows, sent.FlowBytes)
	eventually(t, 20*time.Second, "everything sent is stored", func() error {
		if got := ch.Query(t, "SELECT uniqExact(agent), count(), sum(bytes) FROM "+b.db+".flows"); got != want {
			return fmt.Errorf("agents, flows and bytes are %s, want %s", got, want)
		}
		if got := ch.Query(t, "SELECT uniqExact(agent), count(), max(sequence) FROM "+b.db+".coverage"); got != "20\t100\t5" {
			return fmt.Errorf("agents, batches and highest sequence are %s", got)
		}
		return nil
	})
}

func everyColumn(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.run()
	start := time.Now().Add(-10 * time.Second).UTC().Truncate(time.Millisecond)
	batch := b.envelope("web-1")
	batch.AgentVersion, batch.Last = "v9.8.7", true
	batch.Time = start.Add(5 * time.Second)
	batch.Attach = []ebbwatch.AttachPoint{
		{Interface: "eth0", Seen: ebbwatch.Counter{Packets: 100, Bytes: 1000}, Recorded: ebbwatch.Counter{Packets: 90, Bytes: 900}, Overflow: ebbwatch.Counter{Packets: 7, Bytes: 70}, Other: ebbwatch.Counter{Packets: 3, Bytes: 30}},
		{Interface: "eth0", NetNS: "blue", Egress: true, Skipped: ebbwatch.Counter{Packets: 8, Bytes: 9}, Reasons: []ebbwatch.Loss{{Name: "not_ip", Count: 2}, {Name: "truncated", Count: 1}}, Seen: ebbwatch.Counter{Packets: 1, Bytes: 2}, Recorded: ebbwatch.Counter{Packets: 1, Bytes: 2}},
	}
	batch.Losses = []ebbwatch.Loss{{Name: "queue_dropped_batches", Count: 4}, {Name: "overflow", Count: 1 << 40}}
	batch.Append(&ebbwatch.Flow{
		Start: start, End: start.Add(1234 * time.Millisecond), Src: netip.MustParseAddr("192.0.2.7"), Dst: netip.MustParseAddr("198.51.100.9"),
		SrcPort: 50001, DstPort: 8443, Proto: 6, Initiator: ebbwatch.InitiatorSocket, Interface: "eth0", VLAN: 4094,
		SrcPackets: 1<<33 + 1, SrcBytes: 1<<50 + 2, DstPackets: 3, DstBytes: 4, SrcFlags: 0x1ff, DstFlags: 0x12,
		ConnState: ebbwatch.StateRSTOS0, ICMPType: 0, ICMPCode: 0, AgeMS: 4_000_000_000, Final: true, Sampling: 64,
	})
	batch.Append(&ebbwatch.Flow{
		Start: start.Add(time.Millisecond), End: start.Add(time.Millisecond), Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("ff02::1"),
		Proto: 58, Initiator: ebbwatch.InitiatorFirst, Interface: "", SrcPackets: 1, SrcBytes: 86, ConnState: ebbwatch.StateSHR, ICMPType: 135, ICMPCode: 1, Sampling: 1,
	})
	b.publish(ebbwatch.FlowSubject("web-1"), b.encode(batch), batch.MessageID())
	b.sent.records = 2
	eventually(t, 20*time.Second, "two rows", func() error {
		_, err := ch.QueryAs(chtest.Collector, "SELECT throwIf(count() < 2) FROM "+b.db+".coverage")
		return err
	})
	ms := func(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }
	got := ch.Query(t, "SELECT agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, vlan, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, icmp_type, icmp_code, age_ms, final, sampling, end, bytes, packets, src, dst FROM "+b.db+".flows ORDER BY start")
	want := strings.Join([]string{
		"web-1", "eth0", ms(start), "1234", "::ffff:192.0.2.7", "::ffff:198.51.100.9", "50001", "8443", "6", "socket", "4094",
		"8589934593", "1125899906842626", "3", "4", "511", "18", "RSTOS0", "0", "0", "4000000000", "true", "64",
		ms(start.Add(1234 * time.Millisecond)), "1125899906842630", "8589934596", "192.0.2.7", "198.51.100.9",
	}, "\t") + "\n" + strings.Join([]string{
		"web-1", "", ms(start.Add(time.Millisecond)), "0", "2001:db8::1", "ff02::1", "0", "0", "58", "first", "0",
		"1", "86", "0", "0", "0", "0", "SHR", "135", "1", "0", "false", "1",
		ms(start.Add(time.Millisecond)), "86", "1", "2001:db8::1", "ff02::1",
	}, "\t")
	if got != want {
		t.Errorf("flows hold\n%s\nwant\n%s", got, want)
	}
	got = ch.Query(t, "SELECT time, abs(received - now64(3)) < 60, agent, agent_version, boot, sequence, last_of_run, interval_ms, flows, interface, direction, seen_packets, seen_bytes, recorded_packets, recorded_bytes, overflow_packets, overflow_bytes, other_packets, other_bytes, netns, skipped_packets, skipped_bytes, mapSort(reasons), mapSort(losses) FROM "+b.db+".coverage ORDER BY direction")
	head := ms(start.Add(5*time.Second)) + "\t1\tweb-1\tv9.8.7\t" + testBoot + "\t1\ttrue\t5000\t"
	losses := "\t{'overflow':1099511627776,'queue_dropped_batches':4}"
	want = head + "2\teth0\tingress\t100\t1000\t90\t900\t7\t70\t3\t30\t\t0\t0\t{}" + losses + "\n" + head + "0\teth0\tegress\t1\t2\t1\t2\t0\t0\t0\t0\tblue\t8\t9\t{'not_ip':2,'truncated':1}" + losses
	if got != want {
		t.Errorf("coverage holds\n%s\nwant\n%s", got, want)
	}
}

func manyBatches(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Ingest.BlockRows = 1500 // several blocks
	b.run()
	b.send(120, 100)
	b.wantExact()
	if b.rows["coverage"] != 240 || b.rows["features"] != 480 || b.rows["sources"] == 0 {
		t.Errorf("sent were %v", b.rows)
	}
}

func clickHouseDown(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	c := b.cable(ch.Addr)
	b.cfg.ClickHouse.Address = c.addr()
	b.cfg.Ingest.BlockRows, b.cfg.Ingest.BlockMessages = 500, 5
	b.run()
	b.send(10, 50)
	b.wantExact()
	c.Cut()
	b.send(60, 50)
	time.Sleep(3 * time.Second) // longer than AckWait: the held messages come again
	c.Mend(t)
	b.wantExact()
	c.Cut() // in the middle of inserts
	c.Mend(t)
	b.send(60, 50)
	c.Cut()
	c.Mend(t)
	b.wantExact()
}

func natsRestart(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Ingest.BlockMessages = 7
	b.run()
	for range 3 {
		b.send(40, 20)
		b.nats.Stop()
		time.Sleep(300 * time.Millisecond)
		if err := b.nats.Start(); err != nil {
			t.Fatal(err)
		}
	}
	b.send(40, 20)
	b.wantExact()
}

func redelivery(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Streams.AckWait = time.Second
	b.cfg.Ingest.BlockAge = 3 * time.Second // every message is delivered again while it is held
	b.run()
	b.send(30, 10)
	b.wantExact()
}

func takeOver(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Ingest.BlockMessages = 5
	first := b.run()
	b.run()
	b.send(50, 10)
	first()
	b.send(50, 10)
	b.wantExact()
}

func recreatedStream(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	stop := b.run()
	b.send(20, 10)
	b.wantExact()
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.js.DeleteStream(ctx, ebbwatch.FlowStream); err != nil {
		t.Fatal(err)
	}
	b.run()
	b.send(20, 10) // under the sequences that the ledger has as done
	b.wantExact()
}
