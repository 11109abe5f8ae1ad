package l7

import (
	"bytes"
	"slices"
	"strings"
)

// maxMethod is the longest method token that is taken for one; the longest
// registered has 17 bytes.
const maxMethod = 32

// knownMethods are those by which a request is recognised although its first
// line is not complete (IANA, HTTP Method Registry, the ones in use).
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH"}

// http reads the head of an HTTP/1 request or response (RFC 9112). Its first
// line decides whether it is one.
func (p *Parser) http(h *Hint, b []byte) {
	b = bytes.TrimPrefix(b, []byte("\r\n")) // section 2.2
	if len(b) >= 7 && string(b[:7]) == "HTTP/1." {
		p.httpResponse(h, b)
		return
	}
	n := 0
	for n < len(b) && n <= maxMethod && tokenByte(b[n]) {
		n++
	}
	if n == len(b) && startsMethod(b) {
		h.blame(AppHTTP, FlawTruncated)
		return
	}
	if n == 0 || n > maxMethod || n == len(b) || b[n] != ' ' {
		return
	}
	method, rest := b[:n], b[n+1:]
	line, fields, whole := cutLine(rest)
	if !whole {
		p.httpOpenLine(h, method, rest)
		return
	}
	// The version is what the last space goes before: a target with spaces in
	// it is wrong, and no reason to take the request for something else.
	i := bytes.LastIndexByte(line, ' ')
	if i < 0 || !bytes.HasPrefix(line[i+1:], []byte("HTTP/1.")) {
		return
	}
	h.App, h.HTTPMethod = AppHTTP, string(method)
	target, version := line[:i], line[i+1:]
	if len(target) == 0 || !visible(target) || !httpVersion(version) { // a weather station says HTTP/1.0.8
		h.blame(AppHTTP, FlawMalformed)
	}
	p.httpHost(h, method, target, fields, version[len(version)-1] != '0')
}

// startsMethod tells whether a known method begins with b.
func startsMethod(b []byte) bool {
	return len(b) > 0 && slices.ContainsFunc(knownMethods, func(m string) bool { return strings.HasPrefix(m, string(b)) })
}

// httpOpenLine takes a first line that is longer than what was captured for a
// request's if its method is known and its target could be one.
func (p *Parser) httpOpenLine(h *Hint, method, target []byte) {
	if !slices.Contains(knownMethods, string(method)) {
		return
	}
	if len(target) == 0 || target[0] != '/' && target[0] != '*' && !alphanumeric(target[0]) {
		h.blame(AppHTTP, FlawTruncated)
		return
	}
	target = bytes.TrimSuffix(target, []byte("\r"))
	if i := bytes.IndexByte(target, ' '); i >= 0 {
		if !bytes.HasPrefix([]byte("HTTP/1."), target[i+1:min(len(target), i+8)]) {
			return // of another protocol that is written like HTTP
		}
		target = target[:i]
	}
	if !visible(target) {
		h.blame(AppHTTP, FlawMalformed)
		return
	}
	h.App, h.HTTPMethod = AppHTTP, string(method)
	h.blame(AppHTTP, FlawTruncated)
}

// httpHost finds the host that a request is for: in the target if it has one
// (section 3.2.2 and 3.2.3), else in the Host field.
func (p *Parser) httpHost(h *Hint, method, target, fields []byte, mustHave bool) {
	field, n, end, flaw := hostField(fields)
	h.blame(AppHTTP, flaw)
	host := field
	switch authority, absolute := authorityOf(method, target); {
	case absolute:
		host = authority
	case n == 0 && !end:
		h.blame(AppHTTP, FlawTruncated)
		return
	case n == 0:
		if mustHave { // section 3.2: since HTTP/1.1
			h.blame(AppHTTP, FlawMalformed)
		}
		return
	case len(host) == 0: // allowed where the target has no host
		return
	}
	name, ok := p.host(withoutPort(host))
	if !ok {
		h.blame(AppHTTP, FlawName)
		return
	}
	h.ServerName = name
}

// hostField returns the value of the first Host field, how many there are, and
// whether the fields' end was captured. Lines that continue another, lines
// without a name, a repeated Host, and control characters are malformed; a
// Host that is continued counts as empty.
func hostField(fields []byte) (host []byte, n int, end bool, flaw Flaw) {
	last := false // the previous line was the first Host
	for {
		line, rest, whole := cutLine(fields)
		if !whole {
			return host, n, false, flaw
		}
		fields = rest
		if len(line) == 0 {
			return host, n, true, flaw
		}
		if line[0] == ' ' || line[0] == '\t' {
			flaw = FlawMalformed
			if last {
				host = nil
			}
			continue
		}
		last = false
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !token(line[:colon]) || hasControl(line[colon:]) {
			flaw = FlawMalformed
			continue
		}
		if !bytes.EqualFold(line[:colon], []byte("host")) {
			continue
		}
		if n++; n > 1 {
			flaw = FlawMalformed
			continue
		}
		host, last = bytes.Trim(line[colon+1:], " \t"), true
	}
}

// authorityOf returns the authority of a target in absolute or, for CONNECT,
// authority form.
func authorityOf(method, target []byte) ([]byte, bool) {
	if string(method) == "CONNECT" {
		return target, true
	}
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return nil, false
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := bytes.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	return rest, true
}

// withoutPort takes off what follows the last colon if that is a port.
func withoutPort(b []byte) []byte {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || len(b)-i > 6 {
		return b
	}
	for _, c := range b[i+1:] {
		if c < '0' || c > '9' {
			return b
		}
	}
	return b[:i]
}

// httpResponse reads status lines (section 4): of interim responses (RFC 9110,
// section 15.2) the one that follows counts, if it was captured.
func (p *Parser) httpResponse(h *Hint, b []byte) {
	for {
		if len(b) < 12 {
			h.App, h.Response = AppHTTP, true
			h.blame(AppHTTP, FlawTruncated)
			return
		}
		status := 0
		for _, c := range b[9:12] {
			if c < '0' || c > '9' {
				status = 0
				break
			}
			status = status*10 + int(c-'0')
		}
		if !httpVersion(b[:8]) || b[8] != ' ' || len(b) > 12 && b[12] != ' ' && b[12] != '\r' && b[12] != '\n' || status < 100 {
			h.blame(AppHTTP, FlawMalformed)
			return
		}
		h.App, h.Response, h.HTTPStatus = AppHTTP, true, uint16(status)
		if status >= 200 || status == 101 {
			return
		}
		_, next, found := bytes.Cut(b, []byte("\r\n\r\n"))
		if !found || len(next) == 0 || !bytes.HasPrefix(next, []byte("HTTP/1.")) {
			return
		}
		b = next
	}
}

func httpVersion(b []byte) bool {
	return len(b) == 8 && string(b[:7]) == "HTTP/1." && '0' <= b[7] && b[7] <= '9'
}

// cutLine cuts at the first line feed and takes a carriage return before it off.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(b, []byte("\n"))
	if whole {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line, rest, whole
}

func token(b []byte) bool {
	for _, c := range b {
		if !tokenByte(c) {
			return false
		}
	}
	return len(b) > 0
}

// tokenByte is tchar of RFC 9110, section 5.6.2.
func tokenByte(c byte) bool {
	return alphanumeric(c) || c != 0 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

// visible tells whether there are neither spaces nor control characters.
func visible(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}
