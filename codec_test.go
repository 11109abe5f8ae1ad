package ebbwatch

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

var update = flag.Bool("update", false, "write the golden files anew")

const testBoot = "0b5a7e8e-3c1f-4b7a-9d2e-5f60718293a4"

// goldenBatch uses every field and column, and no default twice.
func goldenBatch() *Batch {
	b := &Batch{Envelope: Envelope{
		Agent: "web-1", AgentVersion: "v1.2.3", Boot: testBoot, Sequence: 42,
		Time: time.UnixMicro(1_790_000_000_123_456).UTC(), IntervalMS: 5000,
		Attach: []AttachPoint{
			{Interface: "eth0", Seen: Counter{100, 10_000}, Recorded: Counter{90, 9000}, Overflow: Counter{7, 700}, Other: Counter{3, 300}},
			{Interface: "eth0", Egress: true, Seen: Counter{1, 60}, Recorded: Counter{1, 60}},
		},
		Losses: []Loss{{"queue_dropped_batches", 2}, {"unread_events", 1 << 40}},
	}}
	start := b.Time.Add(-4 * time.Second)
	for i := range 3 {
		b.Append(&Flow{
			Start: start.Add(time.Duration(i) * time.Second), End: start.Add(time.Duration(i)*time.Second + 1500*time.Microsecond),
			Src: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Dst: netip.MustParseAddr("2001:db8::1"),
			SrcPort: 40_000 + uint16(i), DstPort: 443, Proto: ProtoTCP, Initiator: InitiatorSYN, Interface: "eth0", VLAN: uint16(i),
			SrcPackets: 1 << (10 * i), SrcBytes: 1<<40 + uint64(i), DstPackets: 2, DstBytes: 300, SrcFlags: FlagSYN | FlagAE, DstFlags: FlagACK,
			ConnState: StateSF, AgeMS: uint32(i * 5000), Final: i == 2, Sampling: uint32(i + 1),
		})
	}
	b.Append(&Flow{
		Start: b.Time.Add(time.Hour), End: b.Time.Add(time.Hour), Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("10.0.0.1"),
		Proto: ProtoICMPv6, Initiator: InitiatorFirst, Interface: "", ICMPType: 135, ICMPCode: 4, SrcPackets: 1, SrcBytes: 86, Sampling: 1, ConnState: StateSHR,
	})
	return b
}

func encode(t testing.TB, b *Batch) []byte {
	t.Helper()
	var e Encoder
	message, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// rows returns the records of b, which do not depend on its dictionaries.
func rows(b *Batch) []Flow {
	all := make([]Flow, b.Len())
	for i := range all {
		all[i] = b.Flow(i)
	}
	return all
}

// same fails the test if the batches differ in what they say.
func same(t *testing.T, got, want *Batch) {
	t.Helper()
	if g, w := normal(got.Envelope), normal(want.Envelope); !reflect.DeepEqual(g, w) {
		t.Errorf("envelope is %+v\nwant %+v", g, w)
	}
	if g, w := rows(got), rows(want); !reflect.DeepEqual(g, w) {
		t.Errorf("flows are %+v\nwant %+v", g, w)
	}
}

// normal makes empty and absent lists equal, and times of one instant.
func normal(e Envelope) Envelope {
	e.Attach, e.Losses = append([]AttachPoint(nil), e.Attach...), append([]Loss(nil), e.Losses...)
	e.Features, e.Sources = append([]Feature(nil), e.Features...), append([]Source(nil), e.Sources...)
	e.Time = time.UnixMicro(e.Time.UnixMicro()).UTC()
	return e
}

// raw compresses an uncompressed message.
func raw(message []byte) []byte { return s2.Encode(nil, message) }

func TestGolden(t *testing.T) {
	golden(t, goldenBatch, filepath.Join("testdata", "batch_v1.golden"))
}

// golden holds what make returns against a file, which is uncompressed: S2 may compress better one day.
func golden(t *testing.T, build func() *Batch, file string) {
	t.Helper()
	b := build()
	b.sortAddrs()
	got := appendBatch(nil, b)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the encoding of version %d changed: agents in the field send\n%x\nthis build\n%x", Version, want, got)
	}
	var decoded Batch
	if err := new(Decoder).Decode(raw(want), &decoded); err != nil {
		t.Fatal(err)
	}
	same(t, &decoded, build())
}

