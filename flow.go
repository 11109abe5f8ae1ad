package ebbwatch

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Flow is what one agent saw of one conversation during one interval: a
// bidirectional record in the sense of RFC 5103. A conversation that lasts
// longer than the drain interval yields several records, each with the
// counters of its own interval; AgeMS and Final tell them apart.
//
// Src is the initiator and Dst the responder where Initiator says how that is
// known. Where it is InitiatorUnknown, Src is merely the side that was seen
// sending first.
type Flow struct {
	// Start and End are the times of the first and the last packet of this
	// record, to the microsecond.
	Start, End time.Time

	Src, Dst         netip.Addr // unmapped: IPv4 is 4 bytes, never ::ffff:a.b.c.d
	SrcPort, DstPort uint16     // 0 where the protocol has no ports
	Proto            uint8      // IANA protocol number of the (inner) IP payload
	Initiator        Initiator

	Interface string // name of the interface that accounted the packets
	// Interfaces names all interfaces that saw the conversation, separated by
	// spaces, in the order of sight; "" where it was Interface alone.
	Interfaces string
	NetNS      string // network namespace of Interface, "" for the agent's own
	VLAN       uint16 // outermost 802.1Q VLAN id, 0 if untagged
	// Tunnel is the innermost encapsulation around the packets, TunnelID its VNI
	// or GRE key, 0 if it has none. Addresses and ports are those inside.
	Tunnel   Tunnel
	TunnelID uint32

	// Packets as on the wire (a GSO super-packet counts its segments), and
	// bytes of whole frames: link-layer header included, FCS not.
	SrcPackets, SrcBytes uint64 // sent by Src
	DstPackets, DstBytes uint64 // sent by Dst

	SrcFlags, DstFlags TCPFlags // every flag seen, OR-ed, per side

	ConnState ConnState

	// ICMPType and ICMPCode are of the message by which Src began this record or,
	// where Dst began it, an earlier one. A reply stands for the request that it
	// answers. 0 where Proto is not ICMP.
	ICMPType, ICMPCode uint8

	SrcHealth, DstHealth Health
	DropReason           string // the kernel's name of the most frequent reason of both sides' drops
	// HandshakeUS is the time from the first SYN to the initiator's ACK of the
	// SYN-ACK, in microseconds: one round trip between the two hosts. It stands
	// in the record that saw the end of the handshake; 0 is unknown.
	HandshakeUS uint32
	// RTTUS is the smoothed round-trip time (RFC 6298) in microseconds at the end
	// of the record: the kernel's own of a local socket, else measured on the
	// packets that passed. 0 is unknown.
	RTTUS uint32

	SrcOwner, DstOwner Owner
	Hint               Hint

	// AgeMS is how long the conversation had been known when this record's
	// interval began, in milliseconds. 0 marks a conversation's first record.
	AgeMS uint32
	// Final marks the record after which the agent forgot the conversation:
	// closed, reset or idle for too long.
	Final bool

	// Sampling is the rate 1:N at which packets were counted; the counters are
	// already scaled. 1 means every packet was counted.
	Sampling uint32
}

// Initiator says how the agent knows which side opened the conversation.
type Initiator uint8

// The ways of knowing, from the weakest.
const (
	InitiatorUnknown Initiator = iota // open before the agent watched, nothing told
	InitiatorSYN                      // a SYN or SYN-ACK was seen
	InitiatorSocket                   // the kernel's socket told
	InitiatorFirst                    // connectionless: who spoke first
)

var initiatorNames = [...]string{"unknown", "syn", "socket", "first"}

// String returns the name that the SQL column initiator uses.
func (i Initiator) String() string { return enumName(initiatorNames[:], uint32(i)) }

// ConnState is the state of a conversation as Zeek defines it for conn.log,
// accumulated from the first packet seen to the end of the record.
type ConnState uint8

// Zeek's states.
const (
	StateOTH    ConnState = iota // no SYN seen, midstream traffic
	StateS0                      // attempt seen, no reply
	StateS1                      // established, not terminated
	StateSF                      // normal establishment and termination
	StateREJ                     // attempt rejected
	StateS2                      // established, close attempt by initiator, no reply from responder
	StateS3                      // established, close attempt by responder, no reply from initiator
	StateRSTO                    // established, initiator aborted (sent RST)
	StateRSTR                    // responder sent RST
	StateRSTOS0                  // initiator sent SYN then RST, no SYN-ACK seen
	StateRSTRH                   // responder sent SYN-ACK then RST, no SYN seen
	StateSH                      // initiator sent SYN then FIN, no SYN-ACK seen
	StateSHR                     // responder sent SYN-ACK then FIN, no SYN seen
)

var connStateNames = [...]string{"OTH", "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR"}

// String returns Zeek's name of the state, which the SQL column conn_state uses too.
func (s ConnState) String() string { return enumName(connStateNames[:], uint32(s)) }

func enumName(names []string, v uint32) string {
	if uint64(v) < uint64(len(names)) {
		return names[v]
	}
	return "invalid(" + strconv.Itoa(int(v)) + ")"
}

// TCPFlags holds the flag bits of a TCP header as they stand in its 13th and
// 14th byte (RFC 9293 3.1, RFC 3168, and the AE bit of RFC 9768).
type TCPFlags uint16

// The flags, from the lowest bit.
const (
	FlagFIN TCPFlags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
	FlagAE
)

var flagNames = [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"}

// String returns the names of the set flags joined by "|", "" for none.
func (f TCPFlags) String() string {
	var set []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, "|")
}

// IANA protocol numbers that Ebbwatch treats specially.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)
