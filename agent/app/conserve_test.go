package app_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

// counter counts packets and bytes at both hooks of interfaces, after everybody
// else: what the agent saw, told by somebody else.
type counter struct {
	t    *testing.T
	m    *ebpf.Map
	prog *ebpf.Program
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word), // __sk_buff.len
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Add.Imm(asm.R1, 8),
		asm.StoreXAdd(asm.R1, asm.R3, asm.DWord),
		asm.Mov.Imm(asm.R0, -1), // TCX_NEXT
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close(); _ = m.Close() })
	return &counter{t, m, prog}
}

func (c *counter) attach(l netlink.Link) {
	c.t.Helper()
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		hook, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: c.prog, Attach: at, Anchor: link.Tail()})
		if errors.Is(err, ebpf.ErrNotSupported) {
			c.t.Skip("this kernel has no tcx")
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { _ = hook.Close() })
	}
}

func (c *counter) read() (n ebbwatch.Counter) {
	c.t.Helper()
	var v [2]uint64
	if err := c.m.Lookup(uint32(0), &v); err != nil {
		c.t.Fatal(err)
	}
	return ebbwatch.Counter{Packets: v[0], Bytes: v[1]}
}

// What a deleted interface carried is accounted to the last packet, with drains
// all the time and traffic in both directions until it is gone.
func TestInterfacesDeletedUnderTrafficAreAccountedInFull(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	quiet(t)
	peer, counter := newHost(t), newCounter(t)
	r := runAgent(t, func(cfg *app.Config) {
		cfg.DrainInterval = 100 * time.Millisecond
		cfg.Interfaces.Include = []string{"up*"}
	})
	for round := range 6 {
		name := fmt.Sprintf("up%d", round)
		if round%2 == 1 {
			name = "up1" // also by the name of the one before the last
		}
		peer.plug(name, "eth0", "10.9.0.2/24")
		l := up(t, name)
		counter.attach(l)
		r.watches(1)
		if err := number(name, "10.9.0.1/24"); err != nil {
			t.Fatal(err)
		}
		done := make(chan int, 2)
		go func() { done <- flood("10.9.0.2:9") }()
		var c net.Conn
		peer.run(func() (err error) { c, err = net.Dial("udp", "10.9.0.1:9"); return err })
		go func() { done <- pour(c) }()
		time.Sleep(100 * time.Millisecond)
		if err := netlink.LinkDel(l); err != nil {
			t.Fatal(err)
		}
		if n := <-done + <-done; n < 100 {
			t.Errorf("%d datagrams sent", n)
		}
		r.watches(0)
	}
	r.drains(3)
	_, seen := r.finishRepeated()
	var got ebbwatch.Counter
	for name, c := range seen {
		if !strings.HasPrefix(name, "up") {
			t.Errorf("%s was watched", name)
		}
		got.Add(c)
	}
	if want := counter.read(); got != want || want.Packets < 1000 {
		t.Errorf("seen %+v on interfaces that went, another program saw %+v", got, want)
	}
	t.Logf("%+v in %d batches", got, r.batches)
}

func flood(address string) int {
	c, err := net.Dial("udp", address)
	if err != nil {
		return 0
	}
	return pour(c)
}

// pour sends datagrams until there is no way any more.
func pour(c net.Conn) (n int) {
	defer c.Close()
	for payload := make([]byte, 200); ; n++ {
		if _, err := c.Write(payload[:n%200]); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return n
		}
		if n > 2_000_000 {
			return n
		}
	}
}

// At full rate, the agent's totals are the kernel's own statistics of the
// interface, and every drain of many balances.
func TestBulkTransferIsAccountedAsTheKernelCountsIt(t *testing.T) {
	iperf, err := exec.LookPath("iperf3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs iperf3")
		}
		t.Skip("needs iperf3")
	}
	if !inNamespace(t) {
		return
	}
	quiet(t)
	peer := newHost(t)
	peer.plug("up0", "eth0", "10.9.0.2/24")
	l := up(t, "up0")
	// The kernel's statistics take a segmented packet for one: without them both count alike.
	one := func(name string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetGSOMaxSegs(l, 1)
	}
	peer.run(func() error { return one("eth0") })
	if err := one("up0"); err != nil {
		t.Fatal(err)
	}
	before, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	if s := before.Attrs().Statistics; s.RxPackets+s.TxPackets != 0 {
		t.Fatalf("%d packets before the agent comes", s.RxPackets+s.TxPackets)
	}
	r := runAgent(t, func(cfg *app.Config) { cfg.DrainInterval = 100 * time.Millisecond })
	r.watches(1)
	if err := number("up0", "10.9.0.1/24"); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), iperf, "-s", "-1", "-B", "10.9.0.2")
	peer.run(server.Start)
	var out []byte
	for range 50 {
		if out, err = exec.CommandContext(t.Context(), iperf, "-c", "10.9.0.2", "-t", "3", "-P", "2", "--bidir").CombinedOutput(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond) // it does not listen yet
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_ = server.Wait()
	time.Sleep(200 * time.Millisecond) // the last packets of the connections that end
	after, err := netlink.LinkByIndex(l.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	_, seen := r.finish(ebbwatch.Counter{})
	s := after.Attrs().Statistics
	want := ebbwatch.Counter{Packets: s.RxPackets + s.TxPackets, Bytes: s.RxBytes + s.TxBytes}
	if seen["up0"] != want || want.Bytes < 10<<20 {
		t.Errorf("seen %+v, the kernel counted %+v", seen["up0"], want)
	}
	t.Logf("%+v in %d batches, overflow %+v", want, r.batches, r.overflow)
}

// Packets that get lost between two interfaces of one path are in the record of
// the first, and what the second saw is in no other.
func TestWhatIsLostBetweenRelatedInterfacesIsRecordedOnce(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	quiet(t)
	e := overMacvlan(t)
	r := runAgent(t, func(cfg *app.Config) { cfg.Interfaces.Include = []string{"up0", "mac0"} })
	r.watches(2)
	address := net.JoinHostPort(e.address, "7001")
	e.server.at(t, func() error { return serveUDP(t, address) })
	lose(t, "mac0")
	stop := stream(t, nil, address)
	time.Sleep(time.Second)
	sent, answered := stop()
	flows, seen := r.finishRepeated()
	var src, dst uint64
	for _, f := range flows {
		if f.DstPort == 7001 {
			src, dst = src+f.SrcPackets, dst+f.DstPackets
		}
	}
	if src != uint64(sent) || dst != uint64(answered) || sent < 100 {
		t.Errorf("%d/%d packets recorded, %d/%d sent", src, dst, sent, answered)
	}
	if seen["up0"].Packets >= seen["mac0"].Packets {
		t.Errorf("nothing was lost: the test shows nothing: %v", seen)
	}
}

// lose drops one in eight packets that leave by the interface, after everybody saw them.
func lose(t *testing.T, name string) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), // __sk_buff.len: not ARP, which is shorter
		asm.JLT.Imm(asm.R1, 43, "pass"),
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, 7),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, 2), // TCX_DROP
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TCX_NEXT
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	hook, err := link.AttachTCX(link.TCXOptions{Interface: mustLink(t, name).Attrs().Index, Program: prog, Attach: ebpf.AttachTCXEgress, Anchor: link.Tail()})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("this kernel has no tcx")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hook.Close(); _ = prog.Close() })
}

func mustLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
