package app_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
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
	lost := toADeadNeighbour(t)
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

// toADeadNeighbour sends a datagram that is dropped before any interface sees it:
// nobody has its address. It returns the sender.
func toADeadNeighbour(t *testing.T) (from string) {
	t.Helper()
	for setting, value := range map[string]string{"mcast_solicit": "1", "retrans_time_ms": "10"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/neigh/w0/"+setting, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	from, err := sendUDP("10.1.0.99:7778", 1, 60, 0)
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func TestDropsAreToldWhenTheAgentEnds(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newHost(t).connect("w0", "w1", 1)
	r := runAgent(t, func(c *app.Config) { c.DrainInterval = time.Minute }) // only the end drains
	r.watches(1)
	if _, err := sendUDP("10.1.0.2:7777", 1, 50, 0); err != nil { // something to record
		t.Fatal(err)
	}
	toADeadNeighbour(t)
	time.Sleep(500 * time.Millisecond) // the neighbour is found to be dead
	flows, _ := r.finish(ebbwatch.Counter{})
	for _, f := range flows {
		if f.DstPort == 7778 && f.SrcHealth.Drops == 1 {
			return
		}
	}
	t.Errorf("no record of the drop:\n%s", list(flows))
}

// The server drops what an impostor sends to end a connection: a segment that
// carries neither socket nor device.
func TestDropsInANamespaceThatIsNotWatchedDoNotShow(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const server, client = "10.1.0.1:3000", "10.1.0.2:3001"
	elsewhere, peer := newHost(t), newHost(t)
	peer.connect("w0", "w1", 1)
	elsewhere.run(func() error { return errors.Join(address("lo", 1, 1), address("lo", 1, 2)) })
	r := runAgent(t, nil)
	r.watches(1)
	var l net.Listener
	listen := func() (err error) { l, err = net.Listen("tcp", server); return err }
	elsewhere.run(listen)
	elsewhere.run(func() error { return forgeReset(l, client) })
	r.drains(3)
	between := time.Now()
	if err := listen(); err != nil {
		t.Fatal(err)
	}
	peer.run(func() error { return forgeReset(l, client) })
	r.drains(3)
	flows, _ := r.finish(ebbwatch.Counter{})

	drops := uint32(0)
	for _, f := range flows {
		if netip.AddrPortFrom(f.Src, f.SrcPort).String() != client || f.Proto != ebbwatch.ProtoTCP {
			continue
		}
		if f.Start.Before(between) {
			t.Errorf("of another namespace: %+v", f)
		}
		drops += f.SrcHealth.Drops
	}
	if drops == 0 {
		t.Errorf("no drop in the namespace that is watched:\n%s", list(flows))
	}
}

// forgeReset connects to l from an address, and sends a RST from there whose
// sequence number is outside the window.
func forgeReset(l net.Listener, from string) error {
	defer l.Close()
	local, err := net.ResolveTCPAddr("tcp", from)
	if err != nil {
		return err
	}
	d := net.Dialer{LocalAddr: local}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		return err
	}
	defer s.Close()
	return sendForged(flagRST, 1, func(int) (from, target netip.AddrPort) {
		return local.AddrPort(), netip.MustParseAddrPort(l.Addr().String())
	})
}
