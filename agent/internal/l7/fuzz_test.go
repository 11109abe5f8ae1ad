package l7

import (
	"bytes"
	"path/filepath"
	"testing"
)

// seeds adds the recorded beginnings in a folder of testdata.
func seeds(f *testing.F, folder string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.bin"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds in %s: %v", folder, err)
	}
	for _, file := range files {
		rel, _ := filepath.Rel("testdata", file)
		f.Add(fixture(f, rel))
	}
}

// check holds a hint to what its documentation promises whatever the input.
func check(t *testing.T, h Hint) {
	t.Helper()
	for _, s := range []string{h.ServerName, h.TLSALPN, h.TLSJA4, h.HTTPMethod} {
		if len(s) > MaxName {
			t.Errorf("%d bytes: %q", len(s), s)
		}
		for _, c := range []byte(s) {
			if c <= ' ' || c >= 0x7f {
				t.Errorf("byte %#x in %q", c, s)
			}
		}
	}
	if h.App > AppQUIC || h.FlawIn > AppQUIC || h.Flaw >= Flaws || (h.Flaw == FlawNone) != (h.FlawIn == AppNone) {
		t.Errorf("enumerations: %+v", h)
	}
	if h.App == AppNone && (h.ServerName != "" || h.TLSJA4 != "" || h.Response) {
		t.Errorf("nothing was recognised, and yet: %+v", h)
	}
	if n := len(h.TLSJA4); n != 0 && n != 36 {
		t.Errorf("fingerprint %q", h.TLSJA4)
	}
}

// fuzz runs a beginning through a parser that has seen another before, and
// through a new one: they must agree, and leave the input alone.
func fuzz(f *testing.F, proto uint8, port uint16) {
	var used Parser
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		for _, cut := range []bool{false, true} {
			b := &Beginning{Payload: payload, Cut: cut, Proto: proto, DstPort: port}
			var fresh Parser
			h := fresh.Parse(b)
			check(t, h)
			if again := used.Parse(b); again != h {
				t.Errorf("a used parser says\n%+v, a new one\n%+v", again, h)
			}
			check(t, Pair(h, h).Hint)
		}
		if !bytes.Equal(payload, before) {
			t.Error("the payload was changed")
		}
		if n := cap(used.text) + cap(used.join) + cap(used.plain); n > 16*MaxPayload {
			t.Errorf("%d bytes of scratch", n)
		}
	})
}

func FuzzDNS(f *testing.F) {
	f.Add(message(0x0100, 0, 0, "\x03WWW\x07Example\x00", 1))
	f.Add(append(message(0x8180, 2, 0, "\x03www\x07example\x00", 1), aRecord+aRecord...))
	f.Add(message(0, 0, 0, "\x07a.b\\\x00 \xff\x01c\xc0\x0c", 16))
	fuzz(f, protoUDP, 53)
}

func FuzzDNSOverTCP(f *testing.F) {
	m := message(0x0100, 0, 0, "\x03WWW\x07Example\x00", 252)
	f.Add(append([]byte{0, byte(len(m))}, m...))
	fuzz(f, protoTCP, 53)
}

func FuzzTLS(f *testing.F) {
	seeds(f, "hello")
	f.Add(records(fixture(f, "hello/curl.bin"), 50))
	fuzz(f, protoTCP, 443)
}

func FuzzHTTP(f *testing.F) {
	seeds(f, "http")
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte("GET http://[::1]:80/ HTTP/1.1\r\nHost: x\r\n y\r\nHost: z\r\n\r\n"))
	fuzz(f, protoTCP, 80)
}

func FuzzQUIC(f *testing.F) {
	seeds(f, "quic")
	f.Add(long(0x80, 0, "\x1a\x2a\x3a\x4a\x00\x00\x00\x01", 0))
	f.Add(long(0xf0, quic1, "", 100))
	fuzz(f, protoUDP, 443)
}

// FuzzQUICPayload seals what it is given, since no mutation of a packet is
// authentic, and so none would get beyond the packet's protection.
func FuzzQUICPayload(f *testing.F) {
	f.Add(unhex(f, sampleFrame))
	f.Add(append(crypto(30, []byte("xyz")), 2, 0, 0, 0, 0, 1, 0x1c, 0))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 2000 {
			return
		}
		for _, version := range []uint32{quic1, quic2} {
			var p Parser
			h := p.Parse(&Beginning{Payload: seal(t, version, []byte("12345678"), 0, nil, payload), Proto: protoUDP})
			check(t, h)
			if h.App != AppQUIC || h.QUICVersion != version || h.Response {
				t.Errorf("got %+v", h)
			}
		}
	})
}

// FuzzHello reads any bytes as a handshake message: the record layer is in the
// way of mutations too.
func FuzzHello(f *testing.F) {
	for _, tt := range hellos {
		f.Add(fixture(f, "hello/"+tt.file+".bin")[5:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > maxRecord {
			return
		}
		var p Parser
		h := Hint{App: AppTLS}
		p.clientHello(&h, AppTLS, body, 't')
		check(t, h)
	})
}
