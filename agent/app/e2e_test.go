package app_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

func TestRealTrafficBecomesExactRecords(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	r := runAgent(t, nil)
	r.watches(1)
	peer.run(func() error { return serveTCP(t, "10.1.0.2:7000", 50) })
	peer.run(func() error { return serveTCP(t, "[fd00:1::2]:7000", 50) })
	peer.run(func() error { return serveUDP(t, "10.1.0.2:7003") })
	if err := serveTCP(t, "10.1.0.1:7002", 10); err != nil {
		t.Fatal(err)
	}

	// Out, in, refused, and over IPv6.
	answer, outgoing, err := callTCP("10.1.0.2:7000", 100_000)
	if err != nil || answer != 50 {
		t.Fatalf("call: %d bytes, %v", answer, err)
	}
	if _, _, err := callTCP("10.1.0.2:7001", 1); err == nil {
		t.Fatal("nothing listens on 7001")
	}
	var incoming string
	peer.run(func() (err error) { _, incoming, err = callTCP("10.1.0.1:7002", 1000); return err })
	_, six, err := callTCP("[fd00:1::2]:7000", 1000)
	if err != nil {
		t.Fatal(err)
	}
	query, err := sendUDP("10.1.0.2:7003", 6, 100, 3)
	if err != nil {
		t.Fatal(err)
	}
	lonely, err := sendUDP("10.1.0.2:7004", 1, 10, 0) // port unreachable comes back
	if err != nil {
		t.Fatal(err)
	}
	r.drains(2) // between the life of the connections and the end
	health := r.get("/healthz")
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(health, "not listed yet") && time.Now().Before(deadline); health = r.get("/healthz") {
		time.Sleep(20 * time.Millisecond)
	}
	if strings.Count(health, `"ok"`) != 3 {
		t.Errorf("health: %s", health)
	}
	flows, seen := r.finish(ebbwatch.Counter{})

	f := conversation(t, flows, ebbwatch.ProtoTCP, outgoing, "10.1.0.2:7000")
	if f.ConnState != ebbwatch.StateSF || f.Initiator != ebbwatch.InitiatorSYN || !f.Final || f.Interface != "w0" {
		t.Errorf("outgoing TCP: %v, initiator %v, final %v, interface %s", f.ConnState, f.Initiator, f.Final, f.Interface)
	}
	if f.SrcBytes < 100_000+66*f.SrcPackets || f.SrcBytes > 100_000+78*f.SrcPackets || f.DstBytes < 50+66*f.DstPackets || f.DstBytes > 50+78*f.DstPackets {
		t.Errorf("outgoing TCP: %d/%d packets, %d/%d bytes: not the payload and headers of 66 to 78 bytes", f.SrcPackets, f.DstPackets, f.SrcBytes, f.DstBytes)
	}
	if f = conversation(t, flows, ebbwatch.ProtoTCP, "10.1.0.1:", "10.1.0.2:7001"); f.ConnState != ebbwatch.StateREJ || f.SrcPackets != 1 || f.DstPackets != 1 {
		t.Errorf("refused TCP: %v, %d/%d packets", f.ConnState, f.SrcPackets, f.DstPackets)
	}
	if f = conversation(t, flows, ebbwatch.ProtoTCP, incoming, "10.1.0.1:7002"); f.ConnState != ebbwatch.StateSF || f.Initiator != ebbwatch.InitiatorSYN {
		t.Errorf("incoming TCP: %v, initiator %v", f.ConnState, f.Initiator)
	}
	if f = conversation(t, flows, ebbwatch.ProtoTCP, six, "[fd00:1::2]:7000"); f.ConnState != ebbwatch.StateSF || f.SrcBytes < 1000+86*f.SrcPackets {
		t.Errorf("TCP over IPv6: %v, %d bytes in %d packets", f.ConnState, f.SrcBytes, f.SrcPackets)
	}
	const datagram = 14 + 20 + 8
	if f = conversation(t, flows, ebbwatch.ProtoUDP, query, "10.1.0.2:7003"); f.ConnState != ebbwatch.StateSF || f.Initiator != ebbwatch.InitiatorFirst ||
		f.SrcPackets != 6 || f.SrcBytes != 6*(datagram+100) || f.DstPackets != 3 || f.DstBytes != 3*(datagram+100) {
		t.Errorf("UDP: %+v", f)
	}
	if f = conversation(t, flows, ebbwatch.ProtoUDP, lonely, "10.1.0.2:7004"); f.ConnState != ebbwatch.StateS0 || f.SrcPackets != 1 {
		t.Errorf("UDP without answer: %+v", f)
	}
	if f = conversation(t, flows, ebbwatch.ProtoICMP, "10.1.0.2:", "10.1.0.1:"); f.ICMPType != 3 || f.ICMPCode != 3 || f.SrcBytes != 14+20+8+20+8+10 {
		t.Errorf("ICMP port unreachable: %+v", f)
	}
	if len(seen) != 1 || seen["w0"].Packets == 0 {
		t.Errorf("attach points: %v", seen)
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	r := runAgent(t, func(cfg *app.Config) { cfg.Interfaces.Exclude = []string{"no*"} })
	r.watches(0)
	if health := r.get("/healthz"); strings.Count(health, `"ok"`) != 2 || !strings.Contains(health, "no interface is watched") {
		t.Errorf("health without an interface: %s", health)
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	peer.connect("no0", "no1", 2)
	r.watches(1)
	peer.run(func() error { return serveUDP(t, "0.0.0.0:7000") })
	if _, err := sendUDP("10.1.0.2:7000", 4, 100, 2); err != nil {
		t.Fatal(err)
	}
	peer.connect("x0", "x1", 3)
	r.watches(2)
	local, err := sendUDP("10.3.0.2:7000", 8, 100, 4)
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("x0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil { // before the drain that must tell of its packets
		t.Fatal(err)
	}
	r.watches(1)
	r.shows(`interface="x0"`, false)
	r.drains(2) // what passed so far is told under the old name

	if link, err = netlink.LinkByName("w0"); err != nil {
		t.Fatal(err)
	}
	if err := rename(link, "renamed0"); err != nil {
		t.Fatal(err)
	}
	r.shows(`interface="renamed0"`, true)
	renamed, err := sendUDP("10.1.0.2:7000", 2, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	flows, seen := r.finish(ebbwatch.Counter{})

	if f := conversation(t, flows, ebbwatch.ProtoUDP, local, "10.3.0.2:7000"); f.Interface != "x0" || f.SrcPackets != 8 || f.DstPackets != 4 {
		t.Errorf("on the interface that went: %s, %d/%d packets", f.Interface, f.SrcPackets, f.DstPackets)
	}
	if f := conversation(t, flows, ebbwatch.ProtoUDP, renamed, "10.1.0.2:7000"); f.Interface != "renamed0" || f.SrcPackets != 2 {
		t.Errorf("on the renamed interface: %s, %d packets", f.Interface, f.SrcPackets)
	}
	for _, name := range []string{"w0", "x0", "renamed0"} {
		if seen[name].Packets == 0 {
			t.Errorf("%s: nothing seen; all: %v", name, seen)
		}
	}
	for name := range seen {
		if strings.HasPrefix(name, "no") || name == "lo" {
			t.Errorf("%s was watched", name)
		}
	}
}

// rename gives the interface another name. Before Linux 6.2 it must be down for it.
func rename(link netlink.Link, name string) error {
	err := netlink.LinkSetName(link, name)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, name), netlink.LinkSetUp(link))
}

func TestForwardedTrafficIsRecordedOnce(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	left, right := newHost(t), newHost(t)
	left.connect("l0", "eth0", 1)
	right.connect("r0", "eth0", 2)
	left.run(func() error { return route("10.2.0.0/24", "10.1.0.1") })
	right.run(func() error { return route("10.1.0.0/24", "10.2.0.1") })
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := runAgent(t, nil)
	r.watches(2)
	right.run(func() error { return serveUDP(t, "10.2.0.2:7000") })
	right.run(func() error { return serveTCP(t, "10.2.0.2:7000", 5000) })
	var query, call string
	left.run(func() (err error) {
		if query, err = sendUDP("10.2.0.2:7000", 6, 100, 3); err != nil {
			return err
		}
		_, call, err = callTCP("10.2.0.2:7000", 5000)
		return err
	})
	r.drains(2)
	repeated := ebbwatch.Counter{Packets: r.metric("ebbwatch_agent_repeated_packets_total"), Bytes: r.metric("ebbwatch_agent_repeated_bytes_total")}
	flows, seen := r.finish(repeated)

	if f := conversation(t, flows, ebbwatch.ProtoUDP, query, "10.2.0.2:7000"); f.SrcPackets != 6 || f.DstPackets != 3 {
		t.Errorf("forwarded UDP: %d/%d packets, want 6/3", f.SrcPackets, f.DstPackets)
	}
	f := conversation(t, flows, ebbwatch.ProtoTCP, call, "10.2.0.2:7000")
	if f.ConnState != ebbwatch.StateSF || f.SrcBytes > 5000+78*f.SrcPackets {
		t.Errorf("forwarded TCP: %v, %d bytes in %d packets", f.ConnState, f.SrcBytes, f.SrcPackets)
	}
	if repeated.Packets < 9+f.SrcPackets+f.DstPackets {
		t.Errorf("%d packets repeated", repeated.Packets)
	}
	if seen["l0"].Packets < 9 || seen["r0"].Packets < 9 {
		t.Errorf("seen %v: both interfaces see each packet", seen)
	}
}

func TestManyFlowsInOneDrain(t *testing.T) {
	const flows = 12_000
	for _, c := range []struct {
		name     string
		maxFlows uint32
		overflow bool
	}{
		{"all have room, and take several batches", 65536, false},
		{"a small map overflows, and says so", 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !inNamespace(t) {
				return
			}
			peer := newHost(t)
			peer.connect("w0", "w1", 1)
			r := runAgent(t, func(cfg *app.Config) { cfg.Datapath.MaxFlows, cfg.DrainInterval = c.maxFlows, time.Minute })
			r.watches(1)
			if err := spray("10.1.0.2", flows); err != nil {
				t.Fatal(err)
			}
			sent, seen := r.finish(ebbwatch.Counter{}) // the drain at the end is the only one
			probes := 0
			for _, f := range sent {
				if f.Proto == ebbwatch.ProtoUDP && f.DstPort >= 1024 && f.SrcPackets == 1 && f.ConnState == ebbwatch.StateS0 {
					probes++
				}
			}
			if seen["w0"].Packets < flows {
				t.Errorf("%d packets seen, %d sent", seen["w0"].Packets, flows)
			}
			if !c.overflow && (probes != flows || r.batches < 3) {
				t.Errorf("%d records of %d probes in %d batches", probes, flows, r.batches)
			}
			// A stray packet of the neighbour discovery may overflow, too.
			if lost := r.overflow.Packets - uint64(flows-probes); c.overflow && (probes == 0 || probes >= flows || lost > 50) {
				t.Errorf("%d records of %d probes, %d packets of overflow", probes, flows, r.overflow.Packets)
			}
		})
	}
}
