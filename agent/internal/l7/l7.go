// Package l7 reads what the first bytes of a conversation tell about its
// application: DNS questions and answers, TLS ClientHellos, HTTP/1 heads, QUIC
// Initials. The datapath copies the beginning of each side's payload once per
// conversation; nothing here sees a packet twice, keeps state between
// conversations, or looks at anything but the bytes it is given.
//
// All input is an attacker's. Work and memory are bounded by MaxPayload bytes a
// beginning; names come out as printable ASCII of at most MaxName bytes.
// docs/hints.md says what is read, and what cannot be seen.
package l7

import (
	"slices"

	"github.com/ebbwatch/ebbwatch"
)

const (
	// MaxPayload is how many bytes of a beginning are looked at, whatever was
	// captured: twice what a ClientHello with a post-quantum key share takes. In
	// QUIC that fills two datagrams: 2,500 bytes in Chromium's, 2,944 at most in
	// Ethernet.
	MaxPayload = 4096
	// MaxName is the limit of every name in a Hint, in bytes.
	MaxName = ebbwatch.MaxName
)

// IANA protocol numbers of the transports whose payload is read.
const (
	protoTCP = 6
	protoUDP = 17
)

// App is an application protocol, as flow records say it.
type App = ebbwatch.App

// The application protocols.
const (
	AppNone = ebbwatch.AppNone
	AppDNS  = ebbwatch.AppDNS
	AppTLS  = ebbwatch.AppTLS
	AppHTTP = ebbwatch.AppHTTP
	AppQUIC = ebbwatch.AppQUIC
)

// Flaw says why a beginning told less than its protocol has to tell.
type Flaw uint8

// The flaws. Where several would do, the first that was met counts.
const (
	FlawNone Flaw = iota
	// FlawTruncated: what was captured ends before what was looked for.
	FlawTruncated
	// FlawMalformed: the bytes break the protocol's own rules.
	FlawMalformed
	// FlawOversized: a length or a name is beyond what the protocol, or a
	// Hint, has room for.
	FlawOversized
	// FlawName: a server name that is no host name; it is left out.
	FlawName
	// Flaws is how many there are.
	Flaws
)

// String returns the name of the flaw, as metrics say it.
func (f Flaw) String() string {
	return [...]string{"none", "truncated", "malformed", "oversized", "name"}[f]
}

// Beginning is the start of what one side of a conversation sent.
type Beginning struct {
	// Payload is what was captured: over TCP the first bytes of the stream,
	// over UDP the first datagram, or the first few one after the other. It is
	// only read, and not kept.
	Payload []byte
	// Cut tells that a UDP datagram is longer than what was captured of it. A
	// TCP stream can always go on, so there it says nothing.
	Cut              bool
	Proto            uint8  // IANA protocol number of the transport
	SrcPort, DstPort uint16 // of the side that sent it, and of its peer
	TimeNS           int64  // when its first packet passed, on any steady clock
}

// Hint is what one side's beginning told. Fields that its protocol does not
// have, and those that could not be read, are zero.
type Hint struct {
	App App
	// Response tells that the bytes are an answer by their form. For QUIC it
	// means that they are not a client's first Initial.
	Response bool
	TimeNS   int64 // as in Beginning

	// ServerName is the DNS question in presentation format, the TLS server
	// name, or the HTTP host without its port; in lower case.
	ServerName string

	DNSID      uint16
	DNSType    uint16 // of the first question
	DNSRcode   uint8  // of a response: the 4 bits of the header
	DNSAnswers uint16 // of a response

	TLSALPN string // the first protocol offered, escaped
	TLSJA4  string // empty unless the whole ClientHello was captured

	HTTPMethod string
	HTTPStatus uint16

	QUICVersion uint32

	// Flaw is what was wrong with the beginning, and FlawIn the protocol that
	// it is about. App is AppNone if the flaw leaves it open whether the
	// bytes are of that protocol at all.
	Flaw   Flaw
	FlawIn App
}

// blame records a flaw unless there is one already.
func (h *Hint) blame(app App, f Flaw) {
	if h.Flaw == FlawNone && f != FlawNone {
		h.Flaw, h.FlawIn = f, app
	}
}

// Parser parses beginnings; its zero value is ready. It holds scratch memory of
// a few kilobytes, so that a hint costs no allocation but its strings (QUIC:
// and its keys). It is not safe for concurrent use.
type Parser struct {
	text  []byte // a name, or a list of code points, in the making
	join  []byte // a handshake message out of several records or frames
	plain []byte // decrypted QUIC payloads
	hello clientHello
	parts []part
	sort  []uint16
}

// Parse tells what it finds. It never fails: a beginning that is of no known
// protocol is a Hint with AppNone and no flaw. Content decides but for DNS,
// which has no mark of its own and is looked for on its ports.
func (p *Parser) Parse(b *Beginning) Hint {
	h := Hint{TimeNS: b.TimeNS}
	payload, cut := b.Payload, b.Cut
	if len(payload) > MaxPayload {
		payload, cut = payload[:MaxPayload], true
	}
	if len(payload) == 0 {
		return h
	}
	if dnsPort(b.SrcPort) || dnsPort(b.DstPort) {
		switch b.Proto {
		case protoTCP:
			p.dnsStream(&h, payload)
		case protoUDP:
			p.dnsMessage(&h, payload, cut)
		}
		if h.App != AppNone {
			return h
		}
	}
	// Something else may hide behind a port of DNS.
	other := Hint{TimeNS: b.TimeNS}
	switch b.Proto {
	case protoTCP:
		if payload[0] == recordHandshake || payload[0] == recordAlert {
			p.tls(&other, payload)
		} else {
			p.http(&other, payload)
		}
	case protoUDP:
		p.quic(&other, payload, cut)
	}
	if other.App == AppNone && h.Flaw != FlawNone {
		return h
	}
	return other
}

// DNS, mDNS (RFC 6762), LLMNR (RFC 4795).
func dnsPort(port uint16) bool {
	return slices.Contains([]uint16{53, 5353, 5355}, port)
}
