package conn

import (
	"math"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// health is what a side suffered, scaled by the sampling rate n.
func health(s *flowbpf.Side, n uint64) ebbwatch.Health {
	scale := func(v uint32) uint32 { return uint32(min(uint64(v)*n, math.MaxUint32)) }
	return ebbwatch.Health{Retransmits: scale(s.Retransmits), ZeroWindows: scale(s.ZeroWindows), Resets: scale(s.Resets)}
}

// roundTrip is the smoothed round-trip time of a conversation: a socket's own,
// else what the packets told of both ways, from here to each side and back.
func roundTrip(src, dst *flowbpf.Side) uint32 {
	if kernel := max(src.KernelRTTUS, dst.KernelRTTUS); kernel != 0 {
		return kernel
	}
	return src.RTTUS + dst.RTTUS
}

// handshake returns the time from the initiator's first SYN to its ACK of the
// SYN-ACK in microseconds, in the record that sees the latter, else 0. The SYN
// may have been an interval earlier.
func (c *conversation) handshake(e *flowbpf.Entry) uint32 {
	if c.initiator != ebbwatch.InitiatorSYN {
		return 0
	}
	s := &e.Side[c.src]
	if c.synNS == 0 {
		c.synNS = s.SYNNS
	}
	if c.timed || c.synNS == 0 || s.ACKNS <= c.synNS || c.seen[1-c.src]&SentSYNACK == 0 {
		return 0
	}
	c.timed = true
	return uint32(min(max(1, (s.ACKNS-c.synNS)/1000), math.MaxUint32))
}
