package l7

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// needTshark skips where tshark is not installed. Continuous integration has it.
func needTshark(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// captures returns capture files beside the project's tree. They are too many
// and too much others' to be a part of it; the project must build without them.
func captures(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "shared", "data", "pcap", pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	if len(all) == 0 {
		t.Skip("no captures beside the project")
	}
	return all
}

// dissect returns tshark's values of fields, a row for each frame that filter
// lets through. Values of a field that occurs more than once are joined with
// commas.
func dissect(t *testing.T, file, filter string, fields ...string) [][]string {
	t.Helper()
	args := []string{"-n", "-o", "http.desegment_body:FALSE", "-r", file, "-Y", filter, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("tshark %s: %v\n%s", file, err, stderr.Bytes())
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		row := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(row) != len(fields) {
			t.Fatalf("tshark %s: %d columns in %q, want %d", file, len(row), line, len(fields))
		}
		rows = append(rows, row)
	}
	return rows
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func first(s string) string {
	s, _, _ = strings.Cut(s, ",")
	return s
}

// sameName compares a name with tshark's. That writes bytes which are not
// ASCII as it likes, so of a name with escapes the part behind the last of them
// is compared, and how long the name and how many its labels are.
func sameName(name, shown, length, labels string) bool {
	shown = strings.ToLower(shown)
	last := strings.LastIndexByte(name, '\\')
	if last < 0 {
		return name == strings.Replace(shown, "<root>", ".", 1)
	}
	n, dots := 0, 1
	for i := 0; i < len(name); i++ {
		n++
		switch {
		case name[i] == '.':
			dots++
		case name[i] == '\\' && '0' <= name[i+1] && name[i+1] <= '9':
			i += 3
		case name[i] == '\\':
			i++
		}
	}
	cut := len(name) > MaxName-4 // its beginning may be missing
	return strings.HasSuffix(shown, name[min(last+4, len(name)):]) && (cut || strconv.Itoa(n) == length && strconv.Itoa(dots) == labels)
}

func TestDNSAgreesWithTshark(t *testing.T) {
	needTshark(t)
	files := captures(t, "dns-tunnel/*/*.pcap", "ops/*dns*.pcapng", "ops/http*.pcapng", "ops/nowebaccess*.pcapng")
	compared, streams, escaped, wrong, flaws := 0, 0, 0, 0, map[Flaw]int{}
	var p Parser
	for _, file := range files {
		rows := dissect(t, file, "(udp || tcp.seq == 1) && !icmp && (dns || mdns || llmnr)", "frame.number", "udp.port", "tcp.port", "udp.payload",
			"dns.id", "dns.flags.response", "dns.flags.opcode", "dns.flags.rcode", "dns.qry.name", "dns.qry.type", "dns.count.answers",
			"dns.qry.name.len", "dns.count.labels", "tcp.payload")
		for _, row := range rows {
			b := Beginning{Proto: protoUDP}
			ports := row[1]
			if row[2] != "" {
				b.Proto, ports, row[3] = protoTCP, row[2], row[13]
				streams++
			}
			var err error
			if b.Payload, err = hex.DecodeString(row[3]); err != nil || row[8] == "" || row[6] != "0" {
				continue
			}
			from, to, _ := strings.Cut(ports, ",")
			b.SrcPort, b.DstPort = uint16(number(t, from)), uint16(number(t, to))
			if !dnsPort(b.SrcPort) && !dnsPort(b.DstPort) {
				continue
			}
			h := p.Parse(&b)
			check(t, h)
			flaws[h.Flaw]++
			compared++
			// A comma in a name is not the end of it, if it is the only one.
			same := sameName(h.ServerName, first(row[8]), first(row[11]), first(row[12])) || sameName(h.ServerName, row[8], row[11], row[12])
			if strings.Contains(h.ServerName, `\`) {
				escaped++
			}
			response := row[5] == "1" || row[5] == "True"
			var rcode, answers int64
			if response {
				rcode, answers = number(t, row[7]), number(t, row[10])
			}
			if h.App != AppDNS || !same || h.Response != response || int64(h.DNSID) != number(t, row[4]) ||
				int64(h.DNSType) != number(t, first(row[9])) || int64(h.DNSRcode) != rcode || int64(h.DNSAnswers) != answers {
				t.Errorf("%s, frame %s: got %+v, tshark %q", filepath.Base(file), row[0], h, row[4:])
				if wrong++; wrong > 9 {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d messages compared in %d files, %d of them over TCP, %d names with escapes, flaws %v", compared, len(files), streams, escaped, flaws)
	if compared < 1000 || streams == 0 {
		t.Errorf("only %d messages, %d over TCP", compared, streams)
	}
}

// side is what tshark tells of one side of a TCP conversation.
type side struct {
	begin     []byte // of its payload, in order
	next      int64  // relative sequence number after begin
	complete  bool   // begin is where the side began
	dissected []string
}

// streamFields are what a side is compared by; the first three say where it belongs.
var streamFields = []string{"tcp.stream", "tcp.srcport", "tcp.seq", "tcp.payload",
	"http.request.method", "http.host", "http.response.code", "tls.handshake.type",
	"tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str",
	"tls.handshake.version", "tls.handshake.extensions.supported_version", "tls.handshake.ciphersuite",
	"tls.handshake.extension.type", "tls.handshake.sig_hash_alg_len", "tls.handshake.sig_hash_alg"}

// sides gathers both sides of every TCP conversation.
func sides(t *testing.T, file string) map[string]*side {
	t.Helper()
	all := make(map[string]*side)
	for _, row := range dissect(t, file, "tcp.len > 0 && !icmp", streamFields...) {
		key := row[0] + "/" + row[1]
		s, seq := all[key], number(t, row[2])
		if s == nil {
			s = &side{next: seq, complete: seq == 1}
			all[key] = s
		}
		if payload, err := hex.DecodeString(row[3]); err == nil && seq == s.next && len(s.begin) < MaxPayload {
			s.begin = append(s.begin, payload...)
			s.next += int64(len(payload))
		}
		if s.dissected == nil && (row[4] != "" || row[6] != "" || slices.Contains([]string{"1", "2"}, first(row[7]))) {
			s.dissected = row
		}
	}
	return all
}

func TestStreamsAgreeWithTshark(t *testing.T) {
	needTshark(t)
	files := captures(t, "beacon/*.pcap", "ops/*.pcapng")
	compared := map[string]int{}
	for _, file := range files {
		for key, s := range sides(t, file) {
			if s.complete {
				compareSide(t, filepath.Base(file)+" stream "+key, s, compared)
			}
		}
	}
	t.Logf("compared %v in %d files", compared, len(files))
	for _, kind := range []string{"hello", "server hello", "request", "response", "nothing"} {
		if compared[kind] == 0 {
			t.Errorf("no %s was compared", kind)
		}
	}
}

func compareSide(t *testing.T, name string, s *side, compared map[string]int) {
	t.Helper()
	var p Parser
	h := p.Parse(&Beginning{Payload: s.begin, Proto: protoTCP})
	check(t, h)
	kind := "nothing"
	want := Hint{}
	if d := s.dissected; d != nil {
		switch {
		case first(d[7]) == "1":
			kind = "hello"
			want = Hint{App: AppTLS, ServerName: first(d[8]), TLSALPN: first(d[9])}
			want.TLSJA4 = ja4OfTshark(t, d, "t")
		case first(d[7]) == "2":
			kind = "server hello"
			want = Hint{App: AppTLS, Response: true}
		case d[4] != "":
			kind = "request"
			host, _, _ := strings.Cut(strings.ToLower(first(d[5])), ":")
			want = Hint{App: AppHTTP, HTTPMethod: first(d[4]), ServerName: host}
		default:
			kind = "response"
			want = Hint{App: AppHTTP, Response: true, HTTPStatus: uint16(number(t, first(d[6])))}
		}
	}
	compared[kind]++
	h.Flaw, h.FlawIn = FlawNone, AppNone
	if h != want {
		t.Errorf("%s, %s:\n   got %+v\ntshark %+v\n%.100q", name, kind, h, want, s.begin)
	}
}
