package zeek

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Reasons for which a line of conn.log is no record.
const (
	reasonTime    = "time"
	reasonAddress = "address"
	reasonNumber  = "number"
	reasonProto   = "protocol"
	reasonState   = "conn_state"
)

// conn makes the flow of a line of conn.log. It returns the reason and the
// detail of what is wrong with it.
func conn(r *record, f *ebbwatch.Flow) (reason, detail string) {
	*f = ebbwatch.Flow{Sampling: 1, Final: true}
	var err error
	if f.Start, err = parseTime(r[fTime]); err != nil {
		return reasonTime, quote("ts", r[fTime])
	}
	f.End = f.Start
	if r[fDuration] != "" {
		us, err := micros(r[fDuration])
		if err != nil || us > maxDuration {
			return reasonTime, quote("duration", r[fDuration])
		}
		f.End = f.Start.Add(time.Duration(us) * time.Microsecond)
	}
	for _, a := range []struct {
		to   *netip.Addr
		from field
	}{{&f.Src, fSrc}, {&f.Dst, fDst}} {
		addr, err := netip.ParseAddr(r[a.from])
		if err != nil || addr.Zone() != "" {
			return reasonAddress, quote("address", r[a.from])
		}
		*a.to = addr.Unmap()
	}
	var ok bool
	if f.Proto, ok = protocol(r[fProto], f.Src.Is6()); !ok {
		return reasonProto, quote("proto", r[fProto])
	}
	if name := r[fState]; name != "" {
		if f.ConnState, err = ebbwatch.ParseConnState(name); err != nil {
			return reasonState, quote("conn_state", name)
		}
	}
	if bad, ok := numbers(r, f); !ok {
		return reasonNumber, quote("number", bad)
	}
	history(f, r[fHistory])
	f.Initiator = initiator(f, r[fHistory])
	f.Hint.App = application(r[fService])
	f.Interface = name(r[fNode])
	return "", ""
}

// maxDuration is the longest conversation that is believed: a year, in microseconds.
const maxDuration = 366 * 24 * 3600 * 1e6

func quote(what, value string) string {
	return what + " is " + strconv.QuoteToASCII(value[:min(len(value), 60)])
}

// numbers fills in ports and counters. It returns the text that is no number, and false.
func numbers(r *record, f *ebbwatch.Flow) (bad string, ok bool) {
	parse := func(at field, bits int) uint64 {
		if r[at] == "" || bad != "" {
			return 0
		}
		v, err := strconv.ParseUint(r[at], 10, bits)
		if err != nil {
			bad = r[at]
		}
		return v
	}
	src, dst := uint16(parse(fSrcPort, 16)), uint16(parse(fDstPort, 16))
	f.VLAN = uint16(parse(fVLAN, 12))
	f.SrcPackets, f.DstPackets = parse(fSrcPackets, 63), parse(fDstPackets, 63)
	f.SrcBytes, f.DstBytes = parse(fSrcBytes, 63), parse(fDstBytes, 63)
	// Without Zeek's counts of packets, a side that sent payload sent one at least.
	srcPayload, dstPayload := parse(fSrcPayload, 63), parse(fDstPayload, 63)
	if bad != "" {
		return bad, false
	}
	if r[fSrcPackets] == "" && r[fDstPackets] == "" {
		f.SrcPackets, f.DstPackets = 1, min(1, dstPayload)
	}
	if r[fSrcBytes] == "" && r[fDstBytes] == "" {
		f.SrcBytes, f.DstBytes = srcPayload, dstPayload
	}
	if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
		return bad, icmp(f, src, dst, &bad)
	}
	if f.Proto == ebbwatch.ProtoTCP || f.Proto == ebbwatch.ProtoUDP || f.Proto == protoSCTP {
		f.SrcPort, f.DstPort = src, dst
	}
	return "", true
}

const protoSCTP = 132

// pairs are the ICMP messages that belong together: question and answer (RFC 792,
// 950, 1256; RFC 4443, 4861, 2710, 4620, 6275). solicited says that the answer
// never comes unasked, so that it stands for its question.
var pairs = [...]struct {
	v6               bool
	question, answer uint16
	solicited        bool
}{
	{false, 8, 0, true}, {false, 13, 14, true}, {false, 15, 16, false}, {false, 17, 18, false}, {false, 10, 9, false},
	{true, 128, 129, true}, {true, 133, 134, false}, {true, 135, 136, false}, {true, 130, 131, false}, {true, 139, 140, false},
	{true, 144, 145, false}, {true, 146, 147, false},
}

