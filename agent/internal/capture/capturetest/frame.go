package capturetest

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// IP protocol numbers.
const (
	HopByHop = 0
	ICMP     = 1
	IPIP     = 4
	TCP      = 6
	UDP      = 17
	IPv6inIP = 41
	Routing  = 43
	Fragment = 44
	GRE      = 47
	ESP      = 50
	AH       = 51
	ICMP6    = 58
	NoNext   = 59
	DestOpts = 60
	SCTP     = 132
	UDPLite  = 136
)

// Ethertypes.
const (
	EtherIP4   = 0x0800
	EtherARP   = 0x0806
	EtherTEB   = 0x6558
	EtherVLAN  = 0x8100
	EtherIP6   = 0x86dd
	EtherMPLS  = 0x8847
	EtherPPPoE = 0x8864
	EtherQinQ  = 0x88a8
	EtherOldQ  = 0x9100
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE
)

// BE returns 16-bit numbers in network byte order.
func BE(v ...uint16) []byte { return u16(binary.BigEndian, v...) }

// Ether returns an Ethernet frame.
func Ether(ethertype uint16, payload ...[]byte) []byte {
	return slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, BE(ethertype), slices.Concat(payload...))
}

// IP4 is an IPv4 header. Length and header length are right unless Lie changes them.
type IP4 struct {
	Src, Dst netip.Addr
	Proto    uint8
	ID, Frag uint16 // Frag holds flags and offset as in the header
	Options  []byte // of a multiple of 4 bytes
	Lie      func(header []byte)
}

// With returns the packet.
func (h IP4) With(payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	b := slices.Concat([]byte{0x45 + uint8(len(h.Options)/4), 0}, BE(uint16(20+len(h.Options)+len(p)), h.ID, h.Frag),
		[]byte{64, h.Proto, 0, 0}, h.Src.AsSlice(), h.Dst.AsSlice(), h.Options)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	if h.Lie != nil {
		h.Lie(b)
	}
	return append(b, p...)
}

// IP6 is an IPv6 header.
type IP6 struct {
	Src, Dst netip.Addr
	Next     uint8
	Lie      func(header []byte)
}

// With returns the packet.
func (h IP6) With(payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	b := slices.Concat([]byte{0x60, 0, 0, 0}, BE(uint16(len(p))), []byte{h.Next, 64}, h.Src.AsSlice(), h.Dst.AsSlice())
	if h.Lie != nil {
		h.Lie(b)
	}
	return append(b, p...)
}

// Extension is an IPv6 extension header of 8*(words+1) bytes, filled with a padding option.
func Extension(next uint8, words int) []byte {
	return slices.Concat([]byte{next, uint8(words), 1, uint8(8*words + 4)}, make([]byte, 8*words+4))
}

// Fragment6 is an IPv6 fragment header; offset is in units of 8 bytes.
func Fragment6(next uint8, offset uint16, id uint32, more bool) []byte {
	v := offset << 3
	if more {
		v |= 1
	}
	return binary.BigEndian.AppendUint32(slices.Concat([]byte{next, 0}, BE(v)), id)
}

// Segment is a TCP segment.
type Segment struct {
	Sport, Dport uint16
	Flags        uint16
	Seq, Ack     uint32
	Window       uint16
	Options      []byte // of a multiple of 4 bytes
	Payload      []byte
}

// Bytes returns the segment.
func (s Segment) Bytes() []byte {
	b := slices.Concat(BE(s.Sport, s.Dport), u32(binary.BigEndian, s.Seq, s.Ack), BE(uint16(5+len(s.Options)/4)<<12|s.Flags, s.Window, 0, 0))
	return slices.Concat(b, s.Options, s.Payload)
}

// Datagram is a UDP datagram.
func Datagram(sport, dport uint16, payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	return slices.Concat(BE(sport, dport, uint16(8+len(p)), 0), p)
}

// Ping is an ICMP message, or one of ICMPv6, with an identifier and a number.
func Ping(typ, code uint8, payload ...[]byte) []byte {
	return slices.Concat([]byte{typ, code, 0, 0, 0, 1, 0, 1}, slices.Concat(payload...))
}
