package l7

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ja4OfTshark makes the fingerprint out of a row of streamFields, in text: it
// shares nothing with Parser.ja4 but the truncated hash.
func ja4OfTshark(t *testing.T, row []string, transport string) string {
	t.Helper()
	ciphers, extensions := shownCodes(t, row[12]), shownCodes(t, row[13])
	// Several extensions have lists of signature algorithms; the order of the
	// extensions tells which list is whose.
	var signatures []string
	lengths, algorithms := strings.Split(row[14], ","), strings.Split(row[15], ",")
	for _, e := range extensions {
		switch e {
		case "000d", "0022", "0032":
			n := int(number(t, lengths[0])) / 2
			if e == "000d" {
				signatures = genuine(shownCodes(t, strings.Join(algorithms[:n], ",")))
			}
			lengths, algorithms = lengths[1:], algorithms[n:]
		}
	}
	versions := genuine(shownCodes(t, row[11]))
	if row[11] == "" {
		versions = shownCodes(t, first(row[10]))
	}
	version, ok := map[string]string{"0304": "13", "0303": "12", "0302": "11", "0301": "10", "0300": "s3"}[slices.Max(versions)]
	if !ok {
		version = "00"
	}
	name, protocol := "i", "00"
	if slices.Contains(extensions, "0000") {
		name = "d"
	}
	if a := first(row[9]); a != "" {
		protocol = a[:1] + a[len(a)-1:]
	}
	ciphers, extensions = genuine(ciphers), genuine(extensions)
	count := func(list []string) string { return strconv.Itoa(100 + min(len(list), 99))[1:] }
	a := transport + version + name + count(ciphers) + count(extensions) + protocol
	extensions = slices.DeleteFunc(extensions, func(e string) bool { return e == "0000" || e == "0010" })
	slices.Sort(ciphers)
	slices.Sort(extensions)
	c := strings.Join(extensions, ",")
	if len(signatures) > 0 {
		c += "_" + strings.Join(signatures, ",")
	}
	return a + "_" + string(appendHash(nil, []byte(strings.Join(ciphers, ",")))) + "_" + string(appendHash(nil, []byte(c)))
}

// shownCodes returns code points, which tshark shows in decimal or hexadecimal,
// as four hexadecimal digits.
func shownCodes(t *testing.T, shown string) []string {
	t.Helper()
	var list []string
	for s := range strings.SplitSeq(shown, ",") {
		if s != "" {
			list = append(list, strconv.FormatInt(0x10000+number(t, s), 16)[1:])
		}
	}
	return list
}

// genuine leaves out what RFC 8701 reserves.
func genuine(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s[:2] == s[2:] && s[1] == 'a' })
}

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
		if got := ja4OfTshark(t, rows[0], "t"); got != tt.ja4 || rows[0][8] != strings.ReplaceAll(tt.name, "www.example.com", "www.Example.com") || first(rows[0][9]) != tt.alpn {
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
	if got := ja4OfTshark(t, rows[0], "q"); got != h.TLSJA4 || rows[0][8] != h.ServerName || first(rows[0][9]) != h.TLSALPN || number(t, first(rows[0][2])) != int64(h.QUICVersion) {
		t.Errorf("tshark says %s %q, got %+v", got, rows[0], h)
	}
}
