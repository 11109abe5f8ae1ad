package flowbpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dissected is what tshark and the kernel's parser both tell.
type dissected struct {
	src, dst     string
	sport, dport string
	proto        string
	tunnel       uint8
	id           string // empty where it is not compared
}

// Whatever the reference and the parsers have in common by mistake, tshark has
// not: it must see the same innermost addresses, ports and tunnel.
func TestParserAgreesWithTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	g, p := newGenerator(rand.Uint64()), newParser(t)
	g.noGeneric = true // tshark knows it at port 4790 alone
	var frames [][]byte
	var want []dissected
	tunnels := make(map[uint8]int)
	for len(frames) < 4000 {
		frame, ip := g.frame()
		if ip {
			continue
		}
		forgetFragments(t, p.objs.Fragments)
		got, ran := p.general(t, frame, false)
		if !ran || got.reason != 0 || got.sport == 0 || got.proto != protoTCP && got.proto != protoUDP {
			continue // what is in no flow, or not in the flow inside, is a matter of policy
		}
		tunnels[got.tunnel]++
		frames = append(frames, frame)
		want = append(want, got.dissected())
	}
	rows := dissect(t, frames)
	for i, row := range rows {
		// tshark reads nothing behind a mobility header, though RFC 7045 counts it
		// among the extension headers.
		if strings.Contains(row["frame.protocols"], "mipv6") {
			continue
		}
		got := row.flow(&want[i])
		if got != want[i] {
			t.Errorf("frame %x, %s:\ntshark %+v\nparser %+v", frames[i], row["frame.protocols"], got, want[i])
		}
		if t.Failed() && i > 20 {
			break
		}
	}
	for kind := range uint8(5) {
		if tunnels[kind] < 50 {
			t.Errorf("%d frames in tunnels of kind %d: they test too little", tunnels[kind], kind)
		}
	}
}

func (p *packet) dissected() dissected {
	d := dissected{
		src: p.src.String(), dst: p.dst.String(), proto: "udp", tunnel: p.tunnel,
		sport: strconv.Itoa(int(p.sport)), dport: strconv.Itoa(int(p.dport)),
	}
	if p.proto == protoTCP {
		d.proto = "tcp"
	}
	if p.tunnelID != 0 {
		d.id = fmt.Sprint(p.tunnelID)
	}
	return d
}

// row is what tshark says of a frame; of a field that occurs several times, the last.
type row map[string]string

// flow is the innermost flow; the id is compared where want has one.
func (r row) flow(want *dissected) dissected {
	layers := strings.Split(r["frame.protocols"], ":")
	innermost, family := -1, ""
	for i, layer := range layers {
		if layer == "ip" || layer == "ipv6" {
			innermost, family = i, layer
		}
	}
	d := dissected{src: r[family+".src"], dst: r[family+".dst"]}
	kinds := map[string]uint8{"vxlan": inVXLAN, "geneve": inGeneve, "gre": inGRE, "ip": inIPIP, "ipv6": inIPIP}
	for _, layer := range slices.Backward(layers[:max(innermost, 0)]) {
		if d.tunnel = kinds[layer]; d.tunnel != 0 {
			break
		}
	}
	for _, proto := range []string{"tcp", "udp"} {
		if slices.Contains(layers[innermost+1:], proto) {
			d.proto, d.sport, d.dport = proto, r[proto+".srcport"], r[proto+".dstport"]
		}
	}
	if want.id != "" {
		id, _ := strconv.ParseUint(r[map[uint8]string{inVXLAN: "vxlan.vni", inGeneve: "geneve.vni", inGRE: "gre.key"}[d.tunnel]], 0, 32)
		d.id = fmt.Sprint(id)
	}
	return d
}

func dissect(t *testing.T, frames [][]byte) []row {
	t.Helper()
	capture := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	capture = append(capture, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	for _, f := range frames {
		capture = append(capture, make([]byte, 8)...)
		capture = binary.LittleEndian.AppendUint32(capture, uint32(len(f)))
		capture = binary.LittleEndian.AppendUint32(capture, uint32(len(f)))
		capture = append(capture, f...)
	}
	file := filepath.Join(t.TempDir(), "frames.pcap")
	must(t, os.WriteFile(file, capture, 0o600))
	fields := []string{
		"frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
		"udp.srcport", "udp.dstport", "vxlan.vni", "geneve.vni", "gre.key",
	}
	args := []string{
		"-n", "-r", file, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
		"-d", "udp.port==8472,vxlan", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=l",
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.Bytes())
	}
	var rows []row
	for line := range strings.Lines(string(out)) {
		r := make(row)
		for i, v := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			r[fields[i]] = v
		}
		rows = append(rows, r)
	}
	if len(rows) != len(frames) {
		t.Fatalf("tshark sees %d frames, want %d", len(rows), len(frames))
	}
	return rows
}