// fullBatch holds what goldenBatch does, and a value of its own for everything
// that was added since.
// unpackPlain fills in the columns that a decoder left packed.
func unpackPlain(t testing.TB, b *Batch) {
	t.Helper()
	b.SrcPort = UnpackPlain(b.SrcPort, b.PlainColumns[PlainSrcPort], b.Len())
	b.DstPort = UnpackPlain(b.DstPort, b.PlainColumns[PlainDstPort], b.Len())
	b.SrcPackets = UnpackPlain(b.SrcPackets, b.PlainColumns[PlainSrcPackets], b.Len())
	b.SrcBytes = UnpackPlain(b.SrcBytes, b.PlainColumns[PlainSrcBytes], b.Len())
	b.DstPackets = UnpackPlain(b.DstPackets, b.PlainColumns[PlainDstPackets], b.Len())
	b.DstBytes = UnpackPlain(b.DstBytes, b.PlainColumns[PlainDstBytes], b.Len())
	b.AgeMS = UnpackPlain(b.AgeMS, b.PlainColumns[PlainAgeMS], b.Len())
	b.HandshakeUS = UnpackPlain(b.HandshakeUS, b.PlainColumns[PlainHandshakeUS], b.Len())
	b.RTTUS = UnpackPlain(b.RTTUS, b.PlainColumns[PlainRTTUS], b.Len())
	b.LatencyUS = UnpackPlain(b.LatencyUS, b.PlainColumns[PlainLatencyUS], b.Len())
}

// What a decoder leaves packed, and what a batch that nobody decoded packs, are the
// same values.
func TestPlainColumnsAreKept(t *testing.T) {
	for name, b := range map[string]*Batch{"few": goldenBatch(), "all": fullBatch(), "none": {Envelope: goldenBatch().Envelope}} {
		want := rows(b)
		var decoded Batch
		if err := (&Decoder{InPlace: true}).Decode(encode(t, b), &decoded); err != nil {
			t.Fatal(err)
		}
		if !decoded.KeptPlain() || len(decoded.SrcPort) > 0 {
			t.Fatalf("%s: the columns are not packed", name)
		}
		b.KeepPlain()
		for from, kept := range map[string]*Batch{"decoded": &decoded, "made": b} {
			if unpackPlain(t, kept); !reflect.DeepEqual(rows(kept), want) {
				t.Errorf("%s, %s: %v, want %v", name, from, rows(kept), want)
			}
		}
	}
	b := goldenBatch()
	b.KeepPlain()
	f := b.Flow(0)
	if b.Append(&f); b.KeptPlain() {
		t.Error("a batch that has grown still has the packed columns of before")
	}
}

// Short names go first, records keep theirs, and the batch may grow afterwards.
func TestEncodeSortsNames(t *testing.T) {
	b := fullBatch()
	f := b.Flow(0)
	f.Hint.ServerName = "a.much.longer.name.example"
	b.Append(&f)
	f.Hint.ServerName, f.Hint.TLSALPN = "b.example", "h3"
	b.Append(&f)
	want := rows(b)
	first := encode(t, b)
	byLength := func(x, y string) int { return len(x) - len(y) }
	if !slices.IsSortedFunc(b.Strings, byLength) || !reflect.DeepEqual(rows(b), want) {
		t.Fatalf("names %q, records %v, want %v", b.Strings, rows(b), want)
	}
	if again := encode(t, b); !bytes.Equal(again, first) {
		t.Error("encoding twice gives other bytes")
	}
	f.Hint.ServerName = "c"
	b.Append(&f)
	var got Batch
	if err := new(Decoder).Decode(encode(t, b), &got); err != nil || !reflect.DeepEqual(rows(&got), append(want, f)) {
		t.Errorf("a record that comes later: %v, %v, want %v", err, rows(&got), append(want, f))
	}
}

