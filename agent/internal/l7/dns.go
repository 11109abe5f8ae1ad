package l7

import "strconv"

// DNS messages: RFC 1035, section 4.1; RFC 6895 for opcodes and response codes.
const (
	dnsHeader    = 12
	dnsMinRecord = 11 // root name, type, class, TTL, length
	dnsMaxLabel  = 63
	dnsMaxWire   = 255 // of a name, with its length bytes and the root
)

// Opcodes that a message can have.
const (
	opQuery    = 0
	opIQuery   = 1
	opStatus   = 2
	opNotify   = 4
	opUpdate   = 5
	opStateful = 6
)

// dnsStream reads the first message over TCP: two bytes of length go before it.
func (p *Parser) dnsStream(h *Hint, b []byte) {
	c := cursor{b: b}
	length := int(c.u16())
	if c.short {
		h.blame(AppDNS, FlawTruncated)
		return
	}
	if length < dnsHeader {
		h.blame(AppDNS, FlawMalformed)
		return
	}
	message, whole := c.upTo(length)
	p.dnsMessage(h, message, !whole)
}

// dnsMessage reads header and first question. The bytes count as DNS if both
// make sense.
func (p *Parser) dnsMessage(h *Hint, b []byte, cut bool) {
	end := FlawMalformed // what it means that the bytes end early
	if cut {
		end = FlawTruncated
	}
	if len(b) < dnsHeader {
		h.blame(AppDNS, end)
		return
	}
	c := cursor{b: b}
	id, hi, lo := c.u16(), c.u8(), c.u8()
	questions, answers, _, additional := c.u16(), c.u16(), c.u16(), c.u16()
	response, opcode := hi&0x80 != 0, hi>>3&0xf
	switch opcode {
	case opQuery, opIQuery, opStatus, opNotify, opUpdate, opStateful:
	default:
		h.blame(AppDNS, FlawMalformed)
		return
	}
	var name string
	var kind uint16
	switch {
	case questions > 0:
		var f Flaw
		if name, f = p.dnsName(&c); f != FlawNone && f != FlawOversized || c.short {
			if c.short {
				f = end
			}
			h.blame(AppDNS, f)
			return
		}
		kind = c.u16()
		if c.u16(); c.short {
			h.blame(AppDNS, end)
			return
		}
		h.blame(AppDNS, f)
		if opcode == opQuery && questions > 1 && len(c.b) < int(questions-1)*5 && !cut {
			h.blame(AppDNS, FlawMalformed)
		}
	case !response && opcode == opQuery && additional == 0:
		h.blame(AppDNS, FlawMalformed) // nothing is asked, and no cookie either
		return
	}
	h.App, h.Response, h.ServerName, h.DNSID, h.DNSType = AppDNS, response, name, id, kind
	if response {
		h.DNSRcode = lo & 0xf
	}
	if response && opcode != opUpdate { // whose second section is another
		h.DNSAnswers = answers
		if room := len(c.b) / dnsMinRecord; !cut && int(answers) > room {
			h.DNSAnswers = uint16(room)
			h.blame(AppDNS, FlawMalformed)
		}
	}
}

// dnsName reads the name of the first question in presentation format, lower
// case. A compression pointer has nothing but the header before it to point
// to there, so any is refused: loops and forward pointers among them.
func (p *Parser) dnsName(c *cursor) (string, Flaw) {
	p.text = p.text[:0]
	wire := 1
	for {
		n := int(c.u8())
		if c.short {
			return "", FlawNone
		}
		if n == 0 {
			break
		}
		if n > dnsMaxLabel {
			return "", FlawMalformed
		}
		if wire += 1 + n; wire > dnsMaxWire {
			return "", FlawMalformed
		}
		label := c.take(n)
		if c.short {
			return "", FlawNone
		}
		if len(p.text) > 0 {
			p.text = append(p.text, '.')
		}
		for _, b := range label {
			p.text = appendEscaped(p.text, lower(b), `.\`)
		}
	}
	if len(p.text) == 0 {
		return ".", FlawNone
	}
	name, cut := tail(p.text)
	if cut {
		return string(name), FlawOversized
	}
	return string(name), FlawNone
}

// DNSTypeName returns IANA's name of a record type, or TYPEn (RFC 3597,
// section 5).
func DNSTypeName(t uint16) string {
	if int(t) < len(dnsTypes) && dnsTypes[t] != "" {
		return dnsTypes[t]
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// DNSRcodeName returns the usual name of a response code, or RCODEn.
func DNSRcodeName(r uint8) string {
	if int(r) < len(dnsRcodes) {
		return dnsRcodes[r]
	}
	return "RCODE" + strconv.Itoa(int(r))
}

var dnsRcodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
	"YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE", "DSOTYPENI"}

var dnsTypes = [...]string{1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL",
	11: "WKS", 12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN",
	21: "RT", 22: "NSAP", 23: "NSAP-PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC", 30: "NXT",
	31: "EID", 32: "NIMLOC", 33: "SRV", 34: "ATMA", 35: "NAPTR", 36: "KX", 37: "CERT", 38: "A6", 39: "DNAME", 40: "SINK",
	41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3",
	51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 56: "NINFO", 57: "RKEY", 58: "TALINK", 59: "CDS", 60: "CDNSKEY",
	61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 66: "DSYNC", 67: "HHIT", 68: "BRID",
	99: "SPF", 100: "UINFO", 101: "UID", 102: "GID", 103: "UNSPEC", 104: "NID", 105: "L32", 106: "L64", 107: "LP",
	108: "EUI48", 109: "EUI64", 128: "NXNAME", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA",
	255: "ANY", 256: "URI", 257: "CAA", 258: "AVC", 259: "DOA", 260: "AMTRELAY", 261: "RESINFO", 262: "WALLET", 263: "CLA", 264: "IPN"}
