package batch

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/flowgen"
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
	for i := range b.Sampling {
		b.Sampling[i], b.VLAN[i], b.ICMPCode[i] = uint32(i+1), uint16(i*80), uint8(i)
		b.ICMPType[i] = uint8(200 - i)
	}
	for i := range b.Attributes {
		b.Attributes[i] = make([]uint32, b.Len())
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
	list := func(name string, i int) protoreflect.Value {
		return m.Get(fields.ByName(protoreflect.Name(name))).List().Get(i)
	}
	for i := range b.Len() {
		if got := b.Time.UnixMicro() + list("start", i).Int(); got != b.Start[i] {
			t.Errorf("start of flow %d reads as %d, want %d", i, got, b.Start[i])
		}
		for name, want := range map[string]uint64{
			"duration": b.Duration[i], "src_addr": uint64(b.SrcAddr[i]), "dst_addr": uint64(b.DstAddr[i]), "src_port": uint64(b.SrcPort[i]),
			"dst_port": uint64(b.DstPort[i]), "proto": uint64(b.Proto[i]), "initiator": uint64(b.Initiator[i]), "interface": uint64(b.Interface[i]),
			"vlan": uint64(b.VLAN[i]), "src_packets": b.SrcPackets[i], "src_bytes": b.SrcBytes[i], "dst_packets": b.DstPackets[i], "dst_bytes": b.DstBytes[i],
			"src_flags": uint64(b.SrcFlags[i]), "dst_flags": uint64(b.DstFlags[i]), "conn_state": uint64(b.ConnState[i]), "icmp_type": uint64(b.ICMPType[i]),
			"icmp_code": uint64(b.ICMPCode[i]), "age_ms": uint64(b.AgeMS[i]), "final": uint64(b.Final[i]), "sampling": uint64(b.Sampling[i]),
		} {
			if got := list(name, i).Uint(); got != want {
				t.Errorf("%s of flow %d reads as %d, want %d", name, i, got, want)
			}
		}
		for a := range ebbwatch.Attributes {
			if got := list(a.Name(), i).Uint(); got != uint64(b.Attributes[a][i]) {
				t.Errorf("%s of flow %d reads as %d, want %d", a.Name(), i, got, b.Attributes[a][i])
			}
		}
	}
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
	decoder, err := ebbwatch.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
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
	e, err := ebbwatch.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	message, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func unpack(t *testing.T, message []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func compress(t *testing.T, raw []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(raw, nil)
}
