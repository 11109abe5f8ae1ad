package trace

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

const protoTCP, protoUDP = 6, 17

func TestDatagramsToAClosedPort(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	a6, b6 := addresses6(t)
	for _, c := range []struct {
		name     string
		from, to netip.Addr
		header   uint64
	}{
		{"over IPv4, from the lower address", a, b, 28},
		{"over IPv4, from the higher address", b, a, 28},
		{"over IPv6, from the lower address", a6, b6, 48},
		{"over IPv6, from the higher address", b6, a6, 48},
	} {
		s := listenUDP(t, c.from)
		to := netip.AddrPortFrom(c.to, 9)
		const n, size = 100, 77
		for range n {
			_, err := s.WriteToUDPAddrPort(make([]byte, size), to)
			must(t, err)
		}
		key, side := conversation(protoUDP, localOf(s), to), 0
		if c.to.Less(c.from) {
			key, side = conversation(protoUDP, to, localOf(s)), 1
		}
		want := Loss{Reason: "NO_SOCKET"}
		want.Drops[side], want.DropBytes[side] = n, n*(size+c.header)
		if got := w.lost(key, side, n, size+c.header); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

func TestASYNToAClosedPort(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	to := netip.AddrPortFrom(b, 9)
	from := netip.AddrPortFrom(a, 31234)
	if c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to)); err == nil {
		_ = c.Close()
		t.Fatal("the port is open")
	}
	want := Loss{Drops: [2]uint64{1, 0}, DropBytes: [2]uint64{60, 0}, Reason: "NO_SOCKET"}
	if got := w.lost(conversation(protoTCP, from, to), 0, 1, 60); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestAFullReceiveBuffer(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	s, r := listenUDP(t, a), listenUDP(t, b)
	must(t, r.SetReadBuffer(4096))
	const n, size = 500, 100
	for range n {
		_, err := s.WriteToUDPAddrPort(make([]byte, size), localOf(r))
		must(t, err)
	}
	got := w.losses(conversation(protoUDP, localOf(s), localOf(r)))
	received := uint64(0)
	must(t, r.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	for {
		if _, err := r.Read(make([]byte, size)); err != nil {
			break
		}
		received++
	}
	if got.Reason != "SOCKET_RCVBUFF" || received == 0 || got.Drops[0]+received != n || got.DropBytes[0] != got.Drops[0]*(28+size) {
		t.Errorf("%d of %d received, and %+v", received, n, got)
	}
}

func TestDropsByATrafficControlProgram(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	s, r := listenUDP(t, a), listenUDP(t, b)
	dropped, stop := losstest.DropEvery(t, losstest.Loopback, 3, 0)
	for range 300 {
		_, err := s.WriteToUDPAddrPort(make([]byte, 10), localOf(r))
		must(t, err)
	}
	got := w.lost(conversation(protoUDP, localOf(s), localOf(r)), 0, 100, 28+10)
	stop()
	if got.Drops[0] != dropped() || got.Drops[0] != 100 || got.Reason != "TC_INGRESS" {
		t.Errorf("%d dropped, and %+v", dropped(), got)
	}
}

func TestDropsByRouting(t *testing.T) {
	w := openWatch(t)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "ebbout"}, PeerName: "ebbin"}))
	in, err := netlink.LinkByName("ebbin")
	must(t, err)
	out, err := netlink.LinkByName("ebbout")
	must(t, err)
	must(t, netlink.AddrAdd(in, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 99, 0, 1), Mask: net.CIDRMask(24, 32)}}))
	for _, l := range []netlink.Link{in, out} {
		must(t, netlink.LinkSetUp(l))
	}
	for _, setting := range []string{"conf/ebbin/rp_filter", "ip_forward"} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/"+setting, []byte("1"), 0))
	}
	r := rand.Uint32()
	for _, c := range []struct {
		name   string
		from   netip.Addr
		ttl    byte
		reason string
	}{
		{"a sender that the route to leads elsewhere", netip.AddrFrom4([4]byte{203, 0, 113, byte(r)}), 64, "IP_RPFILTER"},
		{"a packet that has travelled too far", netip.AddrFrom4([4]byte{10, 99, 0, 2 + byte(r)%200}), 1, "IP_INHDR"},
	} {
		to := netip.AddrFrom4([4]byte{10, 99, 0, 250})
		const n, size = 20, 32
		frame := frame(in.Attrs().HardwareAddr, c.from, to, c.ttl, size)
		for range n {
			send(t, out.Attrs().Index, frame)
		}
		key, side := conversation(protoUDP, netip.AddrPortFrom(c.from, 1000), netip.AddrPortFrom(to, 2000)), 0
		if to.Less(c.from) {
			key, side = conversation(protoUDP, netip.AddrPortFrom(to, 2000), netip.AddrPortFrom(c.from, 1000)), 1
		}
		want := Loss{Reason: c.reason}
		want.Drops[side], want.DropBytes[side] = n, n*(28+size)
		if got := w.lost(key, side, n, 28+size); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

// frame is a UDP datagram from port 1000 to port 2000.
func frame(mac net.HardwareAddr, from, to netip.Addr, ttl byte, size int) []byte {
	f := append([]byte{}, mac...)
	f = append(f, 2, 0, 0, 0, 0, 1, 8, 0)
	ip := []byte{0x45, 0, 0, byte(28 + size), 0, 0, 0, 0, ttl, protoUDP, 0, 0}
	ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	f = append(append(f, ip...), 1000>>8, 1000&0xff, 2000>>8, 2000&0xff, 0, byte(8+size), 0, 0)
	return append(f, make([]byte, size)...)
}

func send(t *testing.T, ifindex int, frame []byte) {
	t.Helper()
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(s)
	must(t, unix.Sendto(s, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifindex}))
}

