package l7

import (
	"strconv"
	"strings"
	"testing"
)

// codes reads a list as the specification prints it.
func codes(t *testing.T, s string) []uint16 {
	t.Helper()
	var out []uint16
	for v := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(v, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, uint16(n))
	}
	return out
}

// The example of the specification (JA4.md, "Example", "Cipher hash",
// "Extension hash").
func TestJA4OfTheSpecification(t *testing.T) {
	extensions := codes(t, "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015")
	p := Parser{hello: clientHello{
		version:    0x0304,
		ciphers:    codes(t, "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"),
		extensions: extensions,
		signatures: codes(t, "0403,0804,0401,0503,0805,0501,0806,0601"),
		hasName:    true, hasALPN: true, alpn: []byte("h2"),
	}}
	if got, want := p.ja4('t'), "t13d1516h2_8daaf6152771_e5627efa2ab1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.hello.signatures = nil
	if got, want := p.ja4('q'), "q13d1516h2_8daaf6152771_6d807ffa2a79"; got != want {
		t.Errorf("without signature algorithms: got %s, want %s", got, want)
	}
	p.hello = clientHello{version: 0x0300, extensions: []uint16{extServerName, extALPN}}
	if got, want := p.ja4('t'), "ts3i000200_000000000000_000000000000"; got != want {
		t.Errorf("with empty lists: got %s, want %s", got, want)
	}
}

// The table of the specification's "ALPN Extension Value".
func TestJA4OfOddProtocols(t *testing.T) {
	for name, want := range map[string]string{
		"": "00", "h2": "h2", "http/1.1": "h1", "h": "hh", "\xab": "ab", "\x20": "20", "\xab\xcd": "ad", "\x20\x61": "21", "\x30\xab": "3b",
		"\x61\x20": "60", "\x30\x31\xab\xcd": "3d", "\x30\xab\xcd\x31": "01",
	} {
		if first, last := ja4ALPN([]byte(name)); string([]byte{first, last}) != want {
			t.Errorf("%q: got %c%c, want %s", name, first, last, want)
		}
	}
}

func TestGREASE(t *testing.T) {
	n := 0
	for v := range 1 << 16 {
		if grease(uint16(v)) {
			n++
		}
	}
	if n != 16 || !grease(0x0a0a) || !grease(0xfafa) || grease(0x0a1a) || grease(0x0b0b) {
		t.Errorf("%d values are reserved, want 16", n)
	}
}
