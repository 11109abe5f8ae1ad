package storetest

import (
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Conn returns the record of a TCP conversation that was opened, used and
// closed: sent and received are bytes.
func Conn(at time.Time, src, dst string, port uint16, sent, received uint64) ebbwatch.Flow {
	return ebbwatch.Flow{
		Start: at, End: at.Add(50 * time.Millisecond), Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
		SrcPort: uint16(20000 + at.UnixMilli()%40000), DstPort: port, Proto: ebbwatch.ProtoTCP, Initiator: ebbwatch.InitiatorSYN, Interface: "eth0",
		SrcPackets: 4 + sent/1400, SrcBytes: 280 + sent, DstPackets: 4 + received/1400, DstBytes: 280 + received,
		SrcFlags:  ebbwatch.FlagSYN | ebbwatch.FlagACK | ebbwatch.FlagPSH | ebbwatch.FlagFIN,
		DstFlags:  ebbwatch.FlagSYN | ebbwatch.FlagACK | ebbwatch.FlagPSH | ebbwatch.FlagFIN,
		ConnState: ebbwatch.StateSF, Final: true, Sampling: 1,
	}
}

// Refused returns the record of a SYN that a RST answered.
func Refused(at time.Time, src, dst string, port uint16) ebbwatch.Flow {
	f := Unanswered(at, src, dst, port)
	f.DstPackets, f.DstBytes, f.DstFlags, f.ConnState = 1, 54, ebbwatch.FlagRST|ebbwatch.FlagACK, ebbwatch.StateREJ
	return f
}

// Unanswered returns the record of a SYN that nothing answered.
func Unanswered(at time.Time, src, dst string, port uint16) ebbwatch.Flow {
	f := Conn(at, src, dst, port, 0, 0)
	f.End, f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes = at, 1, 54, 0, 0
	f.SrcFlags, f.DstFlags, f.ConnState = ebbwatch.FlagSYN, 0, ebbwatch.StateS0
	return f
}

// Ignored returns the record of a SYN whose SYN-ACK the initiator reset, as the
// kernel of a host does that sends forged SYNs.
func Ignored(at time.Time, src, dst string, port uint16) ebbwatch.Flow {
	f := Unanswered(at, src, dst, port)
	f.SrcPackets, f.SrcBytes, f.SrcFlags = 2, 108, ebbwatch.FlagSYN|ebbwatch.FlagRST
	f.DstPackets, f.DstBytes, f.DstFlags, f.ConnState = 1, 58, ebbwatch.FlagSYN|ebbwatch.FlagACK, ebbwatch.StateRSTO
	return f
}

// Datagram returns the record of a UDP exchange; received 0 means no answer.
func Datagram(at time.Time, src, dst string, port uint16, sent, received uint64) ebbwatch.Flow {
	f := Conn(at, src, dst, port, 0, 0)
	f.Proto, f.Initiator, f.ConnState, f.SrcFlags, f.DstFlags = ebbwatch.ProtoUDP, ebbwatch.InitiatorFirst, ebbwatch.StateSF, 0, 0
	f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes = 1+sent/1400, 42+sent, 1+received/1400, 42+received
	if received == 0 {
		f.DstPackets, f.DstBytes, f.ConnState = 0, 0, ebbwatch.StateS0
	}
	return f
}

// Transfer returns the records of one long TCP conversation, one every 5 s: both
// rates are in bytes a second.
func Transfer(at time.Time, d time.Duration, src, dst string, port uint16, sentPS, receivedPS uint64) []ebbwatch.Flow {
	var flows []ebbwatch.Flow
	for done := time.Duration(0); done < d; done += 5 * time.Second {
		f := Conn(at.Add(done), src, dst, port, 5*sentPS, 5*receivedPS)
		f.SrcPort, f.End, f.AgeMS, f.ConnState, f.Final = 55555, f.Start.Add(4900*time.Millisecond), uint32(done.Milliseconds()), ebbwatch.StateS1, false
		f.SrcPackets, f.DstPackets = 4+5*(sentPS/1400+receivedPS/2800), 4+5*(receivedPS/1400+sentPS/2800)
		if done > 0 {
			f.SrcFlags, f.DstFlags = ebbwatch.FlagACK|ebbwatch.FlagPSH, ebbwatch.FlagACK|ebbwatch.FlagPSH
		}
		flows = append(flows, f)
	}
	return flows
}

// Repeat returns what one makes of n times, gap apart, from at on.
func Repeat(at time.Time, n int, gap time.Duration, one func(at time.Time, i int) ebbwatch.Flow) []ebbwatch.Flow {
	flows := make([]ebbwatch.Flow, n)
	for i := range flows {
		flows[i] = one(at.Add(time.Duration(i)*gap), i)
	}
	return flows
}
