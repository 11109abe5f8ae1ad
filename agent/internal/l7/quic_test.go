package l7

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seal makes a client's Initial packet of a payload, filled up to 1,200 bytes.
func seal(t testing.TB, version uint32, id []byte, number uint32, token, payload []byte) []byte {
	t.Helper()
	k, err := newInitialKeys(version, id)
	if err != nil {
		t.Fatal(err)
	}
	first := byte(0xc3)
	if version == quic2 {
		first = 0xd3
	}
	header := binary.BigEndian.AppendUint32([]byte{first}, version)
	header = append(append(header, byte(len(id))), id...)
	header = append(header, 0, byte(len(token))) // no id of its own; a short token
	header = append(header, token...)
	if fill := quicMinFirst - len(header) - 2 - 4 - 16 - len(payload); fill > 0 {
		payload = append(bytes.Clone(payload), make([]byte, fill)...)
	}
	length := 4 + len(payload) + 16
	header = append(header, 0x40|byte(length>>8), byte(length))
	header = binary.BigEndian.AppendUint32(header, number)
	nonce := bytes.Clone(k.iv)
	for i := range 4 {
		nonce[8+i] ^= byte(number >> (8 * (3 - i)))
	}
	packet := k.payload.Seal(bytes.Clone(header), nonce, payload, header)
	at := len(header) - 4
	var mask [16]byte
	k.header.Encrypt(mask[:], packet[at+4:at+20])
	packet[0] ^= mask[0] & 0xf
	for i := range 4 {
		packet[at+i] ^= mask[1+i]
	}
	return packet
}

// crypto makes a CRYPTO frame.
func crypto(offset int, data []byte) []byte {
	b := []byte{6, 0x80, 0, byte(offset >> 8), byte(offset), 0x40 | byte(len(data)>>8), byte(len(data))}
	return append(b, data...)
}

// The ClientHello of RFC 9001, appendix A.2, which RFC 9369 uses too: a CRYPTO
// frame.
const sampleFrame = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c" +
	"00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d00170018" +
	"0010000700050461" + "6c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1c" +
	"e15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001" +
	"003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e5157080" +
	"6048000ffff"

func TestTheSamplePacketsOfTheRFCs(t *testing.T) {
	id := unhex(t, "8394c8f03e515708")
	for _, tt := range []struct {
		name       string
		version    uint32
		begin, end string // of the protected packet that the RFC prints
	}{
		{"RFC 9001, A.2", quic1, "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11", "e221af44860018ab0856972e194cd934"},
		{"RFC 9369, A.2", quic2, "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485", "a18b2faa745b6fe189cf772a9f84cbfc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := seal(t, tt.version, id, 2, nil, unhex(t, sampleFrame))
			// The end is the authentication tag: with it, all of the packet agrees.
			if len(b) != 1200 || !bytes.HasPrefix(b, unhex(t, tt.begin)) || !bytes.HasSuffix(b, unhex(t, tt.end)) {
				t.Fatalf("the packet is not the RFC's: %x…%x", b[:32], b[len(b)-16:])
			}
			before := bytes.Clone(b)
			var p Parser
			got := p.Parse(&Beginning{Payload: b, Proto: protoUDP})
			want := Hint{App: AppQUIC, ServerName: "example.com", TLSALPN: "alpn", TLSJA4: got.TLSJA4, QUICVersion: tt.version}
			if got != want || !strings.HasPrefix(got.TLSJA4, "q13d0211an_") {
				t.Errorf("got %+v", got)
			}
			if !bytes.Equal(b, before) {
				t.Error("the payload was changed")
			}
		})
	}
}

