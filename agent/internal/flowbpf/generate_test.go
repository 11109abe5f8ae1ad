package flowbpf

import (
	"math/rand/v2"
	"net/netip"
)

// generator makes frames at random: each is well formed, though it may be more
// than the parsers follow, and fragments have no more in common than a few ids.
type generator struct {
	*rand.Rand
	noGeneric bool // no VXLAN with the protocol field of its generic extension
}

func newGenerator(seed uint64) generator { return generator{Rand: rand.New(rand.NewPCG(seed, 0))} }

func (g generator) chance(one int) bool { return g.IntN(one) == 0 }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

// frame returns a frame; ip says that it begins with the IP header.
func (g generator) frame() (frame []byte, ip bool) {
	typ, p := g.packet(pick(g, 0, 0, 1, 1, 1, 2, 3, 4))
	if g.chance(10) {
		return p, true
	}
	return g.ethernet(typ, p), false
}

func (g generator) ethernet(typ uint16, p []byte) []byte {
	switch g.IntN(12) {
	case 0:
		p, typ = pppoe(map[uint16]uint16{typeIP4: 0x21, typeIP6: 0x57}[typ], p), typePPPoE
	case 1:
		return ether(pick(g, typeARP, typeMPLS, 100), p)
	}
	if g.chance(4) {
		for range 1 + g.IntN(5) {
			p = join(tag(uint16(g.Uint32()), typ), p)
			typ = pick(g, typeVLAN, typeQinQ, typeOldQ)
		}
	}
	return ether(typ, p)
}

// packet is an IP packet with at most the given number of tunnels inside.
func (g generator) packet(tunnels int) (typ uint16, p []byte) {
	proto, payload := g.transport()
	if tunnels > 0 {
		proto, payload = g.tunnel(tunnels)
	}
	frag := uint16(0)
	if g.chance(5) {
		frag = pick[uint16](g, 0x2000, 0x2000, 1, 0x2001, 0x1fff, 0x4000)
	}
	if g.chance(3) {
		return typeIP6, g.ip6(proto, frag, payload)
	}
	h := ip4{src: g.address4(), dst: g.address4(), proto: proto, id: uint16(g.IntN(3)), frag: frag}
	if g.chance(6) {
		h.options = make([]byte, 4*(1+g.IntN(10)))
	}
	if g.chance(12) {
		h.proto = protoAH
		payload = join(extension(proto, 4)[:24], payload)
	}
	return typeIP4, h.with(payload)
}

func (g generator) ip6(proto uint8, frag uint16, payload []byte) []byte {
	if frag != 0 {
		payload = join(fragment6(proto, frag&0x1fff, uint16(g.IntN(3)), frag&0x2000 != 0), payload)
		proto = protoFragment
	}
	if g.chance(4) {
		for range 1 + g.IntN(9) {
			words := g.IntN(3)
			payload = join(extension(proto, words), payload)
			proto = pick[uint8](g, protoHop, protoRouting, protoDst, protoMobile)
		}
	}
	return ip6{src: g.address6(), dst: g.address6(), next: proto}.with(payload)
}

func (g generator) address4() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + g.IntN(3))})
}

func (g generator) address6() netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 15: byte(1 + g.IntN(3))})
}

func (g generator) transport() (proto uint8, p []byte) {
	sport, dport := uint16(g.Uint32()), pick[uint16](g, 53, 80, 443, 40000, portVXLAN, 6081)
	switch g.IntN(8) {
	case 0, 1, 2:
		b := tcpOptions(sport, dport, uint16(g.Uint32N(0x200)), 4*g.IntN(4), g.IntN(40))
		for i := 4; i < 12; i++ {
			b[i] = byte(g.Uint32())
		}
		return protoTCP, b
	case 3, 4:
		return protoUDP, udp(sport, dport, g.IntN(40))
	case 5:
		return pick[uint8](g, protoICMP, protoICMP6), icmp(uint8(g.IntN(20)), uint8(g.IntN(4)))
	case 6:
		return protoSCTP, join(be16(sport, dport), make([]byte, 12))
	default:
		return pick[uint8](g, protoESP, protoNone, 253), make([]byte, g.IntN(30))
	}
}

func (g generator) tunnel(tunnels int) (proto uint8, p []byte) {
	typ, inside := g.packet(tunnels - 1)
	id := uint32(g.IntN(3))
	if inEther := g.ethernet(typ, inside); g.chance(2) && typ != 0 {
		switch g.IntN(4) {
		case 0:
			return protoUDP, vxlan(portVXLAN, 8, id, inEther)
		case 1:
			return protoUDP, vxlan(portVXLANOld, 0x88, id, inEther)
		case 2:
			return protoUDP, geneve(id, g.IntN(6), typeEther, inEther)
		default:
			return protoGRE, gre(pick[uint16](g, 0, 0x2000, 0xb000), typeEther, id, inEther)
		}
	}
	kind := g.IntN(6)
	if kind == 0 && g.noGeneric {
		kind = 1
	}
	switch kind {
	case 0:
		b := vxlan(portVXLAN, 8|4, id, inside)
		b[11] = map[uint16]byte{typeIP4: 1, typeIP6: 2}[typ]
		return protoUDP, b
	case 1:
		return protoUDP, geneve(id, g.IntN(64), typ, inside)
	case 2, 3:
		return protoGRE, gre(pick[uint16](g, 0, 0x8000, 0x2000, 0x1000, 0xb000, 1, 0x4000), typ, id, inside)
	default:
		return map[uint16]uint8{typeIP4: protoIPIP, typeIP6: 41}[typ], inside
	}
}
