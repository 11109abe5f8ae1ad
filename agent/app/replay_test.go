package app_test

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

// writeCapture writes a capture of two UDP datagrams, the second cut to n bytes of the file.
func writeCapture(t *testing.T, cut int) string {
	t.Helper()
	needPrivileges(t)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	file := ct.PCAP(binary.LittleEndian, ct.Micro, 1,
		ct.Packet{TimeNS: 1e18, Data: ct.Ether(ct.EtherIP4, ct.IP4{Src: a, Dst: b, Proto: ct.UDP}.With(ct.Datagram(5353, 53, make([]byte, 20))))},
		ct.Packet{TimeNS: 1e18 + 2000, Data: ct.Ether(ct.EtherIP4, ct.IP4{Src: b, Dst: a, Proto: ct.UDP}.With(ct.Datagram(53, 5353, make([]byte, 60))))})
	path := filepath.Join(t.TempDir(), "dns.pcap")
	if err := os.WriteFile(path, file[:len(file)-cut], 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needPrivileges(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func TestReplayPrintsRecordsAndTotals(t *testing.T) {
	out, err := execute(t, "replay", "--json", writeCapture(t, 0))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(lines) != 2 {
		t.Fatalf("error %v and %d lines, want 2:\n%s", err, len(lines), out)
	}
	var record struct {
		SrcIP    string `json:"src_ip"`
		DstBytes int    `json:"dst_bytes"`
		End      string `json:"end"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &record); err != nil {
		t.Fatal(err)
	}
	if record.SrcIP != "192.0.2.1" || record.DstBytes != 102 || record.End != "2001-09-09T01:46:40.000002Z" {
		t.Errorf("record %s", lines[0])
	}
	if !strings.HasPrefix(lines[1], `{"totals":{"seen":{"packets":2,"bytes":164},"recorded":{"packets":2,"bytes":164}`) {
		t.Errorf("totals %s", lines[1])
	}
}

func TestReplayOfABrokenFileFailsAfterTheTotals(t *testing.T) {
	good := writeCapture(t, 0)
	broken := writeCapture(t, 1)
	const complaint = "dns.pcap: packet 2 (byte 102): the file ends inside a packet: 101 of 102 bytes are there"
	out, err := execute(t, "replay", "--json", broken, good)
	if err == nil || !strings.Contains(err.Error(), complaint) || !strings.Contains(out, `"seen":{"packets":1,`) || !strings.Contains(out, complaint) {
		t.Errorf("error %v, output\n%s", err, out)
	}
	out, err = execute(t, "replay", "--json", "--keep-going", broken, good)
	if err == nil || !strings.Contains(err.Error(), complaint) || !strings.Contains(out, `"seen":{"packets":3,`) {
		t.Errorf("with --keep-going: error %v, output\n%s", err, out)
	}
	if out, err = execute(t, "replay", "/nonexistent.pcap"); err == nil || err.Error() != "/nonexistent.pcap: no such file or directory" || out != "" {
		t.Errorf("a file that is not there: error %v, output %q", err, out)
	}
	if out, err = execute(t, "replay", good); err != nil || !strings.Contains(out, "192.0.2.1 5353") || !strings.Contains(out, "1 records of 1 conversations") {
		t.Errorf("as a table: error %v, output\n%s", err, out)
	}
}
