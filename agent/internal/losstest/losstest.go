// Package losstest gives tests a network namespace of their own and, in it,
// packet loss that can be counted.
package losstest

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Loopback is the index of the only interface of a new namespace.
const Loopback = 1

// Namespace moves the test's thread to a new network namespace with a loopback
// interface, until the test ends. Sockets that the test's own goroutine opens
// live there. It skips without root, and fails in CI.
func Namespace(t testing.TB) {
	t.Helper()
	Need(t, os.Geteuid() == 0, "root")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	home, err := netns.Get()
	must(t, err)
	inside, err := netns.New()
	must(t, err)
	t.Cleanup(func() { must(t, netns.Set(home)); must(t, inside.Close()); must(t, home.Close()) })
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

// Need skips the test where something is missing, and fails it in CI.
func Need(t testing.TB, there bool, what string) {
	t.Helper()
	switch {
	case there:
	case os.Getenv("CI") == "true":
		t.Fatal("needs " + what)
	default:
		t.Skip("needs " + what)
	}
}

// DropEvery drops every nth packet that the interface receives and that has
// at least min bytes of frame, until stop is called. dropped counts them.
func DropEvery(t testing.TB, ifindex, n, minimum int) (dropped func() uint64, stop func()) {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	must(t, err)
	t.Cleanup(func() { _ = counts.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // __sk_buff.len
		asm.JLT.Imm(asm.R6, int32(minimum), "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mod.Imm(asm.R1, int32(n)),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 8, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 2), // TCX_DROP
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TCX_NEXT
		asm.Return(),
	}})
	must(t, err)
	detach := Attach(t, ifindex, prog, false)
	stop = sync.OnceFunc(func() { detach(); _ = prog.Close() })
	t.Cleanup(stop)
	return func() uint64 {
		var both [2]uint64
		must(t, counts.Lookup(uint32(0), &both))
		return both[1]
	}, stop
}

// Attach hooks a classifier to the interface until detach is called or the test
// ends: by tcx or, before Linux 6.6, by a filter of a clsact qdisc.
func Attach(t testing.TB, ifindex int, prog *ebpf.Program, egress bool) (detach func()) {
	t.Helper()
	attach, parent := ebpf.AttachTCXIngress, uint32(netlink.HANDLE_MIN_INGRESS)
	if egress {
		attach, parent = ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: attach})
	if err == nil {
		detach = func() { _ = l.Close() }
		t.Cleanup(detach)
		return detach
	}
	err = netlink.QdiscAdd(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}, QdiscType: "clsact",
	})
	Need(t, err == nil || errors.Is(err, fs.ErrExist), "tcx or tc")
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:          prog.FD(), Name: "losstest", DirectAction: true,
	}
	must(t, netlink.FilterAdd(filter))
	// Sockets of this namespace: detach may be called on a thread of another one.
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	detach = sync.OnceFunc(func() { _ = inside.FilterDel(filter); inside.Close() })
	t.Cleanup(detach)
	return detach
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
