package l7

import (
	"bytes"
	"testing"
)

// BenchmarkHint measures what one beginning costs, by kind.
func BenchmarkHint(b *testing.B) {
	chromium := append(bytes.Clone(fixture(b, "quic/chromium-1.bin")), fixture(b, "quic/chromium-2.bin")...)
	for _, bm := range []struct {
		name string
		in   Beginning
	}{
		{"dns_query", Beginning{Payload: message(0x0100, 0, 0, "\x03www\x07example\x03com\x00", 1), Proto: protoUDP, DstPort: 53}},
		{"dns_answer", Beginning{Payload: append(message(0x8180, 2, 0, "\x03www\x07example\x03com\x00", 1), aRecord+aRecord...), Proto: protoUDP, SrcPort: 53}},
		{"tls_hello_openssl", Beginning{Payload: fixture(b, "hello/openssl.bin"), Proto: protoTCP}},
		{"tls_hello_chromium", Beginning{Payload: fixture(b, "hello/chromium.bin"), Proto: protoTCP}},
		{"tls_server_hello", Beginning{Payload: []byte("\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"), Proto: protoTCP}},
		{"http_request", Beginning{Payload: fixture(b, "http/curl.bin"), Proto: protoTCP}},
		{"http_response", Beginning{Payload: []byte("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"), Proto: protoTCP}},
		{"quic_sample", Beginning{Payload: seal(b, quic1, []byte("12345678"), 0, nil, unhex(b, sampleFrame)), Proto: protoUDP}},
		{"quic_chromium", Beginning{Payload: chromium, Proto: protoUDP}},
		{"none", Beginning{Payload: []byte("SSH-2.0-OpenSSH_9.2p1\r\n"), Proto: protoTCP}},
		{"none_on_port_53", Beginning{Payload: bytes.Repeat([]byte{0xff}, 400), Proto: protoUDP, DstPort: 53}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var p Parser
			b.ReportAllocs()
			for b.Loop() {
				p.Parse(&bm.in)
			}
		})
	}
}
