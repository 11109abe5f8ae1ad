package flowbpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Frames are built by hand, so that a test can lie in every header.

var (
	ip4a, ip4b = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	ip6a, ip6b = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

const (
	protoHop, protoICMP, protoIPIP, protoTCP, protoUDP              = 0, 1, 4, 6, 17
	protoRouting, protoFragment, protoGRE, protoESP, protoAH        = 43, 44, 47, 50, 51
	protoICMP6, protoNone, protoDst, protoSCTP, protoMobile         = 58, 59, 60, 132, 135
	typeIP4, typeIP6, typeARP, typeVLAN, typeQinQ, typeOldQ  uint16 = 0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x9100

	fin, syn, rst, psh, ack, urg, ece, cwr, ae uint16 = 1, 2, 4, 8, 16, 32, 64, 128, 256
)

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func be16(v ...uint16) []byte {
	var b []byte
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	return b
}

func ether(proto uint16, payload ...[]byte) []byte {
	return join([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, be16(proto), join(payload...))
}

// tag is the part of a VLAN tag after its own ethertype: TCI and the next type.
func tag(tci, next uint16) []byte { return be16(tci, next) }

type ip4 struct {
	src, dst netip.Addr
	proto    uint8
	id, frag uint16 // frag holds flags and offset as in the header
	options  []byte
	lie      func(header []byte)
}

func (h ip4) with(payload ...[]byte) []byte {
	p := join(payload...)
	if !h.src.IsValid() {
		h.src, h.dst = ip4a, ip4b
	}
	b := join([]byte{0x45 + uint8(len(h.options)/4), 0}, be16(uint16(20+len(h.options)+len(p)), h.id, h.frag),
		[]byte{64, h.proto, 0, 0}, h.src.AsSlice(), h.dst.AsSlice(), h.options)
	if h.lie != nil {
		h.lie(b)
	}
	return join(b, p)
}

type ip6 struct {
	src, dst netip.Addr
	next     uint8
	lie      func(header []byte)
}

func (h ip6) with(payload ...[]byte) []byte {
	p := join(payload...)
	if !h.src.IsValid() {
		h.src, h.dst = ip6a, ip6b
	}
	b := join([]byte{0x60, 0, 0, 0}, be16(uint16(len(p))), []byte{h.next, 64}, h.src.AsSlice(), h.dst.AsSlice())
	if h.lie != nil {
		h.lie(b)
	}
	return join(b, p)
}

// extension is an IPv6 extension header of 8*(words+1) bytes.
func extension(next uint8, words int) []byte {
	return join([]byte{next, uint8(words), 1, 4, 0, 0, 0, 0}, make([]byte, 8*words))
}

func fragment6(next uint8, offset, id uint16, more bool) []byte {
	v := offset << 3
	if more {
		v |= 1
	}
	return join([]byte{next, 0}, be16(v, 0, id))
}

func tcp(sport, dport, flags uint16, payload int) []byte {
	return tcpOptions(sport, dport, flags, 0, payload)
}

// tcpOptions is a TCP segment with the given bytes of options, a multiple of 4.
func tcpOptions(sport, dport, flags uint16, options, payload int) []byte {
	return join(be16(sport, dport), make([]byte, 8), be16(uint16(5+options/4)<<12|flags, 1024, 0, 0), make([]byte, options+payload))
}

func udp(sport, dport uint16, payload int) []byte {
	return join(be16(sport, dport, uint16(8+payload), 0), make([]byte, payload))
}

func icmp(typ, code uint8) []byte { return []byte{typ, code, 0, 0, 0, 1, 0, 1} }