// transfer sends n bytes each way and closes both ends properly, if asked to.
func transfer(t *testing.T, a, b netip.Addr, n int64) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(b, 0)))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	client, err = net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)), l.Addr().(*net.TCPAddr))
	must(t, err)
	server, err = l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	done := make(chan error, 4)
	for _, c := range []*net.TCPConn{client, server} {
		go func() { _, err := c.Write(make([]byte, n)); done <- err }()
		go func() { _, err := io.CopyN(io.Discard, c, n); done <- err }()
	}
	for range 4 {
		must(t, <-done)
	}
	return client, server
}

func TestOrdinaryTrafficLosesNothing(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	client, server := transfer(t, a, b, 1<<20)
	key := conversation(protoTCP, localOf(client), localOf(server))
	must(t, client.Close())
	time.Sleep(10 * time.Millisecond) // the other end's FIN meets TIME_WAIT
	must(t, server.Close())
	s, r := listenUDP(t, a), listenUDP(t, b)
	for range 10 {
		_, err := s.WriteToUDPAddrPort([]byte{1}, localOf(r))
		must(t, err)
		_, err = r.Read(make([]byte, 1))
		must(t, err)
	}
	got := w.losses(key)
	if got.Retransmits != [2]uint64{} && (got.Reason == "TCP_OLD_DATA" || got.Reason == "TCP_OLD_SEQUENCE") {
		t.Logf("the host is so slow that TCP sent again what had arrived: %+v", got)
	} else if got != (Loss{}) {
		t.Errorf("TCP lost %+v", got)
	}
	if got := w.losses(conversation(protoUDP, localOf(s), localOf(r))); got != (Loss{}) {
		t.Errorf("UDP lost %+v", got)
	}
}

