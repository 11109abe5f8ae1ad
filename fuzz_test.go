package ebbwatch

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// FuzzDecode feeds the decoder messages as they come off the network, and what
// it makes of their content when the compression is right. Whatever decodes must
// be valid and survive being encoded again.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, fullBatch()))
	f.Add(encode(f, &Batch{Envelope: Envelope{Agent: "a", Boot: testBoot, Time: time.UnixMicro(1)}}))
	b := fullBatch()
	b.sortAddrs()
	f.Add(appendBatch(nil, b))
	f.Add([]byte(one()))
	f.Add([]byte("not a batch"))
	var d Decoder
	keeper := Decoder{InPlace: true}
	var e Encoder
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, m := range [][]byte{message, raw(message)} {
			var b, kept Batch
			err, errKept := d.Decode(m, &b), keeper.Decode(m, &kept)
			if (err == nil) != (errKept == nil) {
				t.Fatalf("error %v, with plain columns kept %v", err, errKept)
			}
			if err != nil {
				continue
			}
			if unpackPlain(t, &kept); !reflect.DeepEqual(rows(&kept), rows(&b)) {
				t.Fatalf("the flows are %+v, with plain columns kept %+v", rows(&b), rows(&kept))
			}
			if err := b.Validate(); err != nil {
				t.Fatalf("decoded to something invalid: %v", err)
			}
			want, envelope := rows(&b), normal(b.Envelope)
			again, err := e.Encode(nil, &b)
			if err != nil {
				t.Fatalf("cannot encode what was decoded: %v", err)
			}
			if len(again) > MaxBatchEncoded {
				continue // it came compressed better
			}
			var second Batch
			if err := d.Decode(again, &second); err != nil {
				t.Fatalf("cannot decode what was encoded: %v", err)
			}
			if got := normal(second.Envelope); !reflect.DeepEqual(got, envelope) {
				t.Fatalf("the envelope was %+v and is %+v", envelope, got)
			}
			if got := rows(&second); !reflect.DeepEqual(got, want) {
				t.Fatalf("the flows were %+v and are %+v", want, got)
			}
		}
	})
}

// FuzzRoundTrip makes batches of arbitrary values; each must come out as it
// went in.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a seed of some bytes that become the flows of a batch, 40 bytes each or so; the more the better"), uint64(1_790_000_000_000_000), "eth0")
	f.Add([]byte{}, uint64(0), "")
	var d Decoder
	var e Encoder
	f.Fuzz(func(t *testing.T, data []byte, at uint64, name string) {
		b := Batch{Envelope: Envelope{Agent: "fuzz", Boot: testBoot, Time: time.UnixMicro(int64(at % maxTime)).UTC(), Sequence: at}}
		for len(data) >= 48 && b.Len() < 1000 {
			b.Append(arbitraryFlow(data[:48], b.Time, name))
			data = data[7:] // overlapping: more flows from few bytes
		}
		if b.Validate() != nil {
			return
		}
		want := rows(&b)
		message, err := e.Encode(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		var got Batch
		if err := d.Decode(message, &got); err != nil {
			t.Fatal(err)
		}
		for i, flow := range rows(&got) {
			if flow != want[i] {
				t.Fatalf("flow %d went in as\n%+v and came out as\n%+v", i, want[i], flow)
			}
		}
	})
}

func arbitraryFlow(v []byte, at time.Time, name string) *Flow {
	u := binary.LittleEndian.Uint64
	src, _ := netip.AddrFromSlice(v[0:4])
	dst, _ := netip.AddrFromSlice(v[8:24])
	start := at.Add(-time.Duration(u(v[0:])%uint64(time.Hour)) / 1000 * 1000)
	if start.Before(time.UnixMicro(0)) {
		start = time.UnixMicro(0).UTC()
	}
	return &Flow{
		Start: start, End: start.Add(time.Duration(u(v[4:])%uint64(time.Hour)) / 1000 * 1000), Src: src, Dst: dst.Unmap(),
		SrcPort: uint16(u(v[10:])), DstPort: uint16(u(v[12:])), Proto: v[14], Initiator: Initiator(v[15] % 4), Interface: name, VLAN: uint16(u(v[16:])),
		SrcPackets: u(v[18:]) >> (v[26] % 64), SrcBytes: u(v[20:]), DstPackets: u(v[28:]) >> (v[27] % 64), DstBytes: u(v[30:]) >> (v[28] % 64),
		SrcFlags: TCPFlags(u(v[32:])), DstFlags: TCPFlags(u(v[34:])), ConnState: ConnState(v[36] % 13), ICMPType: v[37], ICMPCode: v[38],
		AgeMS: uint32(u(v[38:])), Final: v[39]&1 == 1, Sampling: 1 + uint32(u(v[40:])>>1)&0x7fffffff,
	}
}
