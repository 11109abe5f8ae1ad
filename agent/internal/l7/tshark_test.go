package l7

import (
	"bytes"
	"cmp"
	"encoding/binary"
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
			want.TLSJA4 = ja4OfTshark(t, d, 't')
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

// ja4OfTshark makes the fingerprint out of what tshark dissected, the slow way.
func ja4OfTshark(t *testing.T, row []string, transport byte) string {
	t.Helper()
	read := func(s string) (all, real []uint16) {
		for v := range strings.SplitSeq(s, ",") {
			if v != "" {
				n := uint16(number(t, v))
				if all = append(all, n); !slices.Contains(reserved, n) {
					real = append(real, n)
				}
			}
		}
		return all, real
	}
	_, ciphers := read(row[12])
	all, extensions := read(row[13])
	// Lists of algorithms are in several extensions; which one is whose tells
	// the order of the extensions.
	lengths, _ := read(row[14])
	algorithms, _ := read(row[15])
	var signatures []uint16
	for _, e := range all {
		if e != 13 && e != 34 && e != 50 {
			continue
		}
		n := int(lengths[0] / 2)
		if e == 13 {
			_, signatures = read(strings.Join(strings.Split(row[15], ",")[len(strings.Split(row[15], ","))-len(algorithms):][:n], ","))
		}
		lengths, algorithms = lengths[1:], algorithms[n:]
	}
	_, versions := read(row[11])
	if row[11] == "" {
		_, versions = read(first(row[10]))
	}
	version, ok := map[uint16]string{0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3"}[slices.Max(versions)]
	if !ok {
		version = "00"
	}
	name := "i"
	if slices.Contains(extensions, 0) {
		name = "d"
	}
	protocol := "00"
	if a := first(row[9]); a != "" {
		protocol = a[:1] + a[len(a)-1:]
	}
	count := func(l []uint16) string { return strconv.Itoa(100 + min(len(l), 99))[1:] }
	print := func(l []uint16, sorted bool) string {
		var s []string
		for _, v := range l {
			s = append(s, strconv.FormatInt(0x10000+int64(v), 16)[1:])
		}
		if sorted {
			slices.SortFunc(s, cmp.Compare)
		}
		return strings.Join(s, ",")
	}
	counted := count(extensions)
	extensions = slices.DeleteFunc(extensions, func(e uint16) bool { return e == 0 || e == 16 })
	tail := print(extensions, true)
	if len(signatures) > 0 {
		tail += "_" + print(signatures, false)
	}
	return string(transport) + version + name + count(ciphers) + counted + protocol +
		"_" + string(appendHash(nil, []byte(print(ciphers, true)))) + "_" + string(appendHash(nil, []byte(tail)))
}

// reserved is RFC 8701's list.
var reserved = []uint16{0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a, 0x4a4a, 0x5a5a, 0x6a6a, 0x7a7a, 0x8a8a, 0x9a9a, 0xaaaa, 0xbaba, 0xcaca, 0xdada, 0xeaea, 0xfafa}

// packets writes payloads as packets of IPv4 into a capture file.
func packets(t *testing.T, proto uint8, port uint16, payloads ...[]byte) string {
	t.Helper()
	order := binary.LittleEndian
	file := order.AppendUint32(nil, 0xa1b2c3d4)
	file = order.AppendUint16(order.AppendUint16(file, 2), 4)
	for _, v := range []uint32{0, 0, 1 << 16, 101} { // raw IP
		file = order.AppendUint32(file, v)
	}
	seq := uint32(1)
	for i, payload := range payloads {
		head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, 40000), port)
		if proto == protoTCP {
			head = binary.BigEndian.AppendUint32(head, seq)
			head = append(head, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
			seq += uint32(len(payload))
		} else {
			head = append(binary.BigEndian.AppendUint16(head, uint16(8+len(payload))), 0, 0)
		}
		total := 20 + len(head) + len(payload)
		ip := append([]byte{0x45, 0, byte(total >> 8), byte(total), 0, 0, 0, 0, 64, proto, 0, 0}, 192, 0, 2, 1, 192, 0, 2, 2)
		for _, v := range []uint32{1, uint32(i), uint32(total), uint32(total)} {
			file = order.AppendUint32(file, v)
		}
		file = append(append(append(file, ip...), head...), payload...)
	}
	name := filepath.Join(t.TempDir(), "packets.pcap")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestHellosAgreeWithTshark(t *testing.T) {
	needTshark(t)
	for _, tt := range hellos {
		rows := dissect(t, packets(t, protoTCP, 443, fixture(t, "hello/"+tt.file+".bin")), "tls.handshake.type == 1", streamFields...)
		if len(rows) != 1 {
			t.Fatalf("%s: tshark sees %d hellos", tt.file, len(rows))
		}
		if got := ja4OfTshark(t, rows[0], 't'); got != tt.ja4 || rows[0][8] != strings.ReplaceAll(tt.name, "www.example.com", "www.Example.com") || first(rows[0][9]) != tt.alpn {
			t.Errorf("%s: tshark says %s %s %s, want %s %s %s", tt.file, got, rows[0][8], rows[0][9], tt.ja4, tt.name, tt.alpn)
		}
	}
}

func TestQUICAgreesWithTshark(t *testing.T) {
	needTshark(t)
	fields := slices.Clone(streamFields)
	for i, f := range fields {
		fields[i] = strings.Replace(f, "tcp.", "udp.", 1)
	}
	fields[2], fields[3] = "quic.version", "udp.length"
	b := [][]byte{fixture(t, "quic/chromium-1.bin"), fixture(t, "quic/chromium-2.bin")}
	rows := dissect(t, packets(t, protoUDP, 443, b...), "tls.handshake.type == 1", fields...)
	if len(rows) != 1 {
		t.Fatalf("tshark sees %d hellos", len(rows))
	}
	var p Parser
	h := p.Parse(&Beginning{Payload: slices.Concat(b...), Proto: protoUDP})
	if got := ja4OfTshark(t, rows[0], 'q'); got != h.TLSJA4 || rows[0][8] != h.ServerName || first(rows[0][9]) != h.TLSALPN || number(t, first(rows[0][2])) != int64(h.QUICVersion) {
		t.Errorf("tshark says %s %q, got %+v", got, rows[0], h)
	}
}
