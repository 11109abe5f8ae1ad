package l7

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// ja4 computes the JA4 fingerprint of p.hello by FoxIO's specification
// (github.com/FoxIO-LLC/ja4, technical_details/JA4.md; the TLS client
// fingerprint only). transport is 't' for TCP and 'q' for QUIC.
func (p *Parser) ja4(transport byte) string {
	m := &p.hello
	var out [36]byte
	b := append(out[:0], transport)
	b = append(b, ja4Version(m.version)...)
	if m.hasName {
		b = append(b, 'd')
	} else {
		b = append(b, 'i')
	}
	b = appendCount(b, len(m.ciphers))
	b = appendCount(b, len(m.extensions))
	first, last := ja4ALPN(m.alpn)
	b = append(b, first, last, '_')

	p.sort = append(p.sort[:0], m.ciphers...)
	slices.Sort(p.sort)
	p.text = appendHexList(p.text[:0], p.sort)
	b = append(appendHash(b, p.text), '_')

	p.sort = p.sort[:0]
	for _, e := range m.extensions {
		if e != extServerName && e != extALPN {
			p.sort = append(p.sort, e)
		}
	}
	slices.Sort(p.sort)
	p.text = appendHexList(p.text[:0], p.sort)
	if len(m.signatures) > 0 {
		p.text = appendHexList(append(p.text, '_'), m.signatures)
	}
	return string(appendHash(b, p.text))
}

func ja4Version(v uint16) string {
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// appendCount appends two digits, 99 at most.
func appendCount(b []byte, n int) []byte {
	n = min(n, 99)
	return append(b, byte('0'+n/10), byte('0'+n%10))
}

// ja4ALPN returns the first and the last character of a protocol name, or of
// its hexadecimal form if either is not alphanumeric.
func ja4ALPN(name []byte) (first, last byte) {
	if len(name) == 0 {
		return '0', '0'
	}
	first, last = name[0], name[len(name)-1]
	if !alphanumeric(first) || !alphanumeric(last) {
		const digits = "0123456789abcdef"
		return digits[first>>4], digits[last&0xf]
	}
	return first, last
}

func alphanumeric(c byte) bool {
	c = lower(c)
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
}

// appendHexList appends code points as four hexadecimal digits, with commas
// between them.
func appendHexList(b []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = hex.AppendEncode(b, []byte{byte(v >> 8), byte(v)})
	}
	return b
}

// appendHash appends the first 12 hexadecimal digits of a SHA-256, zeros for an
// empty list.
func appendHash(b, list []byte) []byte {
	if len(list) == 0 {
		return append(b, "000000000000"...)
	}
	sum := sha256.Sum256(list)
	return hex.AppendEncode(b, sum[:6])
}
