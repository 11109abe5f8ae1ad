package flowbpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// reference says what should become of a frame, by recursion and slices, from
// the same rules as docs/datapath.md and none of the code in bpf/.
type reference struct {
	known map[datagram]packet // by first fragments; never forgets
}

// datagram is what its fragments have in common.
type datagram struct {
	src, dst    netip.Addr
	id          uint32
	proto       uint8
	vlan, inner uint16
	tunnel      uint8
	tunnelID    uint32
}

func newReference() *reference { return &reference{known: make(map[datagram]packet)} }

// layer is where an IP packet stands, and what is around it.
type layer struct {
	at, end  int
	family   uint8
	tunnel   uint8
	tunnelID uint32
	depth    int
	part     bool
}

func (r *reference) parse(frame []byte, ip bool) packet {
	w := walk{reference: r, frame: frame}
	l := layer{end: math.MaxInt, family: 6}
	var why uint8
	if !ip {
		why = w.ethernet(&l, true)
	} else if frame[0]>>4 == 4 {
		l.family = 4
	}
	var p packet
	if why == 0 {
		p, why = w.packet(l)
	}
	if why != 0 {
		return packet{reason: why}
	}
	return p
}

type walk struct {
	*reference
	frame       []byte
	vlan, inner uint16
}

// take returns n bytes at off, which lie within end and within the frame.
func (w *walk) take(off, n, end int) ([]byte, uint8) {
	if off+n > end {
		return nil, badHeader
	}
	if off+n > len(w.frame) {
		return nil, truncated
	}
	return w.frame[off : off+n], 0
}

// ethernet moves l behind an Ethernet header; outer says that its tags count.
func (w *walk) ethernet(l *layer, outer bool) (why uint8) {
	h, why := w.take(l.at, 14, math.MaxInt)
	if why != 0 {
		return why
	}
	l.at += 14
	typ := binary.BigEndian.Uint16(h[12:])
	isTag := func() bool { return typ == typeVLAN || typ == typeQinQ || typ == typeOldQ }
	var ids []uint16
	for ; isTag(); l.at += 4 {
		if len(ids) == 4 {
			return tooDeep
		}
		if h, why = w.take(l.at, 4, math.MaxInt); why != 0 {
			return why
		}
		ids = append(ids, binary.BigEndian.Uint16(h)&0xfff)
		typ = binary.BigEndian.Uint16(h[2:])
	}
	if ids = append(ids, 0, 0); outer {
		w.vlan, w.inner = ids[0], ids[1]
	}
	if typ == typePPPoE {
		if h, why = w.take(l.at, 8, math.MaxInt); why != 0 {
			return why
		}
		if h[0] != 0x11 || h[1] != 0 {
			return badHeader
		}
		l.at += 8
		typ = map[uint16]uint16{0x21: typeIP4, 0x57: typeIP6}[binary.BigEndian.Uint16(h[6:])]
	}
	return l.expect(typ)
}

func (l *layer) expect(typ uint16) (why uint8) {
	switch typ {
	case typeIP4:
		l.family = 4
	case typeIP6:
		l.family = 6
	default:
		return notIP
	}
	return 0
}

// packet returns the innermost packet that begins at l.
func (w *walk) packet(l layer) (packet, uint8) {
	p := packet{family: l.family, tunnel: l.tunnel, tunnelID: l.tunnelID, vlan: w.vlan, inner: w.inner}
	d := datagram{vlan: w.vlan, inner: w.inner, tunnel: l.tunnel, tunnelID: l.tunnelID}
	f, why := w.ip(&l, &p, &d)
	if why != 0 {
		return p, why
	}
	d.src, d.dst = p.src, p.dst
	l.part = l.part || f.first || f.later
	p.header = uint32(l.at)
	if f.later {
		if k, ok := w.known[d]; ok {
			p.family, p.src, p.dst, p.sport, p.dport, p.proto = k.family, k.src, k.dst, k.sport, k.dport, k.proto
			p.tunnel, p.tunnelID, p.typ, p.code = k.tunnel, k.tunnelID, k.typ, k.code
		}
		return p, 0
	}
	if why := w.transport(&l, &p); why != 0 {
		return p, why
	}
	next, found, why := w.tunnel(l, &p)
	switch {
	case !found:
	case why == 0 && l.depth == 2:
		p.reason = tooDeep
	case why == 0:
		inside, why := w.packet(next)
		if why == 0 {
			p = inside
		} else {
			p.reason = why
		}
	default:
		p.reason = why
	}
	if f.first {
		w.known[d] = p
	}
	return p, 0
}

