package flowbpf

import (
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// The generated Go types must lie in memory as the C types do, without padding
// that neither names.
func TestTypesLieInMemoryAsInC(t *testing.T) {
	spec, err := objects.LoadFlow()
	if err != nil {
		t.Fatal(err)
	}
	var (
		k4  key4
		k6  key6
		f   flow
		tot total
		p   objects.FlowEbbPoint
		fr  objects.FlowEbbFragment
		fk  objects.FlowEbbFragmentKey
	)
	sizes := map[string]struct{ got, want uintptr }{
		"ebb_key4":         {unsafe.Sizeof(k4), 24},
		"ebb_key6":         {unsafe.Sizeof(k6), 48},
		"ebb_flow":         {unsafe.Sizeof(f), 192},
		"ebb_total":        {unsafe.Sizeof(tot), totalSize},
		"ebb_point":        {unsafe.Sizeof(p), 16},
		"ebb_fragment":     {unsafe.Sizeof(fr), 48},
		"ebb_fragment_key": {unsafe.Sizeof(fk), 56},
	}
	for name, size := range sizes {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("find %s: %v", name, err)
			continue
		}
		if uintptr(c.Size) != size.want || size.got != size.want {
			t.Errorf("%s has %d bytes in C and %d in Go, want %d", name, c.Size, size.got, size.want)
		}
		checkPacked(t, name, c)
	}
	offsets := map[string]struct{ got, want uintptr }{
		"flow.side":           {unsafe.Offsetof(f.Side), 16},
		"flow.egress":         {unsafe.Offsetof(f.Egress), 48},
		"flow.flags":          {unsafe.Offsetof(f.Flags), 64},
		"flow.first_side":     {unsafe.Offsetof(f.FirstSide), 68},
		"flow.event":          {unsafe.Offsetof(f.Event), 72},
		"flow.tcp":            {unsafe.Offsetof(f.Tcp), 120},
		"total.skipped":       {unsafe.Offsetof(tot.Skipped), 64},
		"total.run_ns":        {unsafe.Offsetof(tot.RunNs), 80},
		"total.reasons":       {unsafe.Offsetof(tot.Reasons), reasonsAt},
		"total.unread":        {unsafe.Offsetof(tot.Unread), reasonsAt + 4*reasons},
		"skBuff.mark":         {unsafe.Offsetof(skBuff{}.Mark), 8},
		"total.overflow":      {unsafe.Offsetof(tot.Overflow), 16},
		"total.other":         {unsafe.Offsetof(tot.Other), 32},
		"total.full":          {unsafe.Offsetof(tot.Full), 48},
		"total.refused":       {unsafe.Offsetof(tot.Refused), 56},
		"skBuff.ifindex":      {unsafe.Offsetof(skBuff{}.Ifindex), 40},
		"skBuff.tstamp":       {unsafe.Offsetof(skBuff{}.Tstamp), 152},
		"skBuff.wire_len":     {unsafe.Offsetof(skBuff{}.WireLen), 160},
		"skBuff.gso_segs":     {unsafe.Offsetof(skBuff{}.GSOSegs), 164},
		"skBuff.gso_size":     {unsafe.Offsetof(skBuff{}.GSOSize), 176},
		"skBuff's whole size": {unsafe.Sizeof(skBuff{}), 192},
	}
	for name, o := range offsets {
		if o.got != o.want {
			t.Errorf("%s is at %d, want %d", name, o.got, o.want)
		}
	}
	var slots objects.FlowVariableSpecs
	if err := spec.Assign(&slots); err != nil {
		t.Fatal(err)
	}
}

// checkPacked refuses holes between members.
func checkPacked(t *testing.T, name string, c *btf.Struct) {
	end := uint32(0)
	for _, m := range c.Members {
		if m.Offset.Bytes() != end {
			t.Errorf("%s has a hole before %s", name, m.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		end = m.Offset.Bytes() + uint32(size)
	}
	if end != c.Size {
		t.Errorf("%s has padding at its end", name)
	}
}