func fullBatch() *Batch {
	b := goldenBatch()
	b.Last = true
	b.Attach[0].NetNS, b.Attach[0].Skipped = "blue", Counter{5, 500}
	b.Attach[0].Reasons = []Loss{{"not_ip", 2}, {"truncated", 1}}
	b.Features = []Feature{{
		Interface: "eth0", Egress: true, IntervalMS: 1000, Seen: Counter{1, 2}, SYN: 3, SYNACK: 4, FIN: 5, RST: 6, NewFlows: 7, Overflow: 8,
		Sizes: []uint64{0, 1, 1 << 40}, Gaps: []uint64{9}, NetNS: "blue",
	}, {Interface: "eth1"}}
	b.Sources = []Source{
		{Addr: netip.MustParseAddr("10.9.8.7"), IntervalMS: 3000, Flows: 1, Targets: 2, Overflow: Counter{3, 4}},
		{Addr: netip.MustParseAddr("2001:db8::5"), Targets: 20_000}, {Flows: 1},
	}
	full := b.Flow(0)
	for i := range attributes {
		switch a := &attributes[i]; {
		case Attribute(i).Group() == GroupKind || Attribute(i) == AttrInterface || Attribute(i) == AttrVLAN: // of flow 0
		case a.set != nil:
			a.set(&full, min(a.max, uint32(1000+i)))
		default:
			*a.text(&full) = a.name
		}
	}
	full.HandshakeUS, full.RTTUS, full.Hint.LatencyUS = 2001, 2002, 2003
	b.Append(&full)
	plain := b.Flow(1)
	b.Append(&plain)
	return b
}

func TestGoldenWithAttributes(t *testing.T) {
	golden(t, fullBatch, filepath.Join("testdata", "batch_v1_attributes.golden"))
}

func TestRoundTrip(t *testing.T) {
	envelope := func() *Batch {
		return &Batch{Envelope: Envelope{Agent: "a", Boot: testBoot, Time: time.UnixMicro(1).UTC()}}
	}
	for name, b := range map[string]*Batch{
		"every field and column":    fullBatch(),
		"a heartbeat without flows": envelope(),
		"one flow of zeros": func() *Batch {
			b := envelope()
			b.Append(&Flow{Start: b.Time, End: b.Time, Src: netip.IPv4Unspecified(), Dst: netip.IPv6Unspecified(), Sampling: 1})
			return b
		}(),
		"the largest values": func() *Batch {
			b := envelope()
			b.Sequence, b.IntervalMS, b.Time = 1<<64-1, 1<<32-1, time.UnixMicro(maxTime).UTC()
			b.Append(&Flow{
				Start: time.UnixMicro(0).UTC(), End: time.UnixMicro(maxTime).UTC(), Src: netip.MustParseAddr("255.255.255.255"), Dst: netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
				SrcPort: 65535, DstPort: 65535, Proto: 255, Initiator: InitiatorFirst, Interface: strings.Repeat("x", MaxName), VLAN: 65535,
				SrcPackets: 1<<64 - 1, SrcBytes: 1<<64 - 1, DstPackets: 1<<64 - 1, DstBytes: 1<<64 - 1, SrcFlags: 65535, DstFlags: 65535,
				ConnState: StateSHR, ICMPType: 255, ICMPCode: 255, AgeMS: 1<<32 - 1, Final: true, Sampling: 1<<32 - 1,
			})
			return b
		}(),
		"as many flows as fit": func() *Batch {
			b := envelope()
			for i := range MaxBatchFlows {
				b.Append(&Flow{Start: b.Time, End: b.Time, Src: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Dst: netip.AddrFrom4([4]byte{10, 1, 0, 1}), Sampling: 1})
			}
			return b
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			want := rows(b)
			var got Batch
			got.Append(&Flow{Sampling: 7}) // what was there before must not show
			if err := new(Decoder).Decode(encode(t, b), &got); err != nil {
				t.Fatal(err)
			}
			same(t, &got, b)
			if !reflect.DeepEqual(rows(b), want) {
				t.Error("encoding changed the batch's records")
			}
		})
	}
}

