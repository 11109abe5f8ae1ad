package app_test

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

// A sender may cut its stream into segments and records wherever it likes. To cut
// the name in two is how filters that look for it are evaded.
func TestBeginningsInPiecesTellWhatWholeOnesDo(t *testing.T) {
	needPrivileges(t)
	hello := clientHello(t, "cut.example")
	request := []byte("GET / HTTP/1.1\r\nHost: cut.example\r\n\r\n")
	inRecords := func(sizes ...int) (records [][]byte) {
		rest := hello[5:]
		for _, n := range append(sizes, len(rest)) {
			n = min(n, len(rest))
			records = append(records, slices.Concat([]byte{22, 3, 1, byte(n >> 8), byte(n)}, rest[:n]))
			rest = rest[n:]
		}
		return records
	}
	var packets []ct.Packet
	ports := map[uint16]string{}
	add := func(name string, segments ...[]byte) {
		port := uint16(40000 + len(ports))
		ports[port] = name
		packets = append(packets, streamOf(port, int64(len(packets)), segments)...)
	}
	for _, n := range []int{1, 2, 5, 6, 8, 9, 100} {
		add("a ClientHello", hello[:n], hello[n:])
	}
	add("a ClientHello", slices.Collect(slices.Chunk(hello, 40))...)
	add("a ClientHello in records, a segment for each", inRecords(64, 64)...)
	add("a ClientHello in a short record and the rest", inRecords(1)...)
	for _, n := range []int{1, 3, 4, 8, 16, 25} {
		add("a request", request[:n], request[n:])
	}
	add("a request", slices.Collect(slices.Chunk(request, 1))...)
	add("a request", []byte("PROPFIND / HTTP/1.1\r\nHost: cut.example\r\n\r\n"))

	path := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(path, ct.PCAP(binary.LittleEndian, ct.Micro, 1, packets...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := execute(t, "replay", "--json", path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var r struct {
			Port       uint16 `json:"src_port"`
			ServerName string `json:"server_name"`
			JA4        string `json:"tls_ja4"`
			Method     string `json:"http_method"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.ServerName == "cut.example" && (r.JA4 != "" || r.Method != "") {
			delete(ports, r.Port)
		}
	}
	for port, name := range ports {
		t.Errorf("port %d: %s in pieces tells nothing", port, name)
	}
}

// streamOf is a connection from port whose client sends these segments, the first
// packet nth of the capture.
func streamOf(port uint16, nth int64, segments [][]byte) (packets []ct.Packet) {
	client, server := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	add := func(from, to netip.Addr, s ct.Segment) {
		packets = append(packets, ct.Packet{
			TimeNS: 1e18 + (nth+int64(len(packets)))*1e6, Data: ct.Ether(ct.EtherIP4, ct.IP4{Src: from, Dst: to, Proto: ct.TCP}.With(s.Bytes())),
		})
	}
	seq := uint32(1000)
	add(client, server, ct.Segment{Sport: port, Dport: 4430, Flags: ct.SYN, Seq: seq, Window: 1000})
	add(server, client, ct.Segment{Sport: 4430, Dport: port, Flags: ct.SYN | ct.ACK, Seq: 7, Ack: seq + 1, Window: 1000})
	seq++
	for _, s := range segments {
		add(client, server, ct.Segment{Sport: port, Dport: 4430, Flags: ct.ACK | ct.PSH, Seq: seq, Ack: 8, Window: 1000, Payload: s})
		seq += uint32(len(s))
	}
	return packets
}

// clientHello is what Go's client begins with.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: name}).Handshake() // ends with the pipe
		_ = near.Close()
	}()
	b := make([]byte, 4096)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
