package l7

import (
	"cmp"
	"slices"
	"strconv"
)

// Versions of QUIC: RFC 9000, RFC 9369.
const (
	quic1 = 0x00000001
	quic2 = 0x6b3343cf
)

const (
	quicMaxID       = 20   // of a connection id in versions 1 and 2
	quicMinFirst    = 1200 // bytes of a client's first datagram
	quicMinClientID = 8    // bytes of the id that a client makes up
	quicMaxPackets  = 8    // of a beginning that are looked at
	quicMaxParts    = 64   // CRYPTO frames of a beginning that are looked at
)

// Types of long-header packets, as version 1 numbers them.
const (
	quicInitial = 0
	quicRetry   = 3
)

// QUICVersionName returns "1", "2", "draft-29" for 0xff00001d, else the number
// in hexadecimal; "" for 0.
func QUICVersionName(v uint32) string {
	switch {
	case v == 0:
		return ""
	case v == quic1:
		return "1"
	case v == quic2:
		return "2"
	case v>>8 == 0xff0000:
		return "draft-" + strconv.Itoa(int(v&0xff))
	}
	const digits = "0123456789abcdef"
	b := []byte("0x00000000")
	for i := range 8 {
		b[9-i] = digits[v>>(4*i)&0xf]
	}
	return string(b)
}

// quicKnown tells whether a version number alone is a mark of QUIC: published
// versions, the drafts that were deployed, and Meta's.
func quicKnown(v uint32) bool {
	return v == quic1 || v == quic2 || v >= 0xff00001b && v <= 0xff000022 || v>>4 == 0xfaceb00
}

// quicReserved tells whether a version exists to force negotiation (RFC 9000,
// section 15).
func quicReserved(v uint32) bool { return v&0x0f0f0f0f == 0x0a0a0a0a }

// longHeader is what every version has in common (RFC 8999, section 5.1).
type longHeader struct {
	first    byte
	version  uint32
	dst, src []byte
}

func (l *longHeader) read(c *cursor) bool {
	l.first, l.version = c.u8(), c.u32()
	l.dst = c.take(int(c.u8()))
	l.src = c.take(int(c.u8()))
	return !c.short && l.first&0x80 != 0
}

// kind returns the packet's type by the numbers of version 1.
func (l *longHeader) kind() byte {
	kind := l.first >> 4 & 3
	if l.version == quic2 { // RFC 9369, section 3.2
		kind = (kind + 3) & 3
	}
	return kind
}

// quic reads the first datagram of a side, or the first few. It is QUIC if its
// version is known, or if it can be nothing but an offer of an unknown one.
func (p *Parser) quic(h *Hint, b []byte, cut bool) {
	c := cursor{b: b}
	var l longHeader
	if !l.read(&c) {
		return
	}
	switch {
	case l.version == 0:
		quicNegotiation(h, c)
		return
	case quicReserved(l.version):
		if l.first&0x40 != 0 && len(l.dst) >= quicMinClientID && len(l.dst) <= quicMaxID && len(l.src) <= quicMaxID && len(b) >= quicMinFirst {
			h.App, h.QUICVersion = AppQUIC, l.version
		}
		return
	case !quicKnown(l.version) || l.first&0x40 == 0 || len(l.dst) > quicMaxID || len(l.src) > quicMaxID:
		return
	}
	if l.version != quic1 && l.version != quic2 { // nobody has their keys by heart
		h.App, h.QUICVersion = AppQUIC, l.version
		return
	}
	switch l.kind() {
	case quicInitial:
		p.quicInitials(h, l, b, cut)
	case quicRetry:
		h.App, h.QUICVersion, h.Response = AppQUIC, l.version, true
	default:
		h.App, h.QUICVersion = AppQUIC, l.version
	}
}

// quicNegotiation reads a list of versions (RFC 8999, section 6), which is of
// QUIC if it has one that is known.
func quicNegotiation(h *Hint, c cursor) {
	if len(c.b)%4 != 0 {
		return
	}
	for len(c.b) > 0 {
		if quicKnown(c.u32()) {
			h.App, h.Response = AppQUIC, true
			return
		}
	}
}