// What keeps an idle connection open is thrown away as old once it is answered.
func TestKeepAlivesAreNoLoss(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	client, server := transfer(t, a, b, 1)
	raw, err := client.SyscallConn()
	must(t, err)
	must(t, client.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9}))
	var info *unix.TCPInfo
	segments := func() uint32 {
		must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
		must(t, err)
		return info.Segs_in
	}
	// Each answer to a keep-alive is a segment that comes in.
	for before, deadline := segments(), time.Now().Add(20*time.Second); segments() < before+2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no keep-alive was answered")
		}
	}
	if got := w.losses(conversation(protoTCP, localOf(client), localOf(server))); got.Drops != [2]uint64{} {
		t.Errorf("lost %+v", got)
	}
}

// An idle host sends to groups that few have joined: IPv6 router solicitations and
// MLD reports above all. The kernel of each host beside it frees them unread.
func TestWhatNobodyAskedForIsNoLoss(t *testing.T) {
	w := openWatch(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "ebbnear"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "ebbfar"}))
	near, err := netlink.LinkByName("ebbnear")
	must(t, err)
	far, err := netlink.LinkByName("ebbfar")
	must(t, err)
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/ebbfar/router_solicitation_delay", []byte("0"), 0))
	must(t, netlink.AddrAdd(near, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 98, 0, 1), Mask: net.CIDRMask(24, 32)}}))
	for _, l := range []netlink.Link{near, far} {
		must(t, netlink.LinkSetUp(l))
	}
	const n, size = 5, 30
	for _, to := range []struct {
		mac  net.HardwareAddr
		addr string
	}{
		{net.HardwareAddr{1, 0, 0x5e, 1, 2, 3}, "239.1.2.3"},                  // a group that nobody joined
		{net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, "224.0.0.1"},                  // one that all are in, without a socket
		{net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "10.98.0.255"}, // a broadcast, likewise
		{near.Attrs().HardwareAddr, "10.98.0.1"},                              // to this host alone: a loss
	} {
		frame := frame(to.mac, netip.MustParseAddr("10.98.0.2"), netip.MustParseAddr(to.addr), 64, size)
		for range n {
			send(t, far.Attrs().Index, frame)
		}
	}
	known := conversation(protoUDP, netip.MustParseAddrPort("10.98.0.1:2000"), netip.MustParseAddrPort("10.98.0.2:1000"))
	if got := w.lost(known, 1, n, 28+size); got.Drops[1] != n || got.Reason != "NO_SOCKET" {
		t.Errorf("to a closed port: %+v", got)
	}
	for deadline := time.Now().Add(10 * time.Second); multicasts(t, "ebbnear") < 3; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no IPv6 multicast has come")
		}
	}
	time.Sleep(100 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, loss := range w.sums {
		if key != known && loss.Drops[0]+loss.Drops[1] > w.nobody[key] {
			t.Errorf("%s to %s, protocol %d: %+v", netip.AddrFrom16(key.A).Unmap(), netip.AddrFrom16(key.B).Unmap(), key.Proto, loss)
		}
	}
}

// multicasts is how many IPv6 packets to groups an interface has received.
func multicasts(t *testing.T, name string) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/dev_snmp6/" + name)
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Ip6InMcastPkts"); ok {
			_, err := fmt.Sscan(rest, &n)
			must(t, err)
		}
	}
	return n
}

func TestRetransmitsAreThoseOfTheSockets(t *testing.T) {
	w := openWatch(t)
	a4, b4 := addresses4()
	a6, b6 := addresses6(t)
	for name, ends := range map[string][2]netip.Addr{"IPv4": {a4, b4}, "IPv6": {a6, b6}} {
		before := retransSegs(t)
		dropped, stop := losstest.DropEvery(t, losstest.Loopback, 7, 1000)
		// Not for long: a slow host can lose the same segment each time, in step.
		time.AfterFunc(time.Second, stop)
		client, server := transfer(t, ends[0], ends[1], 3<<20)
		stop()
		time.Sleep(300 * time.Millisecond) // what is lost last is sent again by a timer
		got := w.losses(conversation(protoTCP, localOf(client), localOf(server)))
		missed, err := w.tr.Stats()
		must(t, err)
		want := [2]uint64{totalRetrans(t, client), totalRetrans(t, server)}
		if got.Retransmits != want || want[0]+want[1] < 3 {
			t.Errorf("%s: %v segments were sent again, the sockets say %v; %+v", name, got.Retransmits, want, missed)
		}
		if n := retransSegs(t) - before; n != got.Retransmits[0]+got.Retransmits[1] {
			t.Errorf("%s: %v segments were sent again, the kernel's statistics say %d", name, got.Retransmits, n)
		}
		if got.Drops[0]+got.Drops[1] < dropped() || got.Reason != "TC_INGRESS" {
			t.Errorf("%s: %d packets were dropped, and %+v", name, dropped(), got)
		}
	}
}

