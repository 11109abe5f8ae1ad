package l7

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hellos are beginnings that real clients sent over loopback. The fingerprints
// are those of FoxIO's own implementation (ja4.py of 2026-06-19, with tshark
// 4.0), but for Go's: that one takes signature_algorithms_cert in as well, which
// FoxIO calls a bug (issue 41 of its repository); there it is the value that is
// commonly published for Go's net/http.
var hellos = []struct{ file, name, alpn, ja4 string }{
	{"chromium", "chromium.example", "h2", "t13d1517h2_8daaf6152771_cb7bf5808d99"},
	{"curl", "curl.example", "h2", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"},
	{"go", "go.example", "h2", "t13d1312h2_f57a46bbacb6_ab7e3b40a677"},
	{"openssl", "www.example.com", "h2", "t13d3111h2_e8f1e7e78f70_1f22a2ca17c4"},
	{"openssl-tls12", "", "", "t12i280600_d943125447b4_e7e480e5a997"},
	{"openssl-tls10", "old.example", "", "t10d230600_44099cda8a52_195413a0cc0f"},
}

func TestHellosOfRealClients(t *testing.T) {
	for _, tt := range hellos {
		t.Run(tt.file, func(t *testing.T) {
			want := Hint{App: AppTLS, ServerName: tt.name, TLSALPN: tt.alpn, TLSJA4: tt.ja4}
			b := fixture(t, "hello/"+tt.file+".bin")
			var p Parser
			if got := p.Parse(&Beginning{Payload: b, Proto: protoTCP}); got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			if got := p.Parse(&Beginning{Payload: append(b, b...)[:len(b)+9], Proto: protoTCP}); got != want {
				t.Errorf("with more bytes behind:\n got %+v\nwant %+v", got, want)
			}
			if got := p.Parse(&Beginning{Payload: records(b, 100), Proto: protoTCP}); len(b) < 1500 && got != want {
				t.Errorf("in records of 100 bytes:\n got %+v\nwant %+v", got, want)
			}
		})
	}
}

// records cuts a record into several.
func records(b []byte, size int) []byte {
	var out []byte
	for body := b[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, b[0], b[1], b[2], byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

func TestATruncatedHelloHasNoFingerprint(t *testing.T) {
	for _, tt := range hellos {
		b := fixture(t, "hello/"+tt.file+".bin")
		var p Parser
		for n := 3; n < len(b); n++ {
			got := p.Parse(&Beginning{Payload: b[:n], Proto: protoTCP})
			if got.TLSJA4 != "" || got.Flaw != FlawTruncated || got.FlawIn != AppTLS {
				t.Fatalf("%s, the first %d bytes: got %+v", tt.file, n, got)
			}
			if got.ServerName != "" && got.ServerName != tt.name || got.TLSALPN != "" && got.TLSALPN != tt.alpn {
				t.Fatalf("%s, the first %d bytes: half a name: %+v", tt.file, n, got)
			}
		}
	}
}

// ext makes an extension.
func ext(kind uint16, data string) string {
	b := binary.BigEndian.AppendUint16(nil, kind)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(data)))) + data
}

// list puts a length of 16 bits before data.
func list(data string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(data)))) + data
}

func sni(name string) string { return ext(extServerName, list("\x00"+list(name))) }

func alpn(names ...string) string {
	var s string
	for _, n := range names {
		s += string([]byte{byte(len(n))}) + n
	}
	return ext(extALPN, list(s))
}