// quicInitials opens the Initial packets that b begins with, and reads the
// ClientHello out of their CRYPTO frames.
func (p *Parser) quicInitials(h *Hint, first longHeader, b []byte, cut bool) {
	p.plain, p.parts = p.plain[:0], p.parts[:0]
	var keys *initialKeys
	for range quicMaxPackets {
		for len(b) > 0 && b[0] == 0 { // a datagram can be filled up with zeros
			b = b[1:]
		}
		packet, flaw := readInitial(b, first.version)
		if flaw == FlawTruncated && !cut && keys == nil {
			flaw = FlawMalformed // the datagram ends before its packet
		}
		if keys == nil && flaw == FlawMalformed {
			h.blame(AppQUIC, flaw)
			return
		}
		h.App, h.QUICVersion = AppQUIC, first.version
		if flaw != FlawNone || packet.protected == nil {
			if flaw == FlawTruncated && keys == nil {
				h.blame(AppQUIC, flaw)
			}
			break
		}
		b = b[packet.size:]
		if keys == nil {
			var err error
			if keys, err = newInitialKeys(first.version, first.dst); err != nil {
				return // this system's cryptography refuses keys of this kind
			}
		}
		from := len(p.plain)
		if !p.openInitial(keys, &packet) {
			if from == 0 { // by a server, or by a client that goes on
				h.Response = true
				return
			}
			break
		}
		if f := p.cryptoFrames(from); f != FlawNone {
			h.blame(AppQUIC, f)
			break
		}
	}
	if keys == nil {
		return
	}
	message := p.joinCrypto()
	if len(message) > 0 && message[0] != handshakeClientHello {
		h.blame(AppQUIC, FlawMalformed)
		return
	}
	p.clientHello(h, AppQUIC, message, 'q')
}

// initial is an Initial packet, still protected (RFC 9000, section 17.2.2).
type initial struct {
	size      int    // of the whole packet
	header    []byte // up to the packet number
	protected []byte // packet number and payload
}

// readInitial finds the bounds of the packet that b begins with. Its protected
// part is nil if the packet is not an Initial of that version.
func readInitial(b []byte, version uint32) (initial, Flaw) {
	c := cursor{b: b}
	var l longHeader
	if len(b) == 0 || !l.read(&c) || l.version != version || l.kind() != quicInitial {
		return initial{}, FlawNone
	}
	token := c.varint()
	if c.short || token > uint64(len(c.b)) {
		return initial{}, FlawTruncated
	}
	c.take(int(token))
	length := c.varint()
	if c.short || length > uint64(len(c.b)) {
		return initial{}, FlawTruncated
	}
	if length < 4+sampleSize {
		return initial{}, FlawMalformed
	}
	header := len(b) - len(c.b)
	return initial{size: header + int(length), header: b[:header], protected: c.take(int(length))}, FlawNone
}

// part is a piece of the handshake: where it belongs, and where it is in plain.
type part struct {
	offset   uint64
	from, to int
}

// cryptoFrames notes the CRYPTO frames of the payload at plain[from:]; no other
// frames but these may be in an Initial (RFC 9000, section 12.4).
func (p *Parser) cryptoFrames(from int) Flaw {
	c := cursor{b: p.plain[from:]}
	for len(c.b) > 0 {
		switch kind := c.varint(); kind {
		case 0, 1: // PADDING, PING
		case 2, 3: // ACK
			c.varint()
			c.varint()
			ranges := c.varint()
			c.varint()
			for range min(ranges, MaxPayload) {
				c.varint()
				c.varint()
			}
			if kind == 3 {
				c.varint()
				c.varint()
				c.varint()
			}
		case 6: // CRYPTO
			offset, length := c.varint(), c.varint()
			if c.short || length > uint64(len(c.b)) {
				return FlawMalformed
			}
			begin := len(p.plain) - len(c.b)
			c.take(int(length))
			if len(p.parts) == quicMaxParts {
				return FlawOversized
			}
			if offset < maxHello {
				p.parts = append(p.parts, part{offset: offset, from: begin, to: begin + int(length)})
			}
		case 0x1c: // CONNECTION_CLOSE
			return FlawNone
		default:
			return FlawMalformed
		}
		if c.short {
			return FlawMalformed
		}
	}
	return FlawNone
}

// joinCrypto puts the parts in order and returns the handshake up to the first
// byte that is missing.
func (p *Parser) joinCrypto() []byte {
	slices.SortStableFunc(p.parts, func(a, b part) int { return cmp.Compare(a.offset, b.offset) })
	p.join = p.join[:0]
	for _, part := range p.parts {
		have := uint64(len(p.join))
		if part.offset > have {
			break
		}
		if data := p.plain[part.from:part.to]; part.offset+uint64(len(data)) > have {
			p.join = append(p.join, data[have-part.offset:]...)
		}
	}
	return p.join
}
