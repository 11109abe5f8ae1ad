package replay

import "github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"

// setLength tells the datapath the frame's length on the link.
func setLength(run *flowbpf.TestRun, length uint32) { run.Length = length }

// refusals adds what the datapath refused at an attach point.
func (t *Totals) refusals(p *flowbpf.Totals) {
	if p.Other.Packets > 0 {
		t.refuse("other", p.Other.Packets, p.Other.Bytes)
	}
}
