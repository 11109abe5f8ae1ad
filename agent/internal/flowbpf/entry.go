package flowbpf

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Direction is the hook that a packet passed.
type Direction uint8

// The two directions, as seen from the host that the interface belongs to.
const (
	Ingress Direction = iota
	Egress
)

// String returns "ingress" or "egress".
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Entry is one conversation on one interface during one interval. The pair of
// endpoints is ordered: (A, APort) is the lower one, so both directions of a
// conversation meet in one entry whichever hook saw them.
type Entry struct {
	A, B         netip.Addr // of an IPv4 packet plain IPv4; IPv4-mapped only if an IPv6 packet has such addresses
	APort, BPort uint16     // 0 where the protocol has none, or a later fragment hides them
	Proto        uint8      // of the transport header, after IPv6 extension headers
	VLAN         uint16     // outermost 802.1Q or 802.1ad VLAN id, 0 if untagged
	InnerVLAN    uint16     // second VLAN id, 0 if there is none
	Place        Place      // the interface that saw it
	Tunnel       uint8      // the innermost encapsulation, as ebbwatch.Tunnel numbers them
	TunnelID     uint32     // its VNI or GRE key
	// Sampling is the rate 1:N at which packets were counted. Counters are not scaled.
	Sampling uint32

	// FirstNS and LastNS are CLOCK_MONOTONIC. FirstNS is precise, LastNS
	// is late by up to a timer tick (1 to 10 ms), but never below FirstNS.
	FirstNS, LastNS int64

	Side [2]Side // 0 is what A sent, 1 what B sent

	FirstSide          uint8     // 0: A sent the first packet of this entry
	FirstDirection     Direction // the hook that saw that packet
	ICMPType, ICMPCode uint8     // of the first packet
	Egress             Counters  // the part of both sides that passed the egress hook

	slot uint32
}

// Side is what one end of a conversation sent during the interval.
type Side struct {
	Counters
	// Flags holds every TCP flag bit seen, OR-ed, as in bytes 13 and 14 of the
	// header: FIN is 1, CWR 0x80, AE (once NS) 0x100.
	Flags uint16
	// When this side first sent a SYN without ACK, a SYN with ACK, a FIN, and a
	// RST: CLOCK_MONOTONIC, to the microsecond; 0 if it did not. Events that one
	// CPU saw have distinct times in the order of the packets.
	SYNNS, SYNACKNS, FINNS, RSTNS int64
	ACKNS                         int64 // the first packet with ACK and without SYN

	Retransmits, ZeroWindows, Resets uint32 // TCP segments
	// RTTUS is the smoothed round-trip time from where the packets passed to the
	// other side and back, in microseconds; KernelRTTUS what this side's socket on
	// this host says. 0 is unknown.
	RTTUS, KernelRTTUS uint32
	PID                uint32 // process that owns this side's socket on this host, 0 if unknown
}

// Counters counts packets as they are on the wire (a GSO super-packet counts
// its segments) and the bytes of their frames: link-layer header and VLAN tags
// included, frame check sequence not.
type Counters struct{ Packets, Bytes uint64 }

// Add adds d to c.
func (c *Counters) Add(d Counters) {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
}

// Totals is the account of one attach point over the interval that the visited
// entries cover. Seen is counted before anything else, so Balanced is a proof.
type Totals struct {
	Place     Place // zero: packets of interfaces that are not attached (test runs)
	Direction Direction
	Seen      Counters // everything that passed
	Recorded  Counters // the sum over the entries visited
	Overflow  Counters // no room in the flow map, or the kernel refused the insert
	Other     Counters // not IP, or not parseable
	Full      uint64   // packets of Overflow for which the map was full
	Refused   uint64   // packets of Overflow for which the kernel had another reason (EBUSY, ENOMEM)
	Skipped   Counters // left out by sampling
	Sampling  uint32   // the rate 1:N during the interval
	RunNS     uint64   // time that the programs ran, in nanoseconds, estimated
	Reasons   [reasons]uint64
	// Unread is the part of Recorded, in packets, that is in the flow between a
	// tunnel's ends, since the packet inside could not be read for that reason.
	Unread [reasons]uint64
}

// reasons is EBB_TOTAL_REASONS of bpf/lib/types.h; reasonsAt is where struct
// ebb_total has them.
const (
	reasons   = 5
	reasonsAt = 88
)

