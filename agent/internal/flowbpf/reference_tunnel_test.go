package flowbpf

import "encoding/binary"

// tunnel returns where the packet inside p is, if p looks like a tunnel's.
func (w *walk) tunnel(l layer, p *packet) (next layer, found bool, why uint8) {
	next = layer{at: l.at, end: l.end, depth: l.depth + 1, part: l.part}
	var typ uint16
	switch {
	case p.proto == protoIPIP:
		next.tunnel, typ = inIPIP, typeIP4
	case p.proto == 41:
		next.tunnel, typ = inIPIP, typeIP6
	case p.proto == protoGRE:
		next.tunnel = inGRE
		typ, why = w.gre(&next)
	case p.proto == protoUDP && (p.dport == portVXLAN || p.dport == portVXLANOld):
		next.tunnel = inVXLAN
		typ, why = w.vxlan(&next)
	case p.proto == protoUDP && p.dport == 6081:
		next.tunnel = inGeneve
		typ, why = w.geneve(&next)
	default:
		return next, false, 0
	}
	switch {
	case why != 0:
	case typ == typeEther:
		why = w.ethernet(&next, false)
	default:
		why = next.expect(typ)
	}
	return next, true, why
}

func (w *walk) gre(l *layer) (typ uint16, why uint8) {
	h, why := w.take(l.at, 4, l.end)
	if why != 0 {
		return 0, why
	}
	flags := binary.BigEndian.Uint16(h)
	if flags&0x4c00 != 0 || flags&7 != 0 {
		return 0, notIP
	}
	l.at += 4
	for _, bit := range []uint16{0x8000, 0x2000, 0x1000} {
		if flags&bit == 0 {
			continue
		}
		if bit == 0x2000 {
			key, why := w.take(l.at, 4, l.end)
			if why != 0 {
				return 0, why
			}
			l.tunnelID = binary.BigEndian.Uint32(key)
		}
		l.at += 4
	}
	return binary.BigEndian.Uint16(h[2:]), 0
}

func (w *walk) vxlan(l *layer) (typ uint16, why uint8) {
	h, why := w.take(l.at, 16, l.end)
	if why != 0 {
		return 0, why
	}
	if h[8]&8 == 0 {
		return 0, badHeader
	}
	l.at += 16
	l.tunnelID = binary.BigEndian.Uint32(h[12:]) >> 8
	if h[8]&4 != 0 {
		return map[uint8]uint16{1: typeIP4, 2: typeIP6, 3: typeEther}[h[11]], 0
	}
	return typeEther, 0
}

func (w *walk) geneve(l *layer) (typ uint16, why uint8) {
	h, why := w.take(l.at, 16, l.end)
	switch {
	case why != 0:
		return 0, why
	case h[8]>>6 != 0:
		return 0, badHeader
	case h[9]&0x80 != 0:
		return 0, notIP
	}
	l.at += 16 + int(h[8]&0x3f)*4
	l.tunnelID = binary.BigEndian.Uint32(h[12:]) >> 8
	return binary.BigEndian.Uint16(h[10:]), 0
}
