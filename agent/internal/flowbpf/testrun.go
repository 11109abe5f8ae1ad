package flowbpf

import "time"

// TestRun is a request to push one frame through a program of the datapath
// without an interface (BPF_PROG_TEST_RUN).
type TestRun struct {
	Frame     []byte // from the link-layer header on, at least 14 bytes
	Direction Direction
	Ifindex   uint32 // interface to pretend; 0 is the loopback of the process' namespace
	Repeat    uint32 // how often, 0 is once
	GSOSegs   uint32 // segments of a super-packet, 0 for none
	GSOSize   uint32 // payload bytes a segment
	TimeNS    int64  // with Config.PacketTime: the packet's time
}

// Run pushes the frame and returns the mean time of one run as the kernel
// measured it. Runs of one Datapath must not overlap.
func (d *Datapath) Run(r *TestRun) (time.Duration, error) { return 0, errTODO }
