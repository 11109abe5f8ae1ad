package conn

import (
	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// Seen is the set of things that one side of a conversation has done, as far as
// it was seen. Zeek keeps a state per endpoint instead and moves it packet by
// packet; observed keeps out of the set what Zeek would ignore because of its
// place in the order, so that the set tells the same.
type Seen uint8

// What a side can do.
const (
	SentAny    Seen = 1 << iota // any packet at all
	SentSYN                     // SYN without ACK
	SentSYNACK                  // SYN with ACK
	SentFIN
	SentRST
	SentACK // a packet with ACK beside the SYN-ACK and the RST
	SentPSH // a packet with PSH: payload, as far as the flags can tell
)

// endpoint is the state of one side, in the words of Zeek's TCP analyzer.
type endpoint uint8

const (
	inactive    endpoint = iota // sent nothing
	partial                     // sends without a handshake that was seen
	synSent                     // sent SYN, no SYN came back
	established                 // answered, or was answered
	closed                      // sent FIN
	reset                       // sent RST
)

// State returns the conn_state of a conversation as Zeek's
// base/protocols/conn/main.zeek derives it from the states of the originator
// and the responder, and what they have been seen to do since the beginning.
//
// TCP follows Zeek's table; UDP is S0 one way, SF both ways, SHR if only the
// responder spoke; everything else, ICMP too, is OTH.
//
// Two of Zeek's conditions look at payload, which is not counted here. When both
// sides sent a RST, Zeek says REJ if neither sent payload; here, if there was no
// SYN-ACK. When a SYN is answered by bare ACKs only (RFC 5961), Zeek says S0 as
// long as they are empty; here, as long as none has PSH.
func State(proto uint8, orig, resp Seen) ebbwatch.ConnState {
	switch proto {
	case ebbwatch.ProtoTCP:
		return tcpState(orig, resp)
	case ebbwatch.ProtoUDP:
		switch {
		case orig != 0 && resp != 0:
			return ebbwatch.StateSF
		case orig != 0:
			return ebbwatch.StateS0
		case resp != 0:
			return ebbwatch.StateSHR
		}
	}
	return ebbwatch.StateOTH
}

func tcpState(orig, resp Seen) ebbwatch.ConnState {
	o, r := endpoints(orig, resp)
	oInactive, rInactive := o <= partial, r <= partial
	switch {
	case r == reset:
		switch {
		case o == synSent, o == reset && resp&SentSYNACK == 0:
			return ebbwatch.StateREJ
		case oInactive:
			return ebbwatch.StateRSTRH
		}
		return ebbwatch.StateRSTR
	case o == reset:
		switch {
		case !rInactive:
			return ebbwatch.StateRSTO
		case orig&SentSYN != 0 && orig&(SentSYNACK|SentACK|SentFIN) == 0: // Zeek's history S[^HAFGIQ]*R
			return ebbwatch.StateRSTOS0
		}
		return ebbwatch.StateOTH
	case o == closed && r == closed:
		return ebbwatch.StateSF
	case o == closed && rInactive:
		return ebbwatch.StateSH
	case o == closed:
		return ebbwatch.StateS2
	case r == closed && oInactive:
		return ebbwatch.StateSHR
	case r == closed:
		return ebbwatch.StateS3
	case o == synSent && r == inactive:
		return ebbwatch.StateS0
	case o == established && r == established:
		return ebbwatch.StateS1
	}
	return ebbwatch.StateOTH
}

// endpoints derives both sides' Zeek states.
func endpoints(orig, resp Seen) (o, r endpoint) {
	const syn = SentSYN | SentSYNACK
	answered := resp&syn != 0 // any SYN of the responder establishes it: a SYN-ACK, or a simultaneous open
	switch {
	case answered:
		r = established
	case orig&SentSYN != 0 && resp&SentPSH == 0:
		r = inactive // an ACK before the SYN-ACK (a challenge ACK, RFC 5961) does not count as an answer
	case resp != 0:
		r = partial
	}
	switch {
	case answered && orig&(syn|SentACK) != 0: // without a SYN it was missed: the SYN-ACK and the ACK prove it
		o = established
	case orig&SentSYN != 0:
		o = synSent
	case orig != 0:
		o = partial
	}
	if orig&SentFIN != 0 && resp&SentFIN != 0 {
		return closed, closed // a RST among or after the two FINs is how some stacks tidy up
	}
	return o.after(orig), r.after(resp)
}

// after applies a side's own FIN and RST; its RST wins over its FIN.
func (e endpoint) after(s Seen) endpoint {
	switch {
	case s&SentRST != 0:
		return reset
	case s&SentFIN != 0:
		return closed
	}
	return e
}

// observed adds to old what side s of an entry did at or after sinceNS.
//
// Order decides one thing: a RST is the end of its sender, and what Zeek's
// TCP_RESET endpoint sends after it, a FIN too, no longer counts. (A RST after
// the sender's own FIN counts only until the other FIN comes; endpoints does that.)
func observed(old Seen, s *flowbpf.Side, sinceNS int64) Seen {
	if s.Packets == 0 {
		return old
	}
	seen := old | SentAny
	special := uint64(0) // packets whose ACK bit means nothing
	for _, e := range []struct {
		ns  int64
		bit Seen
	}{{s.SYNNS, SentSYN}, {s.SYNACKNS, SentSYNACK}, {s.RSTNS, SentRST}} {
		if e.ns != 0 {
			special++
		}
		if e.ns != 0 && e.ns >= sinceNS {
			seen |= e.bit
		}
	}
	if s.FINNS != 0 && s.FINNS >= sinceNS && old&SentRST == 0 && (s.RSTNS == 0 || s.FINNS < s.RSTNS) {
		seen |= SentFIN
	}
	if flags := ebbwatch.TCPFlags(s.Flags); s.Packets > special {
		if flags&ebbwatch.FlagACK != 0 {
			seen |= SentACK
		}
		if flags&ebbwatch.FlagPSH != 0 {
			seen |= SentPSH
		}
	}
	return seen
}

// initiator tells which side of an entry opened the TCP conversation: the
// sender of the first SYN, else the receiver of the first SYN-ACK.
func initiator(e *flowbpf.Entry) (side uint8, known bool) {
	if first, ok := earlier(e.Side[0].SYNNS, e.Side[1].SYNNS); ok {
		return first, true
	}
	if first, ok := earlier(e.Side[0].SYNACKNS, e.Side[1].SYNACKNS); ok {
		return 1 - first, true
	}
	return 0, false
}

// ended returns the time of the first FIN or RST of an entry, 0 if there is none.
func ended(e *flowbpf.Entry) int64 {
	end := int64(0)
	for i := range e.Side {
		for _, ns := range []int64{e.Side[i].FINNS, e.Side[i].RSTNS} {
			if ns != 0 && (end == 0 || ns < end) {
				end = ns
			}
		}
	}
	return end
}

// earlier returns the index of the smaller time of two; 0 means never.
func earlier(a, b int64) (index uint8, ok bool) {
	switch {
	case a == 0 && b == 0:
		return 0, false
	case b == 0 || a != 0 && a <= b:
		return 0, true
	}
	return 1, true
}

// over reports whether nothing more than stragglers can follow.
func over(proto uint8, s ebbwatch.ConnState) bool {
	if proto != ebbwatch.ProtoTCP {
		return false
	}
	switch s {
	case ebbwatch.StateSF, ebbwatch.StateREJ, ebbwatch.StateRSTO, ebbwatch.StateRSTR, ebbwatch.StateRSTOS0, ebbwatch.StateRSTRH:
		return true
	case ebbwatch.StateOTH, ebbwatch.StateS0, ebbwatch.StateS1, ebbwatch.StateS2, ebbwatch.StateS3, ebbwatch.StateSH, ebbwatch.StateSHR:
	}
	return false
}
