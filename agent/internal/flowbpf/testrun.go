package flowbpf

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// TestRun is a request to push one frame through a program of the datapath
// without an interface (BPF_PROG_TEST_RUN).
type TestRun struct {
	// Frame begins with the link-layer header, and holds at least 14 bytes; the
	// kernel takes about 3,500 bytes at most.
	Frame     []byte
	Direction Direction
	// Ifindex is the interface to pretend. It must exist in the process' network
	// namespace; 0 is the loopback interface there.
	Ifindex uint32
	Repeat  uint32 // how often, 0 is once
	GSOSegs uint32 // segments of a super-packet, 0 for none
	GSOSize uint32 // payload bytes of a segment
	WireLen uint32 // what the kernel computed for segments on egress, 0 for the frame's length
	TimeNS  int64  // with Config.Replay: the packet's time
	// Length is the frame's length on the wire, with Config.Replay: Frame may be
	// its beginning only. 0 is the length of Frame.
	Length uint32
}

// skBuff is the user API's struct __sk_buff up to hwtstamp (192 bytes).
type skBuff struct {
	_       [8]byte
	Mark    uint32
	_       [28]byte
	Ifindex uint32
	_       [108]byte
	Tstamp  uint64
	WireLen uint32
	GSOSegs uint32
	_       uint64
	GSOSize uint32
	_       [12]byte
}

// Pretend registers an interface for test runs without attaching to it, so that
// it has totals of its own. ip says that its frames begin with the IP header.
// Drain keeps it until Detach.
func (d *Datapath) Pretend(ifindex uint32, ip bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	place := Place{Ifindex: ifindex}
	if d.attached[place] != nil {
		return ErrAttached
	}
	a := &attachment{point: objects.FlowEbbPoint{Ifindex: ifindex, Link: linkEthernet}}
	if ip {
		a.point.Link = linkIP
	}
	if err := d.register(place, &a.point); err != nil {
		return err
	}
	d.attached[place] = a
	return nil
}

// Run pushes the frame. The totals and entries of an interface that was not
// registered by Attach or Pretend are those of interface 0. With Repeat above 1
// a signal can make it run more often. Safe for concurrent use.
func (d *Datapath) Run(r *TestRun) error {
	ctx := skBuff{
		Mark: r.Length, Ifindex: r.Ifindex, Tstamp: uint64(r.TimeNS),
		WireLen: r.WireLen, GSOSegs: r.GSOSegs, GSOSize: r.GSOSize,
	}
	if r.Length == 0 {
		ctx.Mark = uint32(len(r.Frame))
	}
	// As bytes: for a struct, the library walks its fields at every call.
	raw := (*[unsafe.Sizeof(ctx)]byte)(unsafe.Pointer(&ctx))[:]
	ret, err := d.program(r.Direction).Run(&ebpf.RunOptions{Data: r.Frame, Context: raw, Repeat: max(r.Repeat, 1)})
	if err != nil {
		return fmt.Errorf("run program: %w", err)
	}
	return checkReturn(ret)
}

// Benchmark runs the ingress program, or with empty one that does nothing, on
// the frame from the loopback interface, and returns the mean time of a run as
// the kernel measured it.
func (d *Datapath) Benchmark(frame []byte, repeat int, empty bool) (time.Duration, error) {
	prog := d.objs.EbbIngress
	if empty {
		prog = d.objs.EbbEmpty
	}
	ret, mean, err := prog.Benchmark(frame, repeat, nil)
	if err != nil {
		return 0, fmt.Errorf("benchmark program: %w", err)
	}
	return mean, checkReturn(ret)
}

// checkReturn holds a program to TCX_NEXT: it must never decide a packet's fate.
func checkReturn(ret uint32) error {
	if int32(ret) != -1 {
		return fmt.Errorf("program returned %d, want -1", int32(ret))
	}
	return nil
}