// fields builds an uncompressed message by hand.
type fields []byte

func (f fields) uint(field protowire.Number, v uint64) fields {
	return protowire.AppendVarint(protowire.AppendTag(f, field, protowire.VarintType), v)
}

func (f fields) bytes(field protowire.Number, v ...byte) fields {
	return protowire.AppendBytes(protowire.AppendTag(f, field, protowire.BytesType), v)
}

func (f fields) str(field protowire.Number, v string) fields { return f.bytes(field, []byte(v)...) }

func validHead(flows uint64) fields {
	return fields(nil).uint(fieldVersion, 1).str(fieldAgent, "a").str(fieldBoot, testBoot).uint(fieldTime, 1000).uint(fieldFlows, flows)
}

// validNames adds the names "eth0" and "x" and one entry of group path, which
// names the first and belongs to all flows of one().
func (f fields) validNames() fields {
	return f.str(fieldNames, "eth0x").bytes(fieldNameLengths, 2, 8, 4, 1).bytes(fieldEntries, 0, 1).
		bytes(firstAttribute+protowire.Number(AttrInterface), 1, 1)
}

func one() fields {
	return validHead(1).bytes(fieldAddresses4, 10, 0, 0, 1).validNames().bytes(firstGroup+protowire.Number(GroupPath), 1, 1)
}

func TestDecodeOldAndNewerMessages(t *testing.T) {
	for name, message := range map[string]fields{
		"columns that an old agent does not send are their defaults": one(),
		"columns that only a newer agent knows are skipped":          one().bytes(firstAttribute+protowire.Number(Attributes), 1).uint(1001, 7).bytes(1000, 1, 2, 3),
		"groups that only a newer agent knows are skipped":           one().bytes(fieldEntries, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9),
		"fixed-width fields are skipped":                             protowire.AppendFixed64(protowire.AppendTag(one(), 50, protowire.Fixed64Type), 1),
		"columns may come before the number of flows":                append(fields(nil).bytes(22, 0).bytes(16, 0), one()...),
		"zeros may be written":                                       one().bytes(20, 5, 0).bytes(22, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			var b Batch
			if err := new(Decoder).Decode(raw(message), &b); err != nil {
				t.Fatal(err)
			}
			at := time.UnixMicro(1000).UTC()
			addr := netip.MustParseAddr("10.0.0.1")
			want := []Flow{{Start: at, End: at, Src: addr, Dst: addr, Interface: "eth0", Sampling: 1}}
			if got := rows(&b); !reflect.DeepEqual(got, want) {
				t.Errorf("flows are %+v, want %+v", got, want)
			}
		})
	}
}

func TestDecodingReusesItsMemory(t *testing.T) {
	d, message := new(Decoder), encode(t, goldenBatch())
	var b Batch
	decode := func() {
		if err := d.Decode(message, &b); err != nil {
			t.Fatal(err)
		}
	}
	decode()
	// The text of all names is copied at once.
	if got := testing.AllocsPerRun(100, decode); got > 1 {
		t.Errorf("decoding allocates %v times, want at most once", got)
	}
}

func ExampleEnvelope_MessageID() {
	e := Envelope{Agent: "web-1", Boot: testBoot, Sequence: 7}
	fmt.Println(e.MessageID())
	// Output: web-1:0b5a7e8e-3c1f-4b7a-9d2e-5f60718293a4:7
}
