package flowbpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
)

// Feature is the result of one probe.
type Feature struct {
	Name     string // short and stable: "tcx", "batch", "coarse_clock", …
	Need     string // what it is used for
	Required bool   // the datapath cannot run without it
	Err      error  // nil if it works, else why it does not, or ErrNotTested
}

// ErrNotTested is the result of a probe that needs privileges.
var ErrNotTested = errors.New("not tested")

// Probe tries every kernel feature that the datapath uses, on this kernel, in
// this network namespace and with this process' privileges. It leaves nothing
// behind. Without both tcx and tc nothing can be attached.
//
// Without privileges a probe fails for want of them, whatever the kernel can
// do: privileged says whether to try those.
func Probe(privileged bool) []Feature {
	with := func(probe func() error) error {
		if !privileged {
			return ErrNotTested
		}
		return probe()
	}
	clock := func() error { return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs) }
	return []Feature{
		{"program", "run programs on packets (CAP_BPF, CAP_NET_ADMIN)", true, with(func() error { return features.HaveProgramType(ebpf.SchedCLS) })},
		{"bounded_loops", "parse IPv6 extension headers", true, with(features.HaveBoundedLoops)},
		{"isa_v3", "run the compiled programs", true, with(features.HaveV3ISA)},
		{"coarse_clock", "time packets cheaply (Linux 5.11)", true, with(clock)},
		{"map_of_maps", "swap the buffers", true, with(func() error { return features.HaveMapType(ebpf.ArrayOfMaps) })},
		{"mmap", "read totals without system calls", true, with(func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) })},
		{"batch", "drain flows in batches (Linux 5.6)", true, with(probeBatch)},
		{"datapath", "load this build's programs", true, with(probeLoad)},
		{"tcx", "attach by link (Linux 6.6)", false, with(probeAttachTCX)},
		{"tc", "attach by filter where tcx is missing", false, with(probeTC)},
		{"jit", "run programs at full speed", false, with(probeJIT)},
		{"btf", "read kernel types: owners, losses, connections of before the start", false, probeBTF()},
	}
}

func probeLoad() error {
	cfg := DefaultConfig()
	cfg.MaxFlows, cfg.MaxInterfaces = 1, 1
	cfg.Attach = AttachTCX // so that nothing is probed or removed
	d, err := Load(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return d.Close()
}

func probeBatch() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		return fmt.Errorf("create map: %w", err)
	}
	defer m.Close()
	if err := m.Put(uint32(1), uint32(2)); err != nil {
		return fmt.Errorf("update map: %w", err)
	}
	var cursor ebpf.MapBatchCursor
	keys, values := make([]uint32, 4), make([]uint32, 4)
	n, err := m.BatchLookupAndDelete(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("look up and delete: %w", err)
	}
	if n != 1 || keys[0] != 1 || values[0] != 2 {
		return fmt.Errorf("look up and delete returned %d entries, want 1", n)
	}
	return nil
}

// emptyProgram loads a classifier that passes everything on.
func emptyProgram() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "ebb_probe",
		Type:         ebpf.SchedCLS,
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
}

func probeAttachTCX() error {
	prog, err := emptyProgram()
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	return probeTCX(prog)
}

// probeTC adds a clsact qdisc to the loopback interface and removes it.
func probeTC() error {
	err := netlink.QdiscAdd(clsact(loopback))
	if errors.Is(err, os.ErrExist) {
		return nil // somebody uses it: it works, and is not ours to remove
	}
	if err != nil {
		return fmt.Errorf("add clsact qdisc: %w", err)
	}
	if err := netlink.QdiscDel(clsact(loopback)); err != nil {
		return fmt.Errorf("delete clsact qdisc: %w", err)
	}
	return nil
}

// errNoJIT says that the kernel interprets programs.
var errNoJIT = errors.New("the kernel does not compile programs: it interprets them, several times slower")

// probeJIT looks at what became of a program: the setting net.core.bpf_jit_enable
// shows in the host's first network namespace only.
func probeJIT() error {
	prog, err := emptyProgram()
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return fmt.Errorf("ask about program: %w", err)
	}
	if _, err := info.JitedSize(); err != nil {
		return errNoJIT
	}
	return nil
}

func probeBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}
