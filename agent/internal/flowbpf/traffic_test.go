package flowbpf

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Floods a veth pair while draining, and holds the sum of all intervals against
// the kernel's own statistics of the interface.
func TestAttachedInterfaceAgreesWithTheKernelsStatistics(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, func(c *Config) { c.Attach, c.MaxFlows = mode, 300 })
		must(t, d.Attach(here(l.index()), 0))
		l.up(t)
		l.sink(t)

		const senders, packets = 4, 20_000
		done := make(chan error, senders)
		for range senders {
			// One socket a goroutine, made on this thread: it lives in this namespace.
			c, err := net.ListenUDP("udp4", nil)
			must(t, err)
			go func() {
				defer c.Close()
				for i := range packets {
					// Ports come and go, so that the small map overflows.
					to := &net.UDPAddr{IP: farIP, Port: 7 + i%200}
					if _, err := c.WriteToUDP(make([]byte, i%1200), to); err != nil && i%200 == 0 {
						done <- err // other ports answer by ICMP, which the socket reports
						return
					}
				}
				done <- nil
			}()
		}
		var in, out, over Counters
		intervals := 0
		take := func() {
			_, totals := drain(t, d)
			in.Add(pointOf(totals, l.index(), Ingress).Seen)
			out.Add(pointOf(totals, l.index(), Egress).Seen)
			over.Add(sum(totals).Overflow)
			intervals++
		}
		for left := senders; left > 0; {
			select {
			case err := <-done:
				must(t, err)
				left--
			default:
				take()
			}
		}
		time.Sleep(50 * time.Millisecond) // the far end may still answer
		rx, tx := l.statistics(t)
		take()
		if in != rx || out != tx {
			t.Errorf("seen %+v in, %+v out; the kernel counted %+v, %+v", in, out, rx, tx)
		}
		if out.Packets < senders*packets*9/10 || over.Packets == 0 || intervals < 3 {
			t.Errorf("%d packets out, %d overflowed, %d intervals: the test tests too little", out.Packets, over.Packets, intervals)
		}
		t.Logf("%d intervals, out %+v, overflow %+v", intervals, out, over)
	})
}

// The kernel's TCP counts segments, whatever super-packets they travel in.
func TestSegmentsOfABulkTransferAreCounted(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(l.index()), 0))
	l.up(t)
	l.sink(t)
	const payload = 8 << 20
	c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: farIP, Port: 7})
	must(t, err)
	_, err = c.Write(make([]byte, payload))
	must(t, err)
	must(t, c.CloseWrite())
	_, _ = c.Read(make([]byte, 1)) // the far end's FIN
	must(t, c.Close())
	time.Sleep(50 * time.Millisecond)
	segments, retransmitted := outSegments(t)
	entries, totals := drain(t, d)
	var e Entry
	for i := range entries {
		if entries[i].Proto == protoTCP {
			e = entries[i]
		}
	}
	// OutSegs leaves out what is sent again (RFC 1213).
	if sent := e.Side[0].Packets; sent < segments || sent > segments+retransmitted {
		t.Errorf("%d packets, the kernel sent %d segments and %d again", sent, segments, retransmitted)
	}
	// Ethernet, IP, TCP with time stamps; the SYN has 8 bytes more of options.
	// What a busy host retransmits is sent again, up to a full segment each.
	want := payload + segments*(14+20+32) + 8
	if got := e.Side[0].Bytes; got < want || got > want+retransmitted*(14+20+32+1448) {
		t.Errorf("%d bytes, want %d and at most %d segments more", got, want, retransmitted)
	}
	if tx := pointOf(totals, l.index(), Egress).Seen; segments < 5000 || tx.Packets < segments {
		t.Errorf("%d segments, %d packets out", segments, tx.Packets)
	}
	client, server := e.Side[0], e.Side[1]
	if client.SYNNS == 0 || server.SYNACKNS <= client.SYNNS || client.FINNS <= server.SYNACKNS || server.FINNS <= client.FINNS {
		t.Errorf("events out of order: client %+v, server %+v", client, server)
	}
	if frames := pointOf(totals, l.index(), Egress); frames.Seen == (Counters{}) || e.FirstDirection != Egress || e.FirstSide != 0 {
		t.Errorf("entry %+v should begin with side 0 on egress", e)
	}
}

