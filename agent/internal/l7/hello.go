package l7

// Extensions of the ClientHello that are read (IANA, TLS ExtensionType Values).
const (
	extServerName          = 0x0000
	extSignatureAlgorithms = 0x000d
	extALPN                = 0x0010
	extSupportedVersions   = 0x002b
)

// clientHello is what a fingerprint is made of. The lists are without the
// reserved values of RFC 8701 (GREASE), in the order sent.
type clientHello struct {
	version    uint16 // the highest offered
	ciphers    []uint16
	extensions []uint16
	signatures []uint16
	hasName    bool
	hasALPN    bool
	alpn       []byte // the first protocol offered; part of the input
}

// grease tells whether a code point is reserved by RFC 8701, section 2.
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// clientHello reads a handshake message (RFC 8446, section 4.1.2; RFC 5246,
// section 7.4.1.2), of which the end may be missing, for app: server name,
// first protocol and, if it is all there, the JA4 fingerprint.
func (p *Parser) clientHello(h *Hint, app App, b []byte, transport byte) {
	c := cursor{b: b}
	if kind := c.u8(); c.short || kind != handshakeClientHello {
		h.blame(app, FlawTruncated)
		return
	}
	length := c.u24()
	if length > maxHello {
		h.blame(app, FlawOversized)
		return
	}
	body, whole := c.upTo(length)
	end := FlawMalformed // what it means that the bytes end early
	if c.short || !whole {
		whole, end = false, FlawTruncated
	}
	flaw := p.readHello(h, body, whole)
	switch {
	case flaw == flawShort:
		h.blame(app, end)
	case flaw != FlawNone:
		h.blame(app, flaw)
	}
	if whole && flaw != flawShort && flaw != FlawMalformed {
		h.TLSJA4 = p.ja4(transport)
	}
}

// flawShort is readHello's word for bytes that end early; whether that is the
// sender's fault its caller knows.
const flawShort = Flaws

func (p *Parser) readHello(h *Hint, body []byte, whole bool) (flaw Flaw) {
	m := &p.hello
	*m = clientHello{ciphers: m.ciphers[:0], extensions: m.extensions[:0], signatures: m.signatures[:0]}
	c := cursor{b: body}
	m.version = c.u16()
	c.take(32) // random
	session := c.u8()
	c.take(int(session))
	suites := cursor{b: c.take(int(c.u16()))}
	compression := c.take(int(c.u8()))
	if c.short {
		return flawShort
	}
	if session > 32 || len(suites.b)%2 != 0 || len(suites.b) == 0 || len(compression) == 0 {
		return FlawMalformed
	}
	m.ciphers = appendCodes(m.ciphers, suites.b)
	if whole && len(c.b) == 0 {
		return FlawNone // before TLS 1.2 extensions could be absent
	}
	length := int(c.u16())
	if c.short {
		return flawShort
	}
	if whole && length != len(c.b) {
		return FlawMalformed
	}
	for len(c.b) > 0 {
		kind := c.u16()
		data := c.take(int(c.u16()))
		if c.short {
			return flawShort
		}
		if f := p.extension(h, kind, data); flaw == FlawNone {
			flaw = f
		}
		if flaw == FlawMalformed {
			return flaw
		}
	}
	if !whole {
		return flawShort
	}
	return flaw
}

// extension reads one. Its lists must fill it exactly.
func (p *Parser) extension(h *Hint, kind uint16, data []byte) Flaw {
	m := &p.hello
	if grease(kind) {
		return FlawNone
	}
	m.extensions = append(m.extensions, kind)
	c := cursor{b: data}
	switch kind {
	case extServerName:
		if m.hasName {
			return FlawMalformed
		}
		m.hasName = true
		return p.serverName(h, data)
	case extALPN:
		if m.hasALPN {
			return FlawMalformed
		}
		m.hasALPN = true
		return p.protocols(h, data)
	case extSignatureAlgorithms:
		list := c.take(int(c.u16()))
		if c.short || len(c.b) != 0 || len(list)%2 != 0 {
			return FlawMalformed
		}
		m.signatures = appendCodes(m.signatures, list)
	case extSupportedVersions:
		list := c.take(int(c.u8()))
		if c.short || len(c.b) != 0 || len(list)%2 != 0 {
			return FlawMalformed
		}
		m.version = 0
		for l := (cursor{b: list}); len(l.b) > 0; {
			if v := l.u16(); !grease(v) {
				m.version = max(m.version, v)
			}
		}
	}
	return FlawNone
}

// serverName reads the host name of RFC 6066, section 3: the only type of name
// there is.
func (p *Parser) serverName(h *Hint, data []byte) Flaw {
	c := cursor{b: data}
	list := cursor{b: c.take(int(c.u16()))}
	if c.short || len(c.b) != 0 || len(list.b) == 0 {
		return FlawMalformed
	}
	kind, name := list.u8(), list.take(int(list.u16()))
	if list.short {
		return FlawMalformed
	}
	if kind != 0 {
		return FlawName
	}
	host, ok := p.host(name)
	if !ok {
		return FlawName
	}
	h.ServerName = host
	return FlawNone
}

// protocols reads the first protocol of RFC 7301, section 3.1.
func (p *Parser) protocols(h *Hint, data []byte) Flaw {
	c := cursor{b: data}
	list := cursor{b: c.take(int(c.u16()))}
	if c.short || len(c.b) != 0 {
		return FlawMalformed
	}
	for len(list.b) > 0 {
		name := list.take(int(list.u8()))
		if list.short {
			return FlawMalformed
		}
		if len(name) == 2 && grease(uint16(name[0])<<8|uint16(name[1])) {
			continue
		}
		p.hello.alpn = name
		break
	}
	p.text = p.text[:0]
	for _, b := range p.hello.alpn {
		p.text = appendEscaped(p.text, b, `\`)
	}
	escaped, cut := tail(p.text)
	h.TLSALPN = string(escaped)
	if cut {
		return FlawOversized
	}
	return FlawNone
}

// appendCodes appends the 16-bit code points of list but GREASE.
func appendCodes(dst []uint16, list []byte) []uint16 {
	for c := (cursor{b: list}); len(c.b) > 1; {
		if v := c.u16(); !grease(v) {
			dst = append(dst, v)
		}
	}
	return dst
}
