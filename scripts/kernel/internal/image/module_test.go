package image

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModulesLoadAfterWhatTheyNeed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "modules.builtin", []byte("kernel/net/ipv6/ipv6.ko\nkernel/lib/crc-t10dif.ko\n"))
	write(t, dir, "kernel/vxlan.ko", module("alias=x", "depends=udp_tunnel,ip6-udp-tunnel,ipv6"))
	write(t, dir, "kernel/udp_tunnel.ko", module("depends="))
	write(t, dir, "kernel/net/ip6_udp_tunnel.ko.gz", gzipped(t, module("depends=udp_tunnel,crc_t10dif")))
	write(t, dir, "kernel/bridge.ko", module("license=GPL", "depends=stp"))
	write(t, dir, "kernel/torn.ko", []byte("no ELF"))
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, ask, want, err string
	}{
		{"each once, each after what it needs", "vxlan udp_tunnel vxlan", "udp_tunnel ip6_udp_tunnel vxlan", ""},
		{"what is built in is left out", "ipv6", "", ""},
		{"what the kernel lacks is told, the rest is there", "netkit udp_tunnel", "udp_tunnel", "netkit: neither built in nor a module"},
		{"what a module needs and the kernel lacks is told", "bridge", "", "bridge needs stp: neither"},
		{"a torn module is told", "torn", "", "read module"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			modules, err := m.Resolve(strings.Fields(tt.ask)...)
			var names []string
			for _, m := range modules {
				names = append(names, m.Name)
				if !bytes.HasPrefix(m.ELF, []byte("\x7fELF")) {
					t.Errorf("%s is not unpacked", m.Name)
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("modules %q, want %q", got, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if strings.Contains(tt.err, "neither") && !errors.Is(err, ErrNoModule) {
				t.Errorf("%v is not ErrNoModule", err)
			}
		})
	}
}

func TestAFolderWithoutTheListOfBuiltinModulesIsRefused(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

func FuzzDepends(f *testing.F) {
	f.Add(module("depends=a,b"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if len(data) < 1<<16 {
			_, _ = depends(data)
		}
	})
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// module makes an ELF file with these fields in the section .modinfo.
func module(fields ...string) []byte {
	info := strings.Join(fields, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	const header, section = 64, 64
	table := header + len(info) + len(names)
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
	}
	put(uint16(1), uint16(62), uint32(1), uint64(0), uint64(0), uint64(table), uint32(0), uint16(header), uint16(0), uint16(0), uint16(section), uint16(3), uint16(2))
	b.WriteString(info + names)
	b.Write(make([]byte, section))
	put(uint32(1), uint32(1), uint64(0), uint64(0), uint64(header), uint64(len(info)), uint32(0), uint32(0), uint64(1), uint64(0))
	put(uint32(10), uint32(3), uint64(0), uint64(0), uint64(header+len(info)), uint64(len(names)), uint32(0), uint32(0), uint64(1), uint64(0))
	return b.Bytes()
}
