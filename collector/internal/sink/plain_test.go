package sink

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// The columns of an insert hold what the batches held, whether they came as
// messages, were made here, or have zeros only.
func TestPlainColumnsHoldTheirValues(t *testing.T) {
	now := time.Now()
	fleet := flowgen.New(7, 5, now, time.Second)
	zeros := &ebbwatch.Batch{}
	decoder, encoder := ebbwatch.Decoder{InPlace: true}, ebbwatch.Encoder{}
	block := NewBlock()
	var want ebbwatch.Batch // its plain columns
	for round := range 2 {  // the second in used memory
		block.Reset()
		want = ebbwatch.Batch{}
		for i := range 40 {
			b := new(ebbwatch.Batch)
			switch {
			case i%7 == 6: // an address and times, and no more
				fleet.Next(b, 1)
				f := ebbwatch.Flow{Start: b.Time, End: b.Time, Src: b.Addrs[0], Dst: b.Addrs[0], Sampling: 1}
				zeros.Reset()
				zeros.Envelope = b.Envelope
				for range i {
					zeros.Append(&f)
				}
				b = zeros
			case i%2 == 0:
				fleet.NextFull(b, 1+i*round)
			default:
				fleet.Next(b, 1+i)
			}
			want.SrcPort, want.DstPort = append(want.SrcPort, b.SrcPort...), append(want.DstPort, b.DstPort...)
			want.SrcPackets, want.SrcBytes = append(want.SrcPackets, b.SrcPackets...), append(want.SrcBytes, b.SrcBytes...)
			want.DstPackets, want.DstBytes = append(want.DstPackets, b.DstPackets...), append(want.DstBytes, b.DstBytes...)
			want.AgeMS, want.HandshakeUS = append(want.AgeMS, b.AgeMS...), append(want.HandshakeUS, b.HandshakeUS...)
			want.RTTUS, want.LatencyUS = append(want.RTTUS, b.RTTUS...), append(want.LatencyUS, b.LatencyUS...)
			if i%3 > 0 {
				message, err := encoder.Encode(nil, b)
				if err != nil {
					t.Fatal(err)
				}
				b = new(ebbwatch.Batch)
				if err := decoder.Decode(message, b); err != nil {
					t.Fatal(err)
				}
			}
			block.Append(b, now)
		}
	}
	rows := block.Rows()
	read := func(name string, to proto.ColResult) {
		t.Helper()
		i := slices.IndexFunc(block.flows, func(c proto.InputColumn) bool { return c.Name == name })
		var buffer proto.Buffer
		block.flows[i].Data.EncodeColumn(&buffer)
		if err := to.DecodeColumn(proto.NewReader(bytes.NewReader(buffer.Buf)), rows); err != nil || to.Type() != block.flows[i].Data.Type() {
			t.Fatalf("%s: %v, of type %s", name, err, block.flows[i].Data.Type())
		}
	}
	for name, want := range map[string][]uint16{"src_port": want.SrcPort, "dst_port": want.DstPort} {
		var got proto.ColUInt16
		if read(name, &got); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string][]uint64{"src_packets": want.SrcPackets, "src_bytes": want.SrcBytes, "dst_packets": want.DstPackets, "dst_bytes": want.DstBytes} {
		var got proto.ColUInt64
		if read(name, &got); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string][]uint32{"age_ms": want.AgeMS, "handshake_us": want.HandshakeUS, "rtt_us": want.RTTUS, "app_latency_us": want.LatencyUS} {
		var got proto.ColUInt32
		if read(name, &got); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
