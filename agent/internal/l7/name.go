package l7

import (
	"net/netip"
)

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// appendEscaped appends a byte of a name: as itself if it is visible ASCII, a
// backslash before those in special, else \DDD in decimal (RFC 4343, section
// 2.1).
func appendEscaped(dst []byte, c byte, special string) []byte {
	if c <= ' ' || c >= 0x7f {
		return append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
	}
	for i := range len(special) {
		if c == special[i] {
			return append(dst, '\\', c)
		}
	}
	return append(dst, c)
}

// tail returns the last MaxName bytes of an escaped name, or a few less: it
// begins with a whole character. What a name ends in says whose it is.
func tail(escaped []byte) (t []byte, cut bool) {
	i := 0
	for len(escaped)-i > MaxName {
		switch {
		case escaped[i] != '\\':
			i++
		case '0' <= escaped[i+1] && escaped[i+1] <= '9':
			i += 4
		default:
			i += 2
		}
	}
	return escaped[i:], i > 0
}

// host returns a host name or address in lower case. It refuses what is
// neither: letters, digits, hyphens and underscores in labels of at most 63
// bytes, 253 in all (RFC 1123, section 2.1, and the underscore that is in use),
// or an IPv6 address in brackets, which are taken off. One dot may end it.
func (p *Parser) host(b []byte) (string, bool) {
	if len(b) > 2 && b[0] == '[' && b[len(b)-1] == ']' {
		addr, err := netip.ParseAddr(string(b[1 : len(b)-1]))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", false
		}
		return addr.String(), true
	}
	if n := len(b); n > 1 && b[n-1] == '.' {
		b = b[:n-1]
	}
	if len(b) == 0 || len(b) > 253 {
		return "", false
	}
	p.text = p.text[:0]
	label := 0
	for _, c := range b {
		c = lower(c)
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return "", false
		}
		if label > 63 {
			return "", false
		}
		p.text = append(p.text, c)
	}
	return string(p.text), label > 0
}