// Chromium cuts its ClientHello up, shuffles the pieces, and needs two
// datagrams for them.
func TestQUICOfARealClient(t *testing.T) {
	first, second := fixture(t, "quic/chromium-1.bin"), fixture(t, "quic/chromium-2.bin")
	want := Hint{App: AppQUIC, ServerName: "quic.example", TLSALPN: "h3", TLSJA4: "q13d0312h3_55b375c5d22e_178839b6cec1", QUICVersion: quic1}
	var p Parser
	if got := p.Parse(&Beginning{Payload: append(bytes.Clone(first), second...), Proto: protoUDP}); got != want {
		t.Errorf("both datagrams:\n got %+v\nwant %+v", got, want)
	}
	if got := p.Parse(&Beginning{Payload: append(bytes.Clone(second), first...), Proto: protoUDP}); got != want {
		t.Errorf("both in the other order:\n got %+v\nwant %+v", got, want)
	}
	part := Hint{App: AppQUIC, QUICVersion: quic1, Flaw: FlawTruncated, FlawIn: AppQUIC}
	for _, b := range [][]byte{first, second, append(bytes.Clone(first), second[:700]...)} {
		if got := p.Parse(&Beginning{Payload: b, Proto: protoUDP, Cut: true}); got != part {
			t.Errorf("a part of them:\n got %+v\nwant %+v", got, part)
		}
	}
}

