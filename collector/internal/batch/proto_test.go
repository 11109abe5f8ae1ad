package batch

import (
	"context"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// The codec is written by hand; batch.proto is what others implement. These
// tests hold one against the other, here because the contract's own module
// should not depend on a protobuf compiler.

func describe(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../../.."}}}
	files, err := compiler.Compile(context.Background(), "batch.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Messages().ByName("Batch")
}

func sample() *ebbwatch.Batch {
	b := &ebbwatch.Batch{}
	flowgen.New(3, 2, time.UnixMicro(1_790_000_000_000_000).UTC(), 5*time.Second).Next(b, 50)
	b.Losses, b.Last = []ebbwatch.Loss{{Name: "queue_dropped_batches", Count: 300}}, true
	b.Attach[0].Egress = true
	b.Attach[0].Overflow = ebbwatch.Counter{Packets: 1, Bytes: 2}
	for g := range ebbwatch.Groups {
		b.Entries[g] = 10
		for i := range b.Index[g] {
			b.Index[g][i] = uint16((i + int(g)) % 11)
		}
	}
	for i := range b.Attributes {
		b.Attributes[i] = make([]uint32, 10)
		for j := range b.Attributes[i] {
			b.Attributes[i][j] = uint32((i + j) % 2) // within the range of each
		}
	}
	b.Features = []ebbwatch.Feature{{Interface: "eth0", SYN: 1, Sizes: []uint64{2, 300}, Gaps: []uint64{4}}}
	b.Sources = []ebbwatch.Source{{Addr: netip.MustParseAddr("10.1.2.3"), Targets: 500}}
	b.Attach[0].NetNS, b.Attach[0].Skipped, b.Attach[0].Reasons = "blue", ebbwatch.Counter{Packets: 5, Bytes: 600}, []ebbwatch.Loss{{Name: "not_ip", Count: 9}}
	return b
}

func TestProtobufReadsWhatTheCodecWrites(t *testing.T) {
	b := sample()
	m := dynamicpb.NewMessage(describe(t))
	if err := (proto.UnmarshalOptions{}).Unmarshal(unpack(t, pack(t, b)), m); err != nil {
		t.Fatal(err)
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		t.Errorf("batch.proto does not know %d bytes that the codec writes", len(unknown))
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); !m.Has(f) {
			t.Errorf("the sample has no value in field %s: the test compares nothing there", f.Name())
		}
	}
	number := func(name string) uint64 { return m.Get(fields.ByName(protoreflect.Name(name))).Uint() }
	if number("version") != ebbwatch.Version || number("sequence") != b.Sequence || number("time") != uint64(b.Time.UnixMicro()) ||
		!m.Get(fields.ByName("last")).Bool() || number("interval_ms") != uint64(b.IntervalMS) || number("flows") != uint64(b.Len()) {
		t.Errorf("the envelope reads as %s", protojson.Format(m))
	}
	first := b.Time.UnixMicro() + m.Get(fields.ByName("first_start")).Int()
	column := func(name string, n int) []uint64 {
		return readColumn(t, name, m.Get(fields.ByName(protoreflect.Name(name))).Bytes(), n)
	}
	for name, want := range map[string]func(int) uint64{
		"start":    func(i int) uint64 { return uint64(b.Start[i] - first) },
		"duration": func(i int) uint64 { return b.Duration[i] },
		"src_addr": func(i int) uint64 { return uint64(b.SrcAddr[i]) }, "dst_addr": func(i int) uint64 { return uint64(b.DstAddr[i]) },
		"src_port": func(i int) uint64 { return uint64(b.SrcPort[i]) }, "dst_port": func(i int) uint64 { return uint64(b.DstPort[i]) },
		"src_packets": func(i int) uint64 { return b.SrcPackets[i] }, "src_bytes": func(i int) uint64 { return b.SrcBytes[i] },
		"dst_packets": func(i int) uint64 { return b.DstPackets[i] }, "dst_bytes": func(i int) uint64 { return b.DstBytes[i] },
		"age_ms": func(i int) uint64 { return uint64(b.AgeMS[i]) }, "handshake_us": func(i int) uint64 { return uint64(b.HandshakeUS[i]) },
		"rtt_us": func(i int) uint64 { return uint64(b.RTTUS[i]) }, "app_latency_us": func(i int) uint64 { return uint64(b.LatencyUS[i]) },
	} {
		for i, got := range column(name, b.Len()) {
			if got != want(i) {
				t.Errorf("%s of flow %d reads as %d, want %d", name, i, got, want(i))
			}
		}
	}
	for g, name := range []string{"kind", "path", "health", "src_owner", "dst_owner", "name", "dns", "tls", "http"} {
		for i, got := range column(name, b.Len()) {
			if got != uint64(b.Index[g][i]) {
				t.Errorf("%s of flow %d reads as %d, want %d", name, i, got, b.Index[g][i])
			}
		}
		if got := m.Get(fields.ByName("entries")).List().Get(g).Uint(); got != uint64(b.Entries[g]) {
			t.Errorf("group %s has %d entries, want %d", name, got, b.Entries[g])
		}
	}
	for a := range ebbwatch.Attributes {
		for i, got := range column(a.Name(), b.Entries[a.Group()]) {
			if got != uint64(b.Attributes[a][i]) {
				t.Errorf("%s of entry %d reads as %d, want %d", a.Name(), i, got, b.Attributes[a][i])
			}
		}
	}
	text := m.Get(fields.ByName("names")).Bytes()
	lengths := m.Get(fields.ByName("name_lengths")).Bytes()
	n, size := binary.Uvarint(lengths)
	if n != uint64(len(b.Strings)) {
		t.Fatalf("%d names, want %d", n, len(b.Strings))
	}
	for i, length := range readColumn(t, "name_lengths", lengths[size:], int(n)) {
		if got := string(text[:length]); got != b.Strings[i] {
			t.Errorf("name %d is %q, want %q", i, got, b.Strings[i])
		}
		text = text[length:]
	}
}

// readColumn reads n values bit by bit, as batch.proto states it.
func readColumn(t *testing.T, name string, packed []byte, n int) []uint64 {
	t.Helper()
	values := make([]uint64, n)
	width, bits := int(packed[0]), packed[1:]
	for i := range n * width {
		if bits[i/8]>>(i%8)&1 == 1 {
			values[i/width] |= 1 << (i % width)
		}
	}
	rest, at := bits[(n*width+7)/8:], -1
	for len(rest) > 0 {
		gap, size := binary.Uvarint(rest)
		high, size2 := binary.Uvarint(rest[size:])
		if size <= 0 || size2 <= 0 {
			t.Fatalf("column %s ends within a patch", name)
		}
		at += int(gap) + 1
		values[at] |= high << width
		rest = rest[size+size2:]
	}
	return values
}

func TestTheCodecReadsWhatProtobufWrites(t *testing.T) {
	b := sample()
	m := dynamicpb.NewMessage(describe(t))
	if err := proto.Unmarshal(unpack(t, pack(t, b)), m); err != nil {
		t.Fatal(err)
	}
	// Protobuf may write fields in another order; start must not come to stand for the wrong time.
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var decoder ebbwatch.Decoder
	var got ebbwatch.Batch
	if err := decoder.Decode(compress(t, message), &got); err != nil {
		t.Fatal(err)
	}
	if got.Len() != b.Len() || !got.Last || got.MessageID() != b.MessageID() || !reflect.DeepEqual(got.Attach[0], b.Attach[0]) || got.Losses[0] != b.Losses[0] ||
		!reflect.DeepEqual(got.Features, b.Features) || !reflect.DeepEqual(got.Sources, b.Sources) {
		t.Errorf("the envelope reads as %+v", got.Envelope)
	}
	for i := range b.Len() {
		if got.Flow(i) != b.Flow(i) {
			t.Errorf("flow %d reads as %+v, want %+v", i, got.Flow(i), b.Flow(i))
		}
	}
}

func pack(t *testing.T, b *ebbwatch.Batch) []byte {
	t.Helper()
	var e ebbwatch.Encoder
	message, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func unpack(t *testing.T, message []byte) []byte {
	t.Helper()
	raw, err := s2.Decode(nil, message)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func compress(t *testing.T, raw []byte) []byte {
	t.Helper()
	return s2.Encode(nil, raw)
}
