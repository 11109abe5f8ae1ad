package conn

import (
	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// message is an ICMP message and the side that sent it.
type message struct {
	side, typ, code uint8
}

// asked returns the first ICMP message of an entry or, where that is one that only
// ever answers, the request that it answers, which the other side sent: an echo
// or timestamp reply of ICMP (RFC 792), an echo reply of ICMPv6 (RFC 4443). Other
// messages come unasked, too. The protocol must be ICMP or ICMPv6.
func asked(e *flowbpf.Entry) message {
	m := message{e.FirstSide, e.ICMPType, e.ICMPCode}
	for _, pair := range [...]struct {
		proto          uint8
		ip4            bool
		reply, request uint8
	}{
		{ebbwatch.ProtoICMP, true, 0, 8}, {ebbwatch.ProtoICMP, true, 14, 13}, {ebbwatch.ProtoICMPv6, false, 129, 128},
	} {
		if e.Proto == pair.proto && e.A.Is4() == pair.ip4 && m.typ == pair.reply {
			return message{1 - m.side, pair.request, 0}
		}
	}
	return m
}

// icmp returns type and code of the initiator's last known message that asks or
// tells something: what the other side sends says nothing about it, unless it answers.
func (c *conversation) icmp(e *flowbpf.Entry) (typ, code uint8) {
	if e.Proto != ebbwatch.ProtoICMP && e.Proto != ebbwatch.ProtoICMPv6 {
		return 0, 0
	}
	if m := asked(e); m.side == c.src {
		c.icmpType, c.icmpCode = m.typ, m.code
	}
	return c.icmpType, c.icmpCode
}