// helloOf makes a handshake message.
func helloOf(ciphers string, extensions ...string) []byte {
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + list(ciphers) + "\x01\x00"
	if extensions != nil {
		body += list(strings.Join(extensions, ""))
	}
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func record(handshake []byte) []byte {
	return append(append([]byte{22, 3, 1}, byte(len(handshake)>>8), byte(len(handshake))), handshake...)
}

func TestHellosOfOddClients(t *testing.T) {
	const suites = "\x13\x01\x13\x02"
	tests := []struct {
		name string
		in   []byte
		sni  string
		alpn string
		ja4a string // the first part of the fingerprint, "" for none
		flaw Flaw
	}{
		{"no extensions at all", helloOf(suites), "", "", "t12i020000", FlawNone},
		{"an empty list of extensions", helloOf(suites, ""), "", "", "t12i020000", FlawNone},
		{"an upper-case name with a dot at its end", helloOf(suites, sni("WWW.Example.")), "www.example", "", "t12d020100", FlawNone},
		{"a name with a space", helloOf(suites, sni("a b")), "", "", "t12d020100", FlawName},
		{"a name with a line feed", helloOf(suites, sni("a\nb")), "", "", "t12d020100", FlawName},
		{"a name in UTF-8", helloOf(suites, sni("bücher.example")), "", "", "t12d020100", FlawName},
		{"a name with an empty label", helloOf(suites, sni("a..b")), "", "", "t12d020100", FlawName},
		{"a name with a label of 64 bytes", helloOf(suites, sni(strings.Repeat("a", 64))), "", "", "t12d020100", FlawName},
		{"a name of 254 bytes", helloOf(suites, sni(strings.Repeat("a.", 126)+"ab")), "", "", "t12d020100", FlawName},
		{"an empty name", helloOf(suites, sni("")), "", "", "t12d020100", FlawName},
		{"an IPv4 address for a name", helloOf(suites, sni("192.0.2.1")), "192.0.2.1", "", "t12d020100", FlawNone},
		{"a list of names that lies about its length", helloOf(suites, ext(extServerName, "\x00\xff\x00\x00\x01a")), "", "", "", FlawMalformed},
		{"two lists of names", helloOf(suites, sni("first.example"), sni("second.example")), "first.example", "", "", FlawMalformed},
		{"a protocol with bytes that cannot be shown", helloOf(suites, alpn("h\x00\\")), "", `h\000\\`, "t12i02016c", FlawNone},
		{"a protocol of one letter", helloOf(suites, alpn("h")), "", "h", "t12i0201hh", FlawNone},
		{"a protocol list without protocols", helloOf(suites, alpn()), "", "", "t12i020100", FlawNone},
		{"a reserved protocol before a real one", helloOf(suites, alpn("\x5a\x5a", "h2")), "", "h2", "t12i0201h2", FlawNone},
		{"a protocol that is longer than its list", helloOf(suites, ext(extALPN, "\x00\x02\x05h")), "", "", "", FlawMalformed},
		{"a protocol whose escaped form is too long keeps its end", helloOf(suites, alpn(strings.Repeat("\xff", 200))), "", strings.Repeat(`\255`, 63), "t12i0201ff", FlawOversized},
		{"versions in any order with reserved ones", helloOf(suites, ext(extSupportedVersions, "\x08\x03\x01\xfa\xfa\x03\x04\x03\x03")), "", "", "t13i020100", FlawNone},
		{"a version that does not exist", helloOf(suites, ext(extSupportedVersions, "\x02\x7f\x1c")), "", "", "t00i020100", FlawNone},
		{"reserved code points everywhere", helloOf("\x1a\x1a"+suites, ext(0x2a2a, ""), ext(extSignatureAlgorithms, "\x00\x04\x04\x03\x3a\x3a"), ext(0xeaea, "\x00")), "", "", "t12i020100", FlawNone},
		{"a hundred cipher suites", helloOf(strings.Repeat("\x13\x01", 100)), "", "", "t12i990000", FlawNone},
		{"no cipher suites", helloOf(""), "", "", "", FlawMalformed},
		{"half a cipher suite", helloOf("\x13\x01\x13"), "", "", "", FlawMalformed},
		{"an extension beyond the list of extensions", helloOf(suites, "\x00\x05\x00\x10ab"), "", "", "", FlawMalformed},
		{"a length of 16 MiB", []byte{1, 0xff, 0xff, 0xff, 3, 3}, "", "", "", FlawOversized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			got := p.Parse(&Beginning{Payload: record(tt.in), Proto: protoTCP})
			ja4a, _, _ := strings.Cut(got.TLSJA4, "_")
			if got.App != AppTLS || got.Response || got.ServerName != tt.sni || got.TLSALPN != tt.alpn || ja4a != tt.ja4a || got.Flaw != tt.flaw {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestWhatIsAndIsNotTLS(t *testing.T) {
	tests := []struct {
		name, in string
		want     Hint
	}{
		{"a ServerHello", "\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", Hint{App: AppTLS, Response: true}},
		{"an alert", "\x15\x03\x03\x00\x02\x02\x28", Hint{App: AppTLS, Response: true}},
		{"a record of no TLS version", "\x16\x02\x00\x00\x7a\x01\x00\x00\x76\x03\x03", Hint{}},
		{"another handshake message", "\x16\x03\x03\x00\x7a\x0b\x00\x00\x76\x03\x03", Hint{}},
		{"a record that is cut before its type", "\x16\x03\x01", Hint{Flaw: FlawTruncated, FlawIn: AppTLS}},
		{"a record of no length", "\x16\x03\x01\x00\x00\x01\x16\x03\x01", Hint{App: AppTLS, Flaw: FlawMalformed, FlawIn: AppTLS}},
		{"a record of 65,535 bytes", "\x16\x03\x01\xff\xff\x01\x00\x00\x00", Hint{App: AppTLS, Flaw: FlawOversized, FlawIn: AppTLS}},
		{"a hello that another record interrupts", "\x16\x03\x01\x00\x04\x01\x00\x01\x00\x17\x03\x01\x00\x04abcd", Hint{App: AppTLS, Flaw: FlawMalformed, FlawIn: AppTLS}},
		{"SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", Hint{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			if got := p.Parse(&Beginning{Payload: []byte(tt.in), Proto: protoTCP}); got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
			if got := p.Parse(&Beginning{Payload: []byte(tt.in), Proto: protoUDP}); got != (Hint{}) {
				t.Errorf("over UDP: got %+v", got)
			}
		})
	}
}
