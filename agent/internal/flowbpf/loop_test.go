package flowbpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Linux 6.1 refuses a loop that closes without a jump ("back-edge from insn"),
// as when the compiler puts the body of a loop before its head. Whether it does
// changes with the code around, and later kernels take it: hence this look at
// what was compiled. The remedy is a loop whose condition is a counter's.
func TestEveryLoopClosesByAJump(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"flow": objects.LoadFlow, "owner": objects.LoadOwner, "seed": objects.LoadSeed, "trace": objects.LoadTrace,
	} {
		t.Run("in the object "+name, func(t *testing.T) {
			spec, err := load()
			must(t, err)
			for _, p := range spec.Programs {
				for _, edge := range fallenLoops(p.Instructions) {
					t.Errorf("%s: %s", p.Name, edge)
				}
			}
		})
	}
}

func TestLoopsThatCloseWithoutAJumpAreFound(t *testing.T) {
	loop := asm.Instructions{
		asm.Mov.Imm(asm.R1, 8),
		{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: 1}, // to the head
		asm.Add.Imm(asm.R1, -1), // the body, which falls into the head
		{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JNE).SetSource(asm.ImmSource), Dst: asm.R1, Offset: -2},
		asm.Return(),
	}
	if got := fallenLoops(loop); len(got) != 1 {
		t.Errorf("found %v, want one loop", got)
	}
	if got := fallenLoops(append(asm.Instructions{loop[0]}, loop[2:]...)); len(got) != 0 {
		t.Errorf("found %v in a loop that closes by a jump", got)
	}
}

// fallenLoops walks the instructions as check_cfg of kernel/bpf/verifier.c does
// in Linux 6.1, each function on its own.
func fallenLoops(code asm.Instructions) (found []string) {
	at := make(map[int]int) // raw offset → index in code
	var starts []int
	for it, i := code.Iterate(), 0; it.Next(); i++ {
		at[int(it.Offset)] = i
		if i == 0 || it.Ins.Symbol() != "" {
			starts = append(starts, int(it.Offset))
		}
	}
	const (
		open = 1
		done = 2
	)
	state := make(map[int]int)
	var visit func(from, to int, jump bool)
	visit = func(from, to int, jump bool) {
		i, ok := at[to]
		if !ok || state[to] == done {
			return
		}
		if state[to] == open {
			if !jump {
				found = append(found, fmt.Sprintf("instruction %d falls back into %d, %v", from, to, code[i].Source()))
			}
			return
		}
		state[to] = open
		ins := code[i]
		next := to + int(ins.Size())/asm.InstructionSize
		switch op := ins.OpCode.JumpOp(); {
		case !ins.OpCode.Class().IsJump() || op == asm.Call:
			visit(to, next, false)
		case op == asm.Exit:
		case op == asm.Ja:
			visit(to, next+int(ins.Offset), true)
		default:
			visit(to, next, true)
			visit(to, next+int(ins.Offset), true)
		}
		state[to] = done
	}
	for _, s := range starts {
		visit(s, s, true)
	}
	return found
}
