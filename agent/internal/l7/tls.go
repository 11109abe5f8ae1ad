package l7

// TLS record and handshake types (RFC 8446, section 5.1 and 4).
const (
	recordAlert     = 21
	recordHandshake = 22
	recordHeader    = 5
	maxRecord       = 1 << 14

	handshakeClientHello = 1
	handshakeServerHello = 2
	handshakeHeader      = 4
	// maxHello is the longest ClientHello that is believed. The field could
	// say 16 MiB; nobody sends more than a few kilobytes.
	maxHello = 1 << 16
)

// tls reads the beginning of a TLS stream: a ClientHello, or that it is a
// server's answer. Without the marks of either, it is not TLS.
func (p *Parser) tls(h *Hint, b []byte) {
	if len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
		return
	}
	if len(b) < recordHeader+1 {
		h.blame(AppTLS, FlawTruncated)
		return
	}
	if b[0] == recordAlert {
		if len(b) >= 7 && b[3] == 0 && b[4] == 2 && (b[5] == 1 || b[5] == 2) {
			h.App, h.Response = AppTLS, true
		}
		return
	}
	switch b[recordHeader] {
	case handshakeClientHello:
		h.App = AppTLS
		message, flaw := p.handshake(b)
		if flaw == FlawMalformed || flaw == FlawOversized {
			h.blame(AppTLS, flaw)
			return
		}
		p.clientHello(h, AppTLS, message, 't')
	case handshakeServerHello:
		h.App, h.Response = AppTLS, true
	}
}

// handshake returns as much as there is of the first handshake message, joined
// from as many records as it spans.
func (p *Parser) handshake(b []byte) ([]byte, Flaw) {
	c := cursor{b: b}
	p.join = p.join[:0]
	for records := 0; ; records++ {
		if len(c.b) < recordHeader {
			return p.join, FlawTruncated
		}
		kind, major, _, length := c.u8(), c.u8(), c.u8(), int(c.u16())
		if kind != recordHandshake || major != 3 || length == 0 {
			return nil, FlawMalformed
		}
		if length > maxRecord {
			return nil, FlawOversized
		}
		fragment, whole := c.upTo(length)
		if records == 0 && (!whole || helloWithin(fragment)) {
			return fragment, FlawNone
		}
		p.join = append(p.join, fragment...)
		if !whole || helloWithin(p.join) {
			return p.join, FlawNone
		}
	}
}

// helloWithin tells whether b has the whole of the handshake message that it
// begins with.
func helloWithin(b []byte) bool {
	c := cursor{b: b}
	c.u8()
	n := c.u24()
	return !c.short && len(c.b) >= n
}