func TestAttemptsThatSendNothingAreNoRetransmits(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	before := retransSegs(t)
	client, server := transfer(t, a, b, 1)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetMTU(lo, 1500))
	// The timer goes off while what it would repeat still waits in the host's own queue.
	queue := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)},
		Rate: 3000, Buffer: netlink.Xmittime(3000, 2000), Limit: 1 << 20}
	if err := netlink.QdiscAdd(queue); err != nil {
		losstest.Need(t, false, "the queueing discipline tbf: "+err.Error())
	}
	const size = 1000
	for range 8 {
		_, err = client.Write(make([]byte, size)) // a segment each, three in a second
		must(t, err)
	}
	must(t, server.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = io.ReadFull(server, make([]byte, 8*size))
	must(t, err)
	got := w.losses(conversation(protoTCP, localOf(client), localOf(server)))
	if n := retransSegs(t) - before; n != got.Retransmits[0]+got.Retransmits[1] {
		t.Errorf("%v segments were sent again, the kernel's statistics say %d", got.Retransmits, n)
	}
}

func TestHandshakesThatAreSentAgain(t *testing.T) {
	w := openWatch(t)
	a, b := addresses4()
	before := retransSegs(t)
	_, stop := losstest.DropEvery(t, losstest.Loopback, 2, 0) // the SYN-ACK
	time.AfterFunc(100*time.Millisecond, stop)
	client, server := transfer(t, a, b, 1)
	got := w.losses(conversation(protoTCP, localOf(client), localOf(server)))
	if n := retransSegs(t) - before; n == 0 || n != got.Retransmits[0]+got.Retransmits[1] || got.Retransmits[1] == 0 {
		t.Errorf("%v segments were sent again, the kernel's statistics say %d", got.Retransmits, n)
	}
}

