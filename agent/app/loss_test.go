package app_test

import (
	"os"
	"testing"

	"github.com/ebbwatch/ebbwatch"
)

func TestDropsStandInTheRecordOfTheirConversation(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	r := runAgent(t, nil)
	r.watches(1)
	// Nobody listens: the kernel drops each datagram after the hook has seen it.
	var to7 string
	peer.run(func() (err error) { to7, err = sendUDP("10.1.0.1:7777", 1, 50, 0); return err })
	// Dropped before any interface sees it: nobody has this address.
	for setting, value := range map[string]string{"mcast_solicit": "1", "retrans_time_ms": "10"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/neigh/w0/"+setting, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	lost, err := sendUDP("10.1.0.99:7778", 1, 60, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.drains(4)
	flows, _ := r.finish(ebbwatch.Counter{})

	f := conversation(t, flows, ebbwatch.ProtoUDP, to7, "10.1.0.1:7777")
	if f.SrcHealth.Drops != 1 || f.DstHealth.Drops != 0 || f.DropReason != "NO_SOCKET" || f.SrcPackets != 1 {
		t.Errorf("to a closed port: %d and %d drops, reason %q, %d packets", f.SrcHealth.Drops, f.DstHealth.Drops, f.DropReason, f.SrcPackets)
	}
	found := false
	for _, f := range flows {
		if f.DstPort == 7778 && f.SrcPackets+f.DstPackets == 0 {
			found = true
			if f.SrcHealth.Drops+f.DstHealth.Drops == 0 || f.DropReason == "" || f.AgeMS == 0 {
				t.Errorf("to a dead neighbour: %+v", f)
			}
		}
	}
	if !found {
		t.Errorf("no record of what never left (from %s):\n%s", lost, list(flows))
	}
}
