package main

import (
	"log/slog"
	"os"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// A frame that is not what its figure says would be cheap and mean nothing.
func TestFramesAreWhatTheirFiguresSay(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	d, err := flowbpf.Load(flowbpf.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, c := range map[string]struct {
		frame      []byte
		proto      uint8
		tunnel, id int
		vlan       uint16
	}{
		"tcp": {frame: hotTCP(), proto: 6}, "tcp6": {frame: hotTCP6(), proto: 6}, "udp": {frame: hotUDP(), proto: 17},
		"options": {frame: hotOptions(), proto: 6}, "qinq": {frame: hotQinQ(), proto: 6, vlan: 2},
		"vxlan": {frame: hotVXLAN(), proto: 6, tunnel: 1, id: 7}, "geneve": {frame: hotGeneve(), proto: 6, tunnel: 2, id: 7},
		"gre": {frame: hotGRE(), proto: 6, tunnel: 3, id: 7}, "ipip": {frame: hotIPIP(), proto: 6, tunnel: 4},
	} {
		if err := d.Run(&flowbpf.TestRun{Frame: c.frame}); err != nil {
			t.Fatal(err)
		}
		var got []flowbpf.Entry
		if _, err := d.Drain(func(e []flowbpf.Entry) { got = append(got, e...) }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 {
			t.Fatalf("%s: %d entries, want 1", name, len(got))
		}
		e := got[0]
		if e.APort != 12345 || e.BPort != 80 || e.Proto != c.proto || int(e.Tunnel) != c.tunnel || int(e.TunnelID) != c.id || e.VLAN != c.vlan {
			t.Errorf("%s makes %+v", name, e)
		}
		if len(c.frame) < 64 {
			t.Errorf("%s has %d bytes", name, len(c.frame))
		}
	}
}