func TestDrainsUnderAFloodLoseNoCount(t *testing.T) {
	tr := open(t, entries)
	a, b := addresses4()
	s := listenUDP(t, a)
	to := netip.AddrPortFrom(b, 9)
	const n = 30_000
	before, err := tr.Stats()
	must(t, err)
	done := make(chan error, 1)
	go func() {
		for range n {
			if _, err := s.WriteToUDPAddrPort(nil, to); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	key := Key{Key: conversation(protoUDP, localOf(s), to)}
	var counted uint64
	drains := 0
	for running := true; running; drains++ {
		select {
		case err := <-done:
			must(t, err)
			running = false
		default:
		}
		all, err := tr.Drain()
		must(t, err)
		counted += all[key].Drops[0]
	}
	time.Sleep(20 * time.Millisecond)
	all, err := tr.Drain()
	must(t, err)
	counted += all[key].Drops[0]
	after, err := tr.Stats()
	must(t, err)
	interrupted := after.Interrupted - before.Interrupted + after.Overflow - before.Overflow
	if counted > n || counted+interrupted < n || drains < 3 {
		t.Errorf("%d of %d drops counted, %d events were not looked at, %d drains", counted, n, interrupted, drains)
	}
	t.Logf("%d drains, %d events not looked at", drains, interrupted)
}

func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	tr := open(t, entries)
	a, b := addresses4()
	s := listenUDP(t, a)
	_, err := tr.Drain()
	must(t, err)
	before, err := tr.Stats()
	must(t, err)
	const n = 40_000
	for port := range n {
		_, err := s.WriteToUDPAddrPort(nil, netip.AddrPortFrom(b, uint16(1+port)))
		must(t, err)
	}
	time.Sleep(20 * time.Millisecond)
	all, err := tr.Drain()
	must(t, err)
	after, err := tr.Stats()
	must(t, err)
	var counted uint64
	for k, l := range all {
		if k.A == a.As16() {
			counted += l.Drops[0]
		}
	}
	rest := after.Overflow - before.Overflow + after.Interrupted - before.Interrupted
	if counted == 0 || counted >= n || counted+rest < n {
		t.Errorf("%d counted and %d in no entry, of %d", counted, rest, n)
	}
	// An emptied map takes entries again.
	_, err = s.WriteToUDPAddrPort(nil, netip.AddrPortFrom(b, 9))
	must(t, err)
	time.Sleep(20 * time.Millisecond)
	all, err = tr.Drain()
	must(t, err)
	if got := all[Key{Key: conversation(protoUDP, localOf(s), netip.AddrPortFrom(b, 9))}]; got.Drops[0] != 1 {
		t.Errorf("after the drain: %+v", got)
	}
}

func TestReasonsHaveTheKernelsNames(t *testing.T) {
	r := newReasons(&btf.Enum{Values: []btf.EnumValue{
		{Name: "SKB_NOT_DROPPED_YET", Value: 0}, {Name: "SKB_CONSUMED", Value: 1},
		{Name: "SKB_DROP_REASON_NO_SOCKET", Value: 3}, {Name: "SKB_DROP_REASON_OTHERHOST", Value: 200},
		{Name: "SKB_DROP_REASON_TCP_OLD_SEQUENCE", Value: 55},
		{Name: "SKB_DROP_REASON_SUBSYS_MASK", Value: 0xffff0000},
	}})
	for reason, want := range map[uint32]string{3: "NO_SOCKET", 77: "0x4d", 0x20003: "0x20003", 0xffff0000: "0xffff0000"} {
		if got := r.name(reason); got != want {
			t.Errorf("%#x is %q, want %q", reason, got, want)
		}
	}
	for reason, got := range r.noLoss {
		if want := map[int]uint8{0: noLossAll, 1: noLossAll, 200: noLossAll, 55: noLossEmpty}[reason]; got != want {
			t.Errorf("reason %d: %d, want %d", reason, got, want)
		}
	}
}

func TestKernelsWithoutANameForPurgedQueuesAreTold(t *testing.T) {
	unspecified := btf.EnumValue{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2}
	purge := btf.EnumValue{Name: "SKB_DROP_REASON_QUEUE_PURGE", Value: 104}
	old, young := newReasons(&btf.Enum{Values: []btf.EnumValue{unspecified}}), newReasons(&btf.Enum{Values: []btf.EnumValue{unspecified, purge}})
	if !old.unnamed || young.unnamed || young.noLoss[104] != noLossAll || young.unspecified != 2 {
		t.Errorf("%+v and %+v", old, young)
	}
}

func TestTheMostFrequentReasonIsTold(t *testing.T) {
	var c tally
	if _, ok := c.top(); ok {
		t.Error("there is a reason without drops")
	}
	c.times = map[uint32]uint64{5: 2, 3: 7, 2: 7}
	if reason, _ := c.top(); reason != 2 {
		t.Errorf("reason %d", reason)
	}
}

func TestWithoutTheKernelsHelpNothingIsToldAndNothingFails(t *testing.T) {
	for _, f := range Probe(false) {
		if f.Err == nil {
			t.Errorf("%s works without having been tried", f.Name)
		}
	}
	tr := &Tracer{}
	if all, err := tr.Drain(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if s, err := tr.Stats(); err != nil || s != (Stats{}) {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, tr.Close())
	if os.Geteuid() == 0 {
		return
	}
	tr = Open(slog.New(slog.DiscardHandler))
	must(t, tr.Close())
}