func TestQUICInitials(t *testing.T) {
	id := []byte("12345678")
	hello := helloOf("\x13\x01", sni("a.example"), alpn("h3"), ext(0x39, strings.Repeat("p", 600)))
	const ja4 = "q12d0103h3"
	name := Hint{App: AppQUIC, QUICVersion: quic1, ServerName: "a.example", TLSALPN: "h3"}
	cutHello := name
	cutHello.Flaw, cutHello.FlawIn = FlawTruncated, AppQUIC
	flaw := func(f Flaw) Hint { return Hint{App: AppQUIC, QUICVersion: quic1, Flaw: f, FlawIn: AppQUIC} }
	ack := "\x02\x00\x00\x00\x00"
	tests := []struct {
		name string
		in   []byte
		want Hint
	}{
		{"pieces in any order among other frames", seal(t, quic1, id, 0, nil,
			bytes.Join([][]byte{{1, 0, 0}, crypto(100, hello[100:]), []byte(ack), crypto(50, hello[50:101]), crypto(0, hello[:60])}, nil)), name},
		{"the same piece twice", seal(t, quic1, id, 9, nil, append(crypto(0, hello), crypto(0, hello)...)), name},
		{"with a token", seal(t, quic1, id, 1, []byte("token"), crypto(0, hello)), name},
		{"an acknowledgement with congestion counts", seal(t, quic1, id, 1, nil, append([]byte{3, 0, 0, 1, 0, 0, 0, 0, 0, 0}, crypto(0, hello)...)), name},
		{"two coalesced packets", append(seal(t, quic1, id, 0, nil, crypto(300, hello[300:]))[:1200:1200], seal(t, quic1, id, 1, nil, crypto(0, hello[:300]))...), name},
		{"zeros between the packets", append(append(seal(t, quic1, id, 0, nil, crypto(300, hello[300:])), 0, 0, 0), seal(t, quic1, id, 1, nil, crypto(0, hello[:300]))...), name},
		{"a hello of which the end comes later", seal(t, quic1, id, 0, nil, crypto(0, hello[:300])), cutHello},
		{"a hello of which the beginning comes later", seal(t, quic1, id, 0, nil, crypto(300, hello[300:])), flaw(FlawTruncated)},
		{"no hello", seal(t, quic1, id, 0, nil, []byte{1}), flaw(FlawTruncated)},
		{"another handshake message", seal(t, quic1, id, 0, nil, crypto(0, []byte("\x02abcdef"))), flaw(FlawMalformed)},
		{"a frame that may not be there", seal(t, quic1, id, 0, nil, []byte{0x08}), flaw(FlawMalformed)},
		{"a frame beyond the packet", seal(t, quic1, id, 0, nil, append(make([]byte, 1140), 6, 0, 0x7f, 0xff)), flaw(FlawMalformed)},
		{"more pieces than are looked at", seal(t, quic1, id, 0, nil, bytes.Repeat([]byte{6, 0, 0}, 65)), flaw(FlawOversized)},
		{"acknowledgement ranges without end", seal(t, quic1, id, 0, nil, []byte("\x02\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00")), flaw(FlawMalformed)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			got := p.Parse(&Beginning{Payload: tt.in, Proto: protoUDP})
			if whole := tt.want == name; whole != strings.HasPrefix(got.TLSJA4, ja4) {
				t.Errorf("fingerprint %q", got.TLSJA4)
			}
			got.TLSJA4 = ""
			if got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// long makes a long header with ids of 8 and 0 bytes.
func long(first byte, version uint32, rest string, size int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{first}, version)
	b = append(b, "\x0812345678\x00"+rest...)
	return append(b, make([]byte, max(0, size-len(b)))...)
}

func TestWhatIsAndIsNotQUIC(t *testing.T) {
	quic := func(v uint32) Hint { return Hint{App: AppQUIC, QUICVersion: v} }
	answer := func(v uint32) Hint { return Hint{App: AppQUIC, QUICVersion: v, Response: true} }
	broken := Hint{Flaw: FlawMalformed, FlawIn: AppQUIC}
	sealed := seal(t, quic1, []byte("12345678"), 0, nil, unhex(t, sampleFrame))
	forged := bytes.Clone(sealed)
	forged[600] ^= 1
	tests := []struct {
		name string
		in   []byte
		cut  bool
		want Hint
	}{
		{"an Initial that its own keys do not open is a server's", forged, false, answer(quic1)},
		{"an Initial that the capture cuts", sealed[:800], true, Hint{App: AppQUIC, QUICVersion: quic1, Flaw: FlawTruncated, FlawIn: AppQUIC}},
		{"an Initial that is longer than its datagram", sealed[:800], false, broken},
		{"an Initial of no length", long(0xc0, quic1, "\x00\x00", 1200), false, broken},
		{"a token beyond the datagram", long(0xc0, quic1, "\x7f\xff", 1200), false, broken},
		{"0-RTT", long(0xd0, quic1, "", 1200), false, quic(quic1)},
		{"a Handshake packet", long(0xe0, quic1, "", 100), false, quic(quic1)},
		{"a Retry", long(0xf0, quic1, "", 100), false, answer(quic1)},
		{"a Retry of version 2", long(0xc0, quic2, "", 100), false, answer(quic2)},
		{"a draft", long(0xc0, 0xff00001d, "", 1200), false, quic(0xff00001d)},
		{"Meta's", long(0xc0, 0xfaceb002, "", 1200), false, quic(0xfaceb002)},
		{"a reserved version", long(0xc0, 0x1a2a3a4a, "", 1200), false, quic(0x1a2a3a4a)},
		{"a reserved version in a short datagram", long(0xc0, 0x1a2a3a4a, "", 1199), false, Hint{}},
		{"an unknown version", long(0xc0, 0x12345678, "", 1200), false, Hint{}},
		{"the fixed bit cleared", long(0x80, quic1, "", 1200), false, Hint{}},
		{"a version negotiation", long(0x80, 0, "\x1a\x2a\x3a\x4a\x00\x00\x00\x01", 0), false, answer(0)},
		{"a version negotiation of no known version", long(0x80, 0, "\x1a\x2a\x3a\x4a", 0), false, Hint{}},
		{"a version negotiation of half a version", long(0x80, 0, "\x00\x00\x00\x01\x00", 0), false, Hint{}},
		{"a connection id of 21 bytes", append([]byte{0xc0, 0, 0, 0, 1, 21}, make([]byte, 1200)...), false, Hint{}},
		{"a connection id beyond the datagram", []byte{0xc0, 0, 0, 0, 1, 20, 1, 2}, false, Hint{}},
		{"a short header", bytes.Repeat([]byte{0x4a}, 100), false, Hint{}},
		{"RTP", []byte("\x80\x60\x12\x34\x00\x00\x00\xa0\xde\xad\xbe\xef"), false, Hint{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			if got := p.Parse(&Beginning{Payload: tt.in, Cut: tt.cut, Proto: protoUDP, SrcPort: 50000, DstPort: 443}); got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
			if got := p.Parse(&Beginning{Payload: tt.in, Proto: protoTCP}); got.App == AppQUIC {
				t.Errorf("over TCP: got %+v", got)
			}
		})
	}
}

func TestQUICVersionNames(t *testing.T) {
	for v, want := range map[uint32]string{0: "", quic1: "1", quic2: "2", 0xff00001d: "draft-29", 0x1a2a3a4a: "0x1a2a3a4a", 0x51303530: "0x51303530"} {
		if got := QUICVersionName(v); got != want {
			t.Errorf("%#x: got %s, want %s", v, got, want)
		}
	}
}