// outSegments reads OutSegs and RetransSegs of this thread's network namespace.
func outSegments(t *testing.T) (out, retransmitted uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	must(t, err)
	var names []string
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Tcp: ")
		if !ok {
			continue
		}
		if names == nil {
			names = strings.Fields(rest)
			continue
		}
		for i, v := range strings.Fields(rest) {
			switch names[i] {
			case "OutSegs":
				_, err = fmt.Sscan(v, &out)
			case "RetransSegs":
				_, err = fmt.Sscan(v, &retransmitted)
			}
			must(t, err)
		}
	}
	return out, retransmitted
}

// A received tag is always in the metadata, the kernel sees to that; a sent one
// is where whoever tagged the packet put it.
func TestTagsInMetadataAndDataAreFoundAndCounted(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(l.index()), 0))
	l.up(t)
	p := ip4{proto: protoUDP}.with(udp(1000, 2000, 100))
	plain := ether(typeIP4, p)
	one := ether(typeVLAN, tag(100, typeIP4), p)
	two := ether(typeQinQ, tag(100, typeVLAN), tag(200, typeIP4), p)
	check := func(dir Direction, vlan, inner uint16, bytes int) {
		t.Helper()
		entries, totals := drain(t, d)
		want := Counters{1, uint64(bytes)}
		for _, e := range entries {
			if e.Proto == protoUDP && e.APort == 1000 && e.VLAN == vlan && e.InnerVLAN == inner && e.Side[0].Counters == want {
				return
			}
		}
		t.Errorf("%s: no entry of VLAN %d.%d with %d bytes: %+v, totals %+v", dir, vlan, inner, bytes, entries, totals)
	}
	for _, f := range []struct {
		frame       []byte
		vlan, inner uint16
	}{{plain, 0, 0}, {one, 100, 0}, {two, 100, 200}} {
		l.inFar(t, func() { sendRaw(t, "ebbfar", f.frame) })
		check(Ingress, f.vlan, f.inner, len(f.frame))
		sendRaw(t, "ebbnear", f.frame)
		check(Egress, f.vlan, f.inner, len(f.frame))
	}
	if !haveTCX() {
		return // no program before ours can push a tag then
	}
	pusher, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0x0081), // ETH_P_8021Q in network byte order
		asm.Mov.Imm(asm.R3, 300),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, -1),
		asm.Return(),
	}})
	must(t, err)
	defer pusher.Close()
	first, err := attachTCX(l.index(), Egress, pusher)
	must(t, err)
	defer first.Close()
	sendRaw(t, "ebbnear", plain)
	check(Egress, 300, 0, len(plain)+4)
}

// sendRaw sends a frame as it is and waits until it has passed.
func sendRaw(t *testing.T, name string, frame []byte) {
	t.Helper()
	dev, err := netlink.LinkByName(name)
	must(t, err)
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(s)
	must(t, unix.Sendto(s, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Attrs().Index}))
	time.Sleep(20 * time.Millisecond)
}

func TestInterfacesWithoutLinkLayerHeader(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "ebbtun"}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1, Flags: netlink.TUNTAP_DEFAULTS | netlink.TUNTAP_NO_PI}
	must(t, netlink.LinkAdd(tun))
	t.Cleanup(func() {
		for _, f := range tun.Fds {
			_ = f.Close()
		}
	})
	must(t, d.Attach(here(tun.Index), 0))
	l.up(t)
	must(t, address("ebbtun", net.IPv4(10, 80, 0, 1)))
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 80, 0, 9), Port: 7})
	must(t, err)
	_, err = c.Write(make([]byte, 100))
	must(t, err)
	must(t, c.Close())
	_, err = tun.Fds[0].Write(ip4{proto: protoTCP}.with(tcp(1, 2, rst, 0)))
	must(t, err)
	entries, totals := drain(t, d)
	want := map[uint8]Counters{protoUDP: {1, 128}, protoTCP: {1, 40}}
	for _, e := range entries {
		if got := e.Side[0].Counters; got != want[e.Proto] {
			t.Errorf("protocol %d: %+v, want %+v", e.Proto, got, want[e.Proto])
		}
		delete(want, e.Proto)
	}
	if len(want) > 0 || sum(totals).Other != (Counters{}) {
		t.Errorf("missing %v; totals %+v", want, totals)
	}
}

func TestLoopbackCountsEachPacketOnce(t *testing.T) {
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(loopback), 0))
	l.up(t)
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
	must(t, err)
	_, err = c.Write(make([]byte, 100))
	must(t, err)
	must(t, c.Close())
	entries, _ := drain(t, d)
	for _, e := range entries {
		if e.Proto != protoUDP {
			continue
		}
		if n := e.Side[0].Packets + e.Side[1].Packets; n != 1 {
			t.Errorf("%d packets, want 1", n)
		}
		return
	}
	t.Error("no entry")
}
