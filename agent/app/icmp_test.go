package app_test

import (
	"net"
	"os"
	"testing"

	"github.com/ebbwatch/ebbwatch"
)

func TestPingsAreTheRequestersInEachInterval(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	peer.run(func() error { return address("w1", 1, 3) })
	// The answers are the test's, so that it says when they come.
	peer.run(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0) })
	r := runAgent(t, nil)
	r.watches(1)
	message := func(from, to string, typ byte) error {
		c, err := net.DialIP("ip4:icmp", &net.IPAddr{IP: net.ParseIP(from)}, &net.IPAddr{IP: net.ParseIP(to)})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte{typ, 0, 0xff - typ, 0xff, 0, 0, 0, 0}) // with its checksum
		return err
	}
	if err := message("10.1.0.1", "10.1.0.2", 8); err != nil {
		t.Fatal(err)
	}
	r.drains(2)
	peer.run(func() error { return message("10.1.0.2", "10.1.0.1", 0) })
	peer.run(func() error { return message("10.1.0.3", "10.1.0.1", 0) }) // to a request that nobody saw
	r.drains(2)
	flows, _ := r.finish(ebbwatch.Counter{})

	for to, want := range map[string][][2]uint64{"10.1.0.2": {{1, 0}, {0, 1}}, "10.1.0.3": {{0, 1}}} {
		var got [][2]uint64
		for _, f := range flows {
			if f.Proto != ebbwatch.ProtoICMP || f.Src.String() != to && f.Dst.String() != to {
				continue
			}
			got = append(got, [2]uint64{f.SrcPackets, f.DstPackets})
			if f.Src.String() != "10.1.0.1" || f.ICMPType != 8 || f.ICMPCode != 0 {
				t.Errorf("%+v", f)
			}
		}
		if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Errorf("to %s: packets each way %v, want %v", to, got, want)
		}
	}
}
