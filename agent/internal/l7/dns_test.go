package l7

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// message builds a DNS message with one question: name in wire format.
func message(flags uint16, answers, additional uint16, name string, kind uint16) []byte {
	b := []byte{0x12, 0x34}
	for _, v := range []uint16{flags, 1, answers, 0, additional} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, kind)
	return append(b, 0, 1)
}

const aRecord = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"

func TestDNSMessages(t *testing.T) {
	label63 := "\x3f" + strings.Repeat("x", 63)
	long := label63 + label63 + label63 // 192 bytes
	binaryLabel := "\x3f" + strings.Repeat("\xff", 63)
	without := func(flags uint16) []byte { // no question
		b := message(flags, 0, 0, "", 0)[:12]
		b[5] = 0
		return b
	}
	tests := []struct {
		name string
		in   []byte
		cut  bool
		want Hint
	}{
		{"a question in lower case", message(0x0100, 0, 0, "\x03WWW\x07Example\x00", 1), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 1, ServerName: "www.example"}},
		{"an answer with its records", append(message(0x8180, 2, 0, "\x03www\x07example\x00", 1), aRecord+aRecord...), false,
			Hint{App: AppDNS, Response: true, DNSID: 0x1234, DNSType: 1, DNSAnswers: 2, ServerName: "www.example"}},
		{"an answer that the name does not exist", message(0x8183, 0, 0, "\x01x\x00", 28), false,
			Hint{App: AppDNS, Response: true, DNSID: 0x1234, DNSType: 28, DNSRcode: 3, ServerName: "x"}},
		{"a question's response code means nothing", message(0x0105, 7, 0, "\x01x\x00", 1), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 1, ServerName: "x"}},
		{"the root", message(0x0100, 0, 0, "\x00", 2), false, Hint{App: AppDNS, DNSID: 0x1234, DNSType: 2, ServerName: "."}},
		{"bytes that cannot be shown, dots and backslashes inside a label", message(0, 0, 0, "\x07a.b\\\x00 \xff\x01c\x00", 16), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 16, ServerName: `a\.b\\\000\032\255.c`}},
		{"the longest name, 253 characters", message(0, 0, 0, long+"\x3d"+strings.Repeat("y", 61)+"\x00", 1), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 1, ServerName: strings.Repeat(strings.Repeat("x", 63)+".", 3) + strings.Repeat("y", 61)}},
		{"a name of more than 255 bytes", message(0, 0, 0, long+"\x3e"+strings.Repeat("y", 62)+"\x00", 1), false,
			Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a name whose escaped form is too long keeps its end", message(0, 0, 0, binaryLabel+"\x05\xffabcd\x02ef\x00", 1), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 1, ServerName: strings.Repeat(`\255`, 60) + `.\255abcd.ef`, Flaw: FlawOversized, FlawIn: AppDNS}},
		{"a pointer to itself", message(0, 0, 0, "\xc0\x0c", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a pointer that makes a loop", message(0, 0, 0, "\x01a\xc0\x0c", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a pointer forward", message(0, 0, 0, "\xc0\x20", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a pointer into the header", message(0, 0, 0, "\xc0\x04", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a label type that was never used", message(0, 0, 0, "\x41a\x00", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a name without end", message(0, 0, 0, "\x03www", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"a name without end in a datagram that goes on", message(0, 0, 0, "\x03www", 1), true, Hint{Flaw: FlawTruncated, FlawIn: AppDNS}},
		{"less than a header", []byte{1, 2, 3}, false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"an opcode that does not exist", message(0x7800, 0, 0, "\x01x\x00", 1), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"more answers than there is room for", append(message(0x8180, 65535, 0, "\x01x\x00", 1), aRecord...), false,
			Hint{App: AppDNS, Response: true, DNSID: 0x1234, DNSType: 1, DNSAnswers: 1, ServerName: "x", Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"many answers of which the capture has some", append(message(0x8180, 400, 0, "\x01x\x00", 1), aRecord...), true,
			Hint{App: AppDNS, Response: true, DNSID: 0x1234, DNSType: 1, DNSAnswers: 400, ServerName: "x"}},
		{"an update's second section is not answers", message(0xa800, 5, 0, "\x01x\x00", 6), false,
			Hint{App: AppDNS, Response: true, DNSID: 0x1234, DNSType: 6, ServerName: "x"}},
		{"an mDNS announcement has no question", append(without(0x8400), 0), false, Hint{App: AppDNS, Response: true, DNSID: 0x1234}},
		{"a query that asks nothing", without(0x0100), false, Hint{Flaw: FlawMalformed, FlawIn: AppDNS}},
		{"an mDNS question for an answer by unicast", append(message(0, 0, 0, "\x01x\x05local\x00", 12)[:21], 0x00, 0x0c, 0x80, 0x01), false,
			Hint{App: AppDNS, DNSID: 0x1234, DNSType: 12, ServerName: "x.local"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			if got := p.Parse(&Beginning{Payload: tt.in, Cut: tt.cut, Proto: protoUDP, SrcPort: 40000, DstPort: 53}); got != tt.want {
				t.Errorf("over UDP:\n got %+v\nwant %+v", got, tt.want)
			}
			length := len(tt.in)
			if tt.cut {
				length += 100
			}
			stream := append(binary.BigEndian.AppendUint16(nil, uint16(length)), tt.in...)
			if got := p.Parse(&Beginning{Payload: stream, Proto: protoTCP, SrcPort: 53, DstPort: 40000}); got != tt.want {
				t.Errorf("over TCP:\n got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDNSOverTCPTakesTheFirstOfSeveralMessages(t *testing.T) {
	one := message(0, 0, 0, "\x03one\x00", 1)
	two := message(0, 0, 0, "\x03two\x00", 28)
	var stream []byte
	for _, m := range [][]byte{one, two} {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(m))), m...)
	}
	var p Parser
	got := p.Parse(&Beginning{Payload: stream, Proto: protoTCP, DstPort: 53})
	if got.ServerName != "one" || got.DNSType != 1 || got.Flaw != FlawNone {
		t.Errorf("got %+v", got)
	}
	for n := range 2 + len(one) {
		got := p.Parse(&Beginning{Payload: stream[:n], Proto: protoTCP, DstPort: 53})
		// The message stands after its name, type and class, which are its last bytes.
		if n > 0 && (got.App != AppNone || got.Flaw != FlawTruncated || got.FlawIn != AppDNS) {
			t.Errorf("the first %d bytes: got %+v", n, got)
		}
	}
}

func TestDNSIsLookedForOnItsPortsOnly(t *testing.T) {
	m := message(0x0100, 0, 0, "\x03www\x07example\x00", 1)
	for port, want := range map[uint16]App{53: AppDNS, 5353: AppDNS, 5355: AppDNS, 5300: AppNone, 0: AppNone} {
		var p Parser
		if got := p.Parse(&Beginning{Payload: m, Proto: protoUDP, SrcPort: 40000, DstPort: port}).App; got != want {
			t.Errorf("port %d: got %s, want %s", port, got, want)
		}
	}
}

func TestOtherProtocolsOnDNSPortsAreFound(t *testing.T) {
	var p Parser
	hello := fixture(t, "hello/curl.bin")
	if got := p.Parse(&Beginning{Payload: hello, Proto: protoTCP, DstPort: 53}); got.App != AppTLS || got.ServerName != "curl.example" || got.Flaw != FlawNone {
		t.Errorf("TLS on port 53: got %+v", got)
	}
	if got := p.Parse(&Beginning{Payload: fixture(t, "http/curl.bin"), Proto: protoTCP, DstPort: 53}); got.App != AppHTTP || got.Flaw != FlawNone {
		t.Errorf("HTTP on port 53: got %+v", got)
	}
	if got := p.Parse(&Beginning{Payload: bytes.Repeat([]byte{0xff}, 400), Proto: protoUDP, DstPort: 53}); got.App != AppNone || got.FlawIn != AppDNS || got.Flaw != FlawMalformed {
		t.Errorf("rubbish on port 53: got %+v", got)
	}
}

func TestDNSNames(t *testing.T) {
	for kind, want := range map[uint16]string{1: "A", 28: "AAAA", 65: "HTTPS", 255: "ANY", 257: "CAA", 0: "TYPE0", 54: "TYPE54", 65280: "TYPE65280", 65535: "TYPE65535"} {
		if got := DNSTypeName(kind); got != want {
			t.Errorf("type %d: got %s, want %s", kind, got, want)
		}
	}
	for code, want := range map[uint8]string{0: "NOERROR", 3: "NXDOMAIN", 11: "DSOTYPENI", 12: "RCODE12", 15: "RCODE15"} {
		if got := DNSRcodeName(code); got != want {
			t.Errorf("code %d: got %s, want %s", code, got, want)
		}
	}
}
