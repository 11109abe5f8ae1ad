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
	typeEther, typePPPoE, typeMPLS                           uint16 = 0x6558, 0x8864, 0x8847
	portVXLAN, portVXLANOld                                  uint16 = 4789, 8472

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

// vxlan is a UDP datagram with a VXLAN header; the flags' I bit is 8.
func vxlan(dport uint16, flags uint8, vni uint32, payload ...[]byte) []byte {
	p := join(payload...)
	return join(udp(49152, dport, 8+len(p))[:8], []byte{flags, 0, 0, 0}, be32(vni<<8), p)
}

// geneve is a UDP datagram with a Geneve header and 4 bytes for each option word.
func geneve(vni uint32, options int, proto uint16, payload ...[]byte) []byte {
	p := join(payload...)
	return join(udp(49153, 6081, 8+4*options+len(p))[:8], []byte{uint8(options), 0}, be16(proto), be32(vni<<8),
		make([]byte, 4*options), p)
}

// gre is a GRE header with the optional words that its flags ask for; each but
// the key is zero.
func gre(flags, proto uint16, key uint32, payload ...[]byte) []byte {
	b := be16(flags, proto)
	if flags&0x8000 != 0 {
		b = append(b, 0, 0, 0, 0)
	}
	if flags&0x2000 != 0 {
		b = append(b, be32(key)...)
	}
	if flags&0x1000 != 0 {
		b = append(b, 0, 0, 0, 0)
	}
	return join(b, join(payload...))
}

// pppoe is the session header behind EtherType 0x8864, with the PPP protocol.
func pppoe(proto uint16, payload ...[]byte) []byte {
	p := join(payload...)
	return join([]byte{0x11, 0}, be16(77, uint16(len(p)+2), proto), p)
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
