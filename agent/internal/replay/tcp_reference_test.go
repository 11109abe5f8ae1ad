package replay

import (
	"github.com/ebbwatch/ebbwatch"
	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

// tcpTalk is what a TCP conversation went through: of the reference by its
// segments and tshark's analysis, of replay by its records.
type tcpTalk struct {
	segments                []segmentSeen // of the reference only
	retransmits, outOfOrder [2]uint32     // out of order: of the reference only
	zeroWindows, resets     [2]uint32
	handshakeUS             uint32
	state                   ebbwatch.ConnState
	opener                  int // the side that is Flow.Src
	openerKnown             bool
}

// segmentSeen is one TCP segment.
type segmentSeen struct {
	us    int64
	side  int
	flags uint16
}

// reopened reports whether a SYN came after the end: there are several
// conversations between the two ports then.
func (k *tcpTalk) reopened() bool {
	ended := false
	for _, s := range k.segments {
		if s.flags&ct.SYN != 0 && s.flags&ct.ACK == 0 && ended {
			return true
		}
		ended = ended || s.flags&(ct.FIN|ct.RST) != 0
	}
	return false
}

// longestSilence returns the longest time without a segment, in microseconds.
func (k *tcpTalk) longestSilence() (most int64) {
	for i := 1; i < len(k.segments); i++ {
		most = max(most, k.segments[i].us-k.segments[i-1].us)
	}
	return most
}

// opened returns the side that opened the conversation, and whether that is known.
func (k *tcpTalk) opened() (side int, known bool) {
	for _, s := range k.segments {
		if s.flags&ct.SYN != 0 {
			if s.flags&ct.ACK != 0 {
				return 1 - s.side, true
			}
			return s.side, true
		}
	}
	return k.segments[0].side, false
}

// handshake returns the microseconds from the opener's first SYN to its first
// ACK of the SYN-ACK, 0 if that was not seen.
func (k *tcpTalk) handshake() uint32 {
	opener, _ := k.opened()
	var syn int64
	answered := false
	for _, s := range k.segments {
		switch {
		case s.flags&ct.SYN != 0 && s.flags&ct.ACK == 0 && s.side == opener && syn == 0:
			syn = s.us
		case s.flags&ct.SYN != 0 && s.flags&ct.ACK != 0 && s.side != opener:
			answered = true
		case s.flags&(ct.SYN|ct.ACK) == ct.ACK && s.side == opener && answered && syn != 0:
			return uint32(s.us - syn)
		}
	}
	return 0
}

// The states of an endpoint in Zeek's TCP analyzer.
const (
	zeekInactive = iota
	zeekSYNSent
	zeekSYNACKSent
	zeekPartial
	zeekEstablished
	zeekClosed
	zeekReset
)

// connState moves both endpoints' states segment by segment, as Zeek's analyzer
// does, and names the result as its base/protocols/conn/main.zeek does.
func (k *tcpTalk) connState() ebbwatch.ConnState {
	opener, _ := k.opened()
	var state [2]int
	syn, onlySYN := false, true // of the opener: nothing but SYN before its RST
	for _, s := range k.segments {
		own, peer := &state[s.side], &state[1-s.side]
		syn = syn || s.side == opener && s.flags&(ct.SYN|ct.ACK) == ct.SYN
		if s.side == opener && s.flags&(ct.SYN|ct.RST) == 0 || s.flags&(ct.SYN|ct.ACK) == ct.SYN|ct.ACK && s.side == opener {
			onlySYN = false
		}
		switch {
		case s.flags&ct.RST != 0:
			if !(*own == zeekClosed && *peer == zeekClosed) {
				*own = zeekReset
			}
		case *own == zeekReset:
		case s.flags&ct.SYN != 0 && s.flags&ct.ACK == 0:
			if *own == zeekInactive {
				*own = zeekSYNSent
			}
			if *own == zeekSYNSent && *peer == zeekSYNSent {
				*own, *peer = zeekEstablished, zeekEstablished
			}
		case s.flags&ct.SYN != 0:
			switch *peer {
			case zeekSYNSent:
				*peer = zeekEstablished
				*own = zeekEstablished
			case zeekInactive:
				*own = zeekSYNACKSent
			}
		case s.flags&ct.FIN != 0:
			zeekOpen(own, peer)
			*own = zeekClosed
		default:
			zeekOpen(own, peer)
		}
	}
	return zeekName(state[opener], state[1-opener], syn && onlySYN)
}

// zeekOpen is what a segment without SYN and RST does to the states.
func zeekOpen(own, peer *int) {
	switch {
	case *own == zeekInactive && *peer == zeekSYNACKSent:
		*own, *peer = zeekEstablished, zeekEstablished
	case *own == zeekInactive && *peer != zeekSYNSent:
		*own = zeekPartial
	}
}

func zeekName(o, r int, onlySYN bool) ebbwatch.ConnState {
	oInactive, rInactive := o == zeekInactive || o == zeekPartial, r == zeekInactive || r == zeekPartial
	switch {
	case r == zeekReset && (o == zeekSYNSent || o == zeekReset):
		return ebbwatch.StateREJ
	case r == zeekReset && oInactive:
		return ebbwatch.StateRSTRH
	case r == zeekReset:
		return ebbwatch.StateRSTR
	case o == zeekReset && !rInactive:
		return ebbwatch.StateRSTO
	case o == zeekReset && onlySYN:
		return ebbwatch.StateRSTOS0
	case o == zeekReset:
		return ebbwatch.StateOTH
	case o == zeekClosed && r == zeekClosed:
		return ebbwatch.StateSF
	case o == zeekClosed && rInactive:
		return ebbwatch.StateSH
	case o == zeekClosed:
		return ebbwatch.StateS2
	case r == zeekClosed && oInactive:
		return ebbwatch.StateSHR
	case r == zeekClosed:
		return ebbwatch.StateS3
	case o == zeekSYNSent && r == zeekInactive:
		return ebbwatch.StateS0
	case o == zeekEstablished && r == zeekEstablished:
		return ebbwatch.StateS1
	}
	return ebbwatch.StateOTH
}