// ReasonNames returns the names of why a packet is Other, in the order of
// Totals.Reasons and Unread, for metrics and records.
func ReasonNames() [reasons]string {
	return [reasons]string{"not_ip", "truncated", "bad_header", "too_deep", "unknown_link"}
}

// Balanced reports whether every packet and byte seen is accounted for.
func (t *Totals) Balanced() bool {
	sum := t.Recorded
	sum.Add(t.Overflow)
	sum.Add(t.Other)
	sum.Add(t.Skipped)
	return sum == t.Seen
}

// eventShift is the unit of event times in struct ebb_flow: 1024 ns.
const eventShift = 10

// setKey4 and setKey6 set what the key of a map entry says.
func (e *Entry) setKey4(k *key4) {
	var a, b [4]byte
	binary.NativeEndian.PutUint32(a[:], k.A)
	binary.NativeEndian.PutUint32(b[:], k.B)
	e.A, e.B = netip.AddrFrom4(a), netip.AddrFrom4(b)
	e.setRest(&k.Rest)
}

func (e *Entry) setKey6(k *key6) {
	var a, b [16]byte
	for i := range 2 {
		binary.NativeEndian.PutUint64(a[8*i:], k.A[i])
		binary.NativeEndian.PutUint64(b[8*i:], k.B[i])
	}
	e.A, e.B = netip.AddrFrom16(a), netip.AddrFrom16(b)
	e.setRest(&k.Rest)
}

// setRest takes everything but the addresses; Place is the caller's to fill in.
func (e *Entry) setRest(r *objects.FlowEbbRest) {
	e.APort, e.BPort = bits.ReverseBytes16(r.A_port), bits.ReverseBytes16(r.B_port)
	e.slot = r.Place >> placeSlot
	e.Tunnel, e.TunnelID = uint8(r.Place>>placeTunnel&tunnelMask), r.Tunnel
	e.Proto = uint8(r.Tags)
	e.VLAN, e.InnerVLAN = uint16(r.Tags>>8&0xfff), uint16(r.Tags>>20)
}

func (e *Entry) setFlow(f *flow) {
	e.FirstNS = int64(f.FirstNs)
	e.LastNS = int64(max(f.FirstNs, f.LastNs)) // the coarse clock runs up to a tick behind
	e.FirstSide = f.FirstSide
	e.FirstDirection = Direction(f.FirstDirection)
	e.ICMPType, e.ICMPCode = f.IcmpType, f.IcmpCode
	e.Egress = Counters{f.Egress.Packets, f.Egress.Bytes}
	for i := range e.Side {
		ev := &f.Event[i]
		e.Side[i] = Side{
			Counters: Counters{f.Side[i].Packets, f.Side[i].Bytes},
			Flags:    f.Flags[i],
			SYNNS:    eventNS(f, ev[0]), SYNACKNS: eventNS(f, ev[1]),
			FINNS: eventNS(f, ev[2]), RSTNS: eventNS(f, ev[3]), ACKNS: eventNS(f, ev[4]),
			Retransmits: f.Tcp[i].Retransmits, ZeroWindows: uint32(f.Tcp[i].ZeroWindows), Resets: uint32(f.Tcp[i].Resets),
			RTTUS: uint32(uint64(f.Tcp[i].Rtt) << eventShift / 1000), KernelRTTUS: f.Tcp[i].KernelRtt, PID: f.Tcp[i].Pid,
		}
	}
}

func eventNS(f *flow, at uint32) int64 {
	if at == 0 {
		return 0
	}
	return int64(f.FirstNs) + int64(at-1)<<eventShift
}

// addRow adds one CPU's struct ebb_total.
func (t *Totals) addRow(row *[totalSize]byte) {
	for i, to := range []*uint64{
		&t.Seen.Packets, &t.Seen.Bytes, &t.Overflow.Packets, &t.Overflow.Bytes,
		&t.Other.Packets, &t.Other.Bytes, &t.Full, &t.Refused,
		&t.Skipped.Packets, &t.Skipped.Bytes, &t.RunNS,
	} {
		*to += binary.NativeEndian.Uint64(row[8*i:])
	}
	for i := range reasons {
		t.Reasons[i] += uint64(binary.NativeEndian.Uint32(row[reasonsAt+4*i:]))
		t.Unread[i] += uint64(binary.NativeEndian.Uint32(row[reasonsAt+4*(reasons+i):]))
	}
}