// icmp reads the type and code that Zeek keeps in place of ports: the second is
// the type of the other message where the first belongs to a pair, else the code.
func icmp(f *ebbwatch.Flow, src, dst uint16, bad *string) bool {
	if src > 255 || dst > 255 {
		*bad = "ICMP " + strconv.Itoa(int(max(src, dst)))
		return false
	}
	f.ICMPType, f.ICMPCode = uint8(src), uint8(dst)
	for _, p := range pairs {
		if p.v6 != (f.Proto == ebbwatch.ProtoICMPv6) || src != p.question && src != p.answer {
			continue
		}
		f.ICMPCode = 0
		if src == p.answer && p.solicited {
			f.ICMPType = uint8(p.question)
		}
	}
	return true
}

func protocol(name string, v6 bool) (uint8, bool) {
	switch name {
	case "tcp":
		return ebbwatch.ProtoTCP, true
	case "udp":
		return ebbwatch.ProtoUDP, true
	case "icmp":
		if v6 {
			return ebbwatch.ProtoICMPv6, true
		}
		return ebbwatch.ProtoICMP, true
	case "sctp":
		return protoSCTP, true
	case "unknown_transport":
		return 255, true // reserved by IANA: Zeek does not tell the number
	}
	return 0, false
}

// history fills in what the letters of Zeek's history tell: of the initiator in
// capitals, of the responder in small ones. A letter that is repeated stands for
// ten times as many, so that counters are lower bounds.
func history(f *ebbwatch.Flow, letters string) {
	if f.Proto != ebbwatch.ProtoTCP {
		return
	}
	for i := range len(letters) {
		c := letters[i]
		flags, health := &f.SrcFlags, &f.SrcHealth
		if 'a' <= c && c <= 'z' {
			flags, health = &f.DstFlags, &f.DstHealth
			c -= 'a' - 'A'
		}
		switch c {
		case 'S':
			*flags |= ebbwatch.FlagSYN
		case 'H':
			*flags |= ebbwatch.FlagSYN | ebbwatch.FlagACK
		case 'A', 'D': // a segment with payload carries an acknowledgement, too (RFC 9293, 3.1)
			*flags |= ebbwatch.FlagACK
		case 'F':
			*flags |= ebbwatch.FlagFIN
		case 'R':
			*flags |= ebbwatch.FlagRST
			health.Resets = 1
		case 'T':
			grow(&health.Retransmits)
		case 'W':
			grow(&health.ZeroWindows)
		}
	}
}

func grow(v *uint32) { *v = min(max(1, *v*10), 1_000_000_000) }

func initiator(f *ebbwatch.Flow, letters string) ebbwatch.Initiator {
	switch {
	case f.Proto != ebbwatch.ProtoTCP && strings.HasPrefix(letters, "^"):
		return ebbwatch.InitiatorUnknown // Zeek turned it round by the port
	case f.Proto != ebbwatch.ProtoTCP:
		return ebbwatch.InitiatorFirst
	case f.ConnState != ebbwatch.StateOTH, strings.ContainsAny(letters, "SsHh"):
		return ebbwatch.InitiatorSYN // all of Zeek's other states tell of a SYN or SYN-ACK
	}
	return ebbwatch.InitiatorUnknown
}

func application(service string) ebbwatch.App {
	app := ebbwatch.AppNone
	for s := range strings.SplitSeq(service, ",") {
		switch strings.ToLower(s) {
		case "quic":
			return ebbwatch.AppQUIC
		case "ssl", "tls":
			app = ebbwatch.AppTLS
		case "http":
			app = ebbwatch.AppHTTP
		case "dns":
			app = ebbwatch.AppDNS
		}
	}
	return app
}

// name makes a name of the network fit to be stored: what is not visible ASCII
// becomes a backslash and three decimal digits (RFC 4343, 2.1), as in the names
// that agents record, and of a long one the end is kept, which says whose it is.
func name(s string) string {
	s = unescape(s)
	plain := true
	for i := range len(s) {
		plain = plain && s[i] > ' ' && s[i] < 0x7f
	}
	if plain && len(s) <= ebbwatch.MaxName {
		return s
	}
	var units []string
	size := 0
	for i := len(s) - 1; i >= 0; i-- {
		unit := s[i : i+1]
		if s[i] <= ' ' || s[i] >= 0x7f {
			unit = `\` + string([]byte{'0' + s[i]/100, '0' + s[i]/10%10, '0' + s[i]%10})
		}
		if size += len(unit); size > ebbwatch.MaxName {
			break
		}
		units = append(units, unit)
	}
	var b strings.Builder
	for i := len(units) - 1; i >= 0; i-- {
		b.WriteString(units[i])
	}
	return b.String()
}
