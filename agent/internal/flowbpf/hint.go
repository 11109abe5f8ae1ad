package flowbpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Hint is the beginning of what one side of a conversation says, or what
// follows on it.
type Hint struct {
	Key        Key
	Side       uint8 // 0: said by Key.A
	TimeNS     int64 // CLOCK_MONOTONIC
	Seq        uint32
	PayloadLen uint32 // bytes of the packet's payload, of which Data may be the beginning
	Continued  bool   // Data follows on an earlier hint of the same side
	Data       []byte
}

// Hints calls visit for each hint that came since the last call, in the order
// of the packets of each CPU. The Hint is valid until visit returns. It is safe
// to call beside Drain, but not beside itself.
func (d *Datapath) Hints(visit func(*Hint)) error {
	var h Hint
	err := d.hints.read(func(sample []byte) {
		if h.set(sample) {
			visit(&h)
		}
	})
	if err != nil {
		return fmt.Errorf("read hints: %w", err)
	}
	return nil
}

// HintsLost returns how many hints found no room since the programs were loaded.
func (d *Datapath) HintsLost() uint64 {
	var lost uint64
	if err := d.objs.EbbHintsLost.Get(&lost); err != nil {
		return 0
	}
	return lost
}

const hintSize = int(unsafe.Sizeof(objects.FlowEbbHint{}))

// set reads a record of the ring; false if it is none.
func (h *Hint) set(sample []byte) bool {
	if len(sample) < hintSize {
		return false
	}
	raw := (*objects.FlowEbbHint)(unsafe.Pointer(&sample[0])) // the ring's records are 8-byte aligned
	var e Entry
	e.setRest(&raw.Rest)
	e.A, e.B = hintAddr(&raw.A, raw.Family), hintAddr(&raw.B, raw.Family)
	*h = Hint{
		Key: e.Key(), Side: raw.Side & 1, TimeNS: int64(raw.Ns), Seq: raw.Seq, PayloadLen: raw.PayloadLen,
		Continued: raw.Continued != 0, Data: sample[hintSize:min(len(sample), hintSize+int(raw.Len))],
	}
	return true
}

func hintAddr(words *[2]uint64, family uint8) netip.Addr {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:], words[0])
	binary.NativeEndian.PutUint64(b[8:], words[1])
	if family == 4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}