type fragment struct{ first, later bool }

// ip reads the header of the family that l expects, and extension headers.
func (w *walk) ip(l *layer, p *packet, d *datagram) (f fragment, why uint8) {
	if l.family == 4 {
		f, why = w.ip4(l, p, d)
	} else {
		why = w.ip6(l, p)
	}
	for n := 0; why == 0 && !f.later && isExtension(p.proto, l.family); n++ {
		if n == 8 {
			return f, tooDeep
		}
		var h []byte
		if h, why = w.take(l.at, 8, l.end); why != 0 {
			return f, why
		}
		size := (int(h[1]) + 1) * 8
		switch p.proto {
		case protoAH:
			size = (int(h[1]) + 2) * 4
		case protoFragment:
			size = 8
			v := binary.BigEndian.Uint16(h[2:])
			f = fragment{first: v>>3 == 0 && v&1 != 0, later: v>>3 != 0}
			d.id = binary.BigEndian.Uint32(h[4:])
		}
		p.proto = h[0]
		l.at += size
	}
	return f, why
}

func (w *walk) ip4(l *layer, p *packet, d *datagram) (f fragment, why uint8) {
	h, why := w.take(l.at, 20, l.end)
	if why != 0 {
		return f, why
	}
	size, total := int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
	if h[0]>>4 != 4 || size < 20 || total != 0 && total < size {
		return f, badHeader
	}
	if total == 0 {
		total = len(w.frame) - l.at
	}
	l.end = min(l.end, l.at+total)
	l.at += size
	v := binary.BigEndian.Uint16(h[6:])
	f.later = v&0x1fff != 0
	f.first = !f.later && v&0x2000 != 0
	d.id, d.proto = uint32(binary.BigEndian.Uint16(h[4:])), h[9]
	p.proto = h[9]
	p.src, p.dst = netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
	return f, 0
}

func (w *walk) ip6(l *layer, p *packet) uint8 {
	h, why := w.take(l.at, 40, l.end)
	if why != 0 {
		return why
	}
	if h[0]>>4 != 6 {
		return badHeader
	}
	l.at += 40
	size := int(binary.BigEndian.Uint16(h[4:]))
	if size == 0 {
		size = len(w.frame) - l.at
	}
	l.end = min(l.end, l.at+size)
	p.proto = h[6]
	p.src, p.dst = netip.AddrFrom16([16]byte(h[8:])), netip.AddrFrom16([16]byte(h[24:]))
	return 0
}

func isExtension(proto, family uint8) bool {
	return proto == protoAH || family == 6 &&
		slices.Contains([]uint8{protoHop, protoRouting, protoFragment, protoDst, protoMobile, 139, 140}, proto)
}

func (w *walk) transport(l *layer, p *packet) uint8 {
	length := func(header int) {
		p.header += uint32(header)
		if !l.part {
			p.payload = uint32(max(0, l.end-int(p.header)))
		}
	}
	switch p.proto {
	case protoTCP, protoUDP, protoSCTP, 33, 136:
		h, why := w.take(l.at, 4, l.end)
		if why != 0 {
			return why
		}
		p.sport, p.dport = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
	case protoICMP, protoICMP6:
		if (p.proto == protoICMP) != (l.family == 4) {
			return 0
		}
		h, why := w.take(l.at, 2, l.end)
		if why != 0 {
			return why
		}
		p.typ, p.code = h[0], h[1]
	}
	switch p.proto {
	case protoTCP:
		if h, why := w.take(l.at, 16, l.end); why == 0 {
			p.seq, p.ack = binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])
			p.flags = binary.BigEndian.Uint16(h[12:]) & 0x1ff
			p.window = binary.BigEndian.Uint16(h[14:])
			length(max(20, int(h[12]>>4)*4))
		}
	case protoUDP:
		length(8)
	}
	return 0
}
