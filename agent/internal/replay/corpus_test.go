package replay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

// hosts are the addresses of one case of the corpus: nobody else has them, so
// that a difference tells its case.
type hosts struct{ n uint16 }

func (h hosts) v4(host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(h.n >> 8), byte(h.n), host})
}

func (h hosts) v6(host byte) netip.Addr {
	a := [16]byte{0: 0xfd, 6: byte(h.n >> 8), 7: byte(h.n), 15: host}
	return netip.AddrFrom16(a)
}

// caseOf is the inverse of hosts.
func caseOf(a netip.Addr) int {
	b := a.AsSlice()
	if a.Is4() {
		return int(b[1])<<8 | int(b[2])
	}
	return int(b[6])<<8 | int(b[7])
}

// ip4 and ip6 are headers from host 1 to host 2, in4 and in6 the same for
// packets in tunnels, from host 3 to host 4, back4 the answer.
func (h hosts) ip4(proto uint8) ct.IP4   { return ct.IP4{Src: h.v4(1), Dst: h.v4(2), Proto: proto} }
func (h hosts) back4(proto uint8) ct.IP4 { return ct.IP4{Src: h.v4(2), Dst: h.v4(1), Proto: proto} }
func (h hosts) in4(proto uint8) ct.IP4   { return ct.IP4{Src: h.v4(3), Dst: h.v4(4), Proto: proto} }
func (h hosts) ip6(next uint8) ct.IP6    { return ct.IP6{Src: h.v6(1), Dst: h.v6(2), Next: next} }
func (h hosts) back6(next uint8) ct.IP6  { return ct.IP6{Src: h.v6(2), Dst: h.v6(1), Next: next} }
func (h hosts) in6(next uint8) ct.IP6    { return ct.IP6{Src: h.v6(3), Dst: h.v6(4), Next: next} }

// specimen is one case: frames that belong together, and the reason why the
// reference and replay disagree about them, "" if they must not.
type specimen struct {
	name   string
	frames func(h hosts) [][]byte
	cut    int // bytes captured of each frame, 0 for all
	reason string
}

func tcp(flags uint16) []byte {
	return ct.Segment{Sport: 4000, Dport: 80, Flags: flags, Seq: 1, Ack: 1, Window: 1000}.Bytes()
}
func tcpBack(flags uint16) []byte {
	return ct.Segment{Sport: 80, Dport: 4000, Flags: flags, Seq: 1, Ack: 1, Window: 1000}.Bytes()
}
func udp(n int) []byte { return ct.Datagram(5000, 7777, make([]byte, n)) }

func eth4(packets ...[]byte) [][]byte { return ethernet(ct.EtherIP4, packets) }
func eth6(packets ...[]byte) [][]byte { return ethernet(ct.EtherIP6, packets) }

func ethernet(typ uint16, packets [][]byte) [][]byte {
	var frames [][]byte
	for _, p := range packets {
		frames = append(frames, ct.Ether(typ, p))
	}
	return frames
}

// specimens is every kind of Ethernet frame, honest and lying.
func specimens() []specimen {
	return slices.Concat(plainSpecimens(), optionSpecimens(), extensionSpecimens(), fragmentSpecimens(), linkSpecimens(),
		tunnelSpecimens(), damagedSpecimens(), cutSpecimens(), tcpSpecimens())
}

func plainSpecimens() []specimen {
	all := []specimen{
		{name: "UDP both ways over IPv4", frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(udp(100)), h.back4(ct.UDP).With(ct.Datagram(7777, 5000, make([]byte, 900))), h.ip4(ct.UDP).With(udp(0)))
		}},
		{name: "UDP both ways over IPv6", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.UDP).With(udp(100)), h.back6(ct.UDP).With(ct.Datagram(7777, 5000, make([]byte, 900))))
		}},
		{name: "a host that talks to itself", frames: func(h hosts) [][]byte {
			self := ct.IP4{Src: h.v4(1), Dst: h.v4(1), Proto: ct.TCP}
			return eth4(self.With(tcp(ct.SYN)), self.With(tcpBack(ct.SYN|ct.ACK)))
		}},
		{name: "ICMP echo", frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.ICMP).With(ct.Ping(8, 0)), h.back4(ct.ICMP).With(ct.Ping(0, 0)))
		}},
		{name: "an ICMP error with the packet it is about", frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.ICMP).With(ct.Ping(3, 13, h.back4(ct.TCP).With(tcp(ct.SYN)))))
		}},
		{name: "ICMPv6 neighbour solicitation", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.ICMP6).With(ct.Ping(135, 0, h.v6(2).AsSlice())))
		}},
		{name: "an ICMPv6 error", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.ICMP6).With(ct.Ping(1, 4, h.back6(ct.UDP).With(udp(9)))))
		}},
		{name: "a jumbo frame", frames: func(h hosts) [][]byte { return eth4(h.ip4(ct.UDP).With(udp(8900))) }},
		{name: "the largest frame", frames: func(h hosts) [][]byte { return eth6(h.ip6(ct.UDP).With(udp(65000))) }},
		{name: "a padded short frame", frames: func(h hosts) [][]byte {
			return [][]byte{append(ct.Ether(ct.EtherIP4, h.ip4(ct.UDP).With(udp(1))), make([]byte, 17)...)}
		}},
		{name: "ARP", frames: func(hosts) [][]byte { return [][]byte{ct.Ether(ct.EtherARP, make([]byte, 46))} }},
		{name: "an 802.3 frame", frames: func(hosts) [][]byte { return [][]byte{ct.Ether(38, []byte{0x42, 0x42, 3}, make([]byte, 43))} }},
	}
	for _, proto := range []uint8{2, ct.ESP, ct.AH, 89, 103, 112, ct.SCTP, ct.UDPLite, 33, 253} {
		all = append(all, specimen{name: fmt.Sprintf("IP protocol %d", proto), frames: func(h hosts) [][]byte {
			p := payloadOf(proto)
			return slices.Concat(eth4(h.ip4(proto).With(p)), eth6(h.ip6(proto).With(p)))
		}})
	}
	return all
}

// payloadOf is a plausible beginning of a protocol's header, long enough for all.
func payloadOf(proto uint8) []byte {
	if proto == ct.AH {
		return slices.Concat([]byte{ct.UDP, 4, 0, 0}, make([]byte, 20), udp(20))
	}
	return slices.Concat(ct.BE(4000, 5000, 40, 0), make([]byte, 40))
}

func optionSpecimens() []specimen {
	var all []specimen
	for _, o := range []struct {
		name    string
		options []byte
	}{
		{"no operation", []byte{1, 1, 1, 1}},
		{"record route", slices.Concat([]byte{7, 39, 4}, make([]byte, 37))},
		{"a time stamp", slices.Concat([]byte{68, 12, 5, 0}, make([]byte, 8))},
		{"router alert", []byte{148, 4, 0, 0}},
		{"an option of length 0", []byte{7, 0, 0, 0, 0, 0, 0, 0}},
		{"an option beyond the header", []byte{7, 200, 4, 0}},
	} {
		all = append(all, specimen{name: "IPv4 with " + o.name, frames: func(h hosts) [][]byte {
			t, u := h.ip4(ct.TCP), h.back4(ct.UDP)
			t.Options, u.Options = o.options, o.options
			return eth4(t.With(tcp(ct.SYN)), u.With(udp(5)))
		}})
	}
	return all
}

func extensionSpecimens() []specimen {
	chain := func(n int) []byte {
		var b []byte
		for range n - 1 {
			b = append(b, ct.Extension(ct.DestOpts, 0)...)
		}
		return append(b, ct.Extension(ct.TCP, 0)...)
	}
	one := func(name, reason string, next uint8, headers func(h hosts) []byte) specimen {
		return specimen{name: name, reason: reason, frames: func(h hosts) [][]byte {
			return eth6(h.ip6(next).With(headers(h), tcp(ct.SYN)), h.ip6(next).With(headers(h), tcp(ct.ACK)))
		}}
	}
	ah := slices.Concat([]byte{ct.TCP, 4, 0, 0}, make([]byte, 20))
	return []specimen{
		one("IPv6 with hop-by-hop options", "", ct.HopByHop, func(hosts) []byte { return ct.Extension(ct.TCP, 0) }),
		one("IPv6 with long destination options", "", ct.DestOpts, func(hosts) []byte { return ct.Extension(ct.TCP, 20) }),
		one("IPv6 with segment routing", "", ct.Routing, func(h hosts) []byte {
			return slices.Concat([]byte{ct.TCP, 2, 4, 0, 0, 0, 0, 0}, h.v6(2).AsSlice())
		}),
		one("IPv6 with an authentication header", "", ct.AH, func(hosts) []byte { return ah }),
		one("IPv6 with hop-by-hop, destination, routing and authentication headers", "", ct.HopByHop, func(h hosts) []byte {
			return slices.Concat(ct.Extension(ct.DestOpts, 1), ct.Extension(ct.Routing, 0), []byte{ct.AH, 2, 4, 0, 0, 0, 0, 0}, h.v6(2).AsSlice(), ah)
		}),
		one("IPv6 with eight extension headers", "", ct.DestOpts, func(hosts) []byte { return chain(8) }),
		one("IPv6 with nine extension headers", "bounds", ct.DestOpts, func(hosts) []byte { return chain(9) }),
		{name: "IPv6 without next header", frames: func(h hosts) [][]byte { return eth6(h.ip6(ct.NoNext).With()) }},
		{name: "IPv6 with an extension header beyond the packet", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.DestOpts).With(ct.Extension(ct.TCP, 200)[:64]))
		}},
	}
}

func fragmentSpecimens() []specimen {
	// A datagram of 8 + 1472 + 1480 + 40 bytes in three parts.
	parts4 := func(h hosts, id uint16) [][]byte {
		first, middle, last := h.ip4(ct.UDP), h.ip4(ct.UDP), h.ip4(ct.UDP)
		first.ID, middle.ID, last.ID = id, id, id
		first.Frag, middle.Frag, last.Frag = 0x2000, 0x2000|185, 370
		return eth4(first.With(ct.BE(5000, 7777, 3000, 0), make([]byte, 1472)), middle.With(make([]byte, 1480)), last.With(make([]byte, 40)))
	}
	parts6 := func(h hosts, id uint32) [][]byte {
		return eth6(h.ip6(ct.Fragment).With(ct.Fragment6(ct.UDP, 0, id, true), ct.BE(5000, 7777, 3000, 0), make([]byte, 1472)),
			h.ip6(ct.Fragment).With(ct.Fragment6(ct.UDP, 185, id, true), make([]byte, 1480)),
			h.ip6(ct.Fragment).With(ct.Fragment6(ct.UDP, 370, id, false), make([]byte, 40)))
	}
	order := func(f [][]byte, order ...int) [][]byte {
		var out [][]byte
		for _, i := range order {
			out = append(out, f[i])
		}
		return out
	}
	return []specimen{
		{name: "IPv4 fragments in order", frames: func(h hosts) [][]byte { return parts4(h, 1) }},
		{name: "IPv4 fragments, the first in the middle", frames: func(h hosts) [][]byte { return order(parts4(h, 1), 1, 0, 2) }},
		{name: "IPv4 fragments, the first last", frames: func(h hosts) [][]byte { return order(parts4(h, 1), 2, 1, 0) }},
		{name: "IPv4 fragments without the first", frames: func(h hosts) [][]byte { return parts4(h, 1)[1:] }},
		{name: "IPv4 fragments of two datagrams, mixed", frames: func(h hosts) [][]byte {
			a, b := parts4(h, 1), parts4(h, 2)
			return [][]byte{a[0], b[1], b[0], a[1], b[2], a[2]}
		}},
		{name: "IPv4 fragments twice", frames: func(h hosts) [][]byte { return slices.Concat(parts4(h, 1), parts4(h, 1)) }},
		{name: "IPv4 fragments of ICMP", frames: func(h hosts) [][]byte {
			first, last := h.ip4(ct.ICMP), h.ip4(ct.ICMP)
			first.Frag, last.Frag = 0x2000, 2
			return eth4(first.With(ct.Ping(8, 0, make([]byte, 8))), last.With(make([]byte, 30)))
		}},
		{name: "an IPv4 first fragment that ends before the TCP flags", frames: func(h hosts) [][]byte {
			first, last := h.ip4(ct.TCP), h.ip4(ct.TCP)
			first.Frag, last.Frag = 0x2000, 1
			return eth4(first.With(tcp(ct.SYN)[:8]), last.With(tcp(ct.SYN)[8:]))
		}},
		{name: "IPv6 fragments in order", frames: func(h hosts) [][]byte { return parts6(h, 70000) }},
		{name: "IPv6 fragments, the first last", frames: func(h hosts) [][]byte { return order(parts6(h, 1), 2, 1, 0) }},
		{name: "an atomic IPv6 fragment", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.Fragment).With(ct.Fragment6(ct.TCP, 0, 1, false), tcp(ct.SYN)))
		}},
		{name: "an IPv6 fragment behind and before options", frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.HopByHop).With(ct.Extension(ct.Fragment, 0), ct.Fragment6(ct.DestOpts, 0, 1, true), ct.Extension(ct.UDP, 0), udp(8)),
				h.ip6(ct.HopByHop).With(ct.Extension(ct.Fragment, 0), ct.Fragment6(ct.DestOpts, 3, 1, false), make([]byte, 30)))
		}},
	}
}

func linkSpecimens() []specimen {
	tag := func(v ...uint16) []byte { return ct.BE(v...) }
	one := func(name, reason string, typ uint16, head ...[]byte) specimen {
		return specimen{name: name, reason: reason, frames: func(h hosts) [][]byte {
			return [][]byte{
				ct.Ether(typ, slices.Concat(head...), h.ip4(ct.TCP).With(tcp(ct.SYN))), ct.Ether(typ, slices.Concat(head...), h.back4(ct.TCP).With(tcpBack(ct.SYN|ct.ACK))),
			}
		}}
	}
	four := [][]byte{tag(1, ct.EtherVLAN), tag(2, ct.EtherVLAN), tag(3, ct.EtherVLAN)}
	return []specimen{
		one("802.1Q", "", ct.EtherVLAN, tag(100, ct.EtherIP4)),
		one("a priority tag", "", ct.EtherVLAN, tag(0xe000, ct.EtherIP4)),
		one("802.1Q with priority and drop bits", "", ct.EtherVLAN, tag(0xf123, ct.EtherIP4)),
		one("802.1ad around 802.1Q", "", ct.EtherQinQ, tag(200, ct.EtherVLAN), tag(300, ct.EtherIP4)),
		one("802.1Q around 802.1Q", "", ct.EtherVLAN, tag(200, ct.EtherVLAN), tag(4094, ct.EtherIP4)),
		one("the old QinQ ethertype", "", ct.EtherOldQ, tag(9, ct.EtherVLAN), tag(10, ct.EtherIP4)),
		one("four VLAN tags", "", ct.EtherQinQ, append(four, tag(4, ct.EtherIP4))...),
		one("five VLAN tags", "bounds", ct.EtherQinQ, append(four, tag(4, ct.EtherVLAN), tag(5, ct.EtherIP4))...),
		one("MPLS", "mpls", ct.EtherMPLS, []byte{0, 1, 0x01, 64}),
		{name: "PPPoE", frames: func(h hosts) [][]byte {
			p4, p6 := h.ip4(ct.UDP).With(udp(30)), h.ip6(ct.UDP).With(udp(30))
			head := func(p []byte, proto uint16) []byte {
				return slices.Concat([]byte{0x11, 0}, tag(7, uint16(len(p)+2), proto))
			}
			return [][]byte{ct.Ether(ct.EtherPPPoE, head(p4, 0x21), p4), ct.Ether(ct.EtherPPPoE, head(p6, 0x57), p6)}
		}},
		{name: "one conversation in two VLANs", frames: func(h hosts) [][]byte {
			return [][]byte{
				ct.Ether(ct.EtherVLAN, tag(10, ct.EtherIP4), h.ip4(ct.TCP).With(tcp(ct.SYN))), ct.Ether(ct.EtherVLAN, tag(20, ct.EtherIP4), h.back4(ct.TCP).With(tcpBack(ct.SYN|ct.ACK))),
				ct.Ether(ct.EtherVLAN, tag(10, ct.EtherIP4), h.ip4(ct.TCP).With(tcp(ct.ACK))),
			}
		}},
	}
}

func damagedSpecimens() []specimen {
	set := func(at int, v ...byte) func([]byte) { return func(h []byte) { copy(h[at:], v) } }
	four := func(name, reason string, lie func([]byte)) specimen {
		return specimen{name: "IPv4 with " + name, reason: reason, frames: func(h hosts) [][]byte {
			p := h.ip4(ct.TCP)
			p.Lie = lie
			return eth4(p.With(tcp(ct.SYN|ct.ACK), make([]byte, 30)))
		}}
	}
	six := func(name, reason string, lie func([]byte)) specimen {
		return specimen{name: "IPv6 with " + name, reason: reason, frames: func(h hosts) [][]byte {
			p := h.ip6(ct.TCP)
			p.Lie = lie
			return eth6(p.With(tcp(ct.SYN|ct.ACK), make([]byte, 30)))
		}}
	}
	return []specimen{
		four("a header length of 16", "", set(0, 0x44)),
		four("version 5", "", set(0, 0x55)),
		four("version 6 in its own ethertype", "", set(0, 0x65)),
		four("a total length of 19", "", set(2, 0, 19)),
		four("a total length that ends inside the ports", "", set(2, 0, 23)),
		four("a total length that ends before the TCP flags", "", set(2, 0, 32)),
		four("a total length beyond the frame", "", set(2, 0x10, 0)),
		four("a total length of 0", "", set(2, 0, 0)),
		four("a wrong checksum", "", set(10, 0xde, 0xad)),
		four("the evil bit", "", set(6, 0x80)),
		six("version 4", "", set(0, 0x40)),
		six("a payload length beyond the frame", "", set(4, 0x10, 0)),
		six("a payload length that ends inside the ports", "", set(4, 0, 3)),
		six("a payload length of 0", "jumbogram", set(4, 0, 0)),
		{name: "a TCP header length of 0", reason: "tcp-length", frames: func(h hosts) [][]byte {
			s := tcp(ct.SYN)
			s[12] = 0
			return eth4(h.ip4(ct.TCP).With(s))
		}},
		{name: "a TCP header length beyond the packet", frames: func(h hosts) [][]byte {
			s := tcp(ct.SYN)
			s[12] = 0xf0
			return eth4(h.ip4(ct.TCP).With(s))
		}},
		{name: "a UDP length of 0", frames: func(h hosts) [][]byte {
			d := udp(20)
			copy(d[4:], []byte{0, 0})
			return eth4(h.ip4(ct.UDP).With(d))
		}},
		{name: "a UDP length beyond the packet", frames: func(h hosts) [][]byte {
			d := udp(20)
			copy(d[4:], []byte{0xff, 0})
			return eth4(h.ip4(ct.UDP).With(d))
		}},
		{name: "ICMP inside IPv6", reason: "foreign-icmp", frames: func(h hosts) [][]byte { return eth6(h.ip6(ct.ICMP).With(ct.Ping(8, 3))) }},
	}
}

// cutSpecimens are frames of which the capture holds the beginning only.
func cutSpecimens() []specimen {
	var all []specimen
	for _, n := range []int{1, 13, 14, 20, 33, 34, 36, 38, 42, 46, 47, 48, 54, 60} {
		all = append(all, specimen{name: fmt.Sprintf("IPv4 cut to %d bytes", n), cut: n, frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.TCP).With(tcp(ct.SYN), make([]byte, 1000)), h.back4(ct.TCP).With(tcpBack(ct.SYN|ct.ACK), make([]byte, 500)))
		}})
	}
	for _, n := range []int{20, 53, 54, 58, 68, 80} {
		all = append(all, specimen{name: fmt.Sprintf("IPv6 cut to %d bytes", n), cut: n, frames: func(h hosts) [][]byte {
			return eth6(h.ip6(ct.TCP).With(tcp(ct.SYN), make([]byte, 1000)))
		}})
	}
	for _, n := range []int{34, 35, 38, 42} {
		reason := ""
		if n == 38 {
			reason = "cut-icmp"
		}
		all = append(all, specimen{name: fmt.Sprintf("UDP and ICMP cut to %d bytes", n), cut: n, reason: reason, frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(udp(800)), h.back4(ct.ICMP).With(ct.Ping(8, 0, make([]byte, 100))))
		}})
	}
	return all
}

func tcpSpecimens() []specimen {
	flags := specimen{name: "every TCP flag", frames: func(h hosts) [][]byte {
		var frames [][]byte
		for bit := range 9 {
			frames = append(frames, eth4(ct.IP4{Src: h.v4(1), Dst: h.v4(byte(10 + bit)), Proto: ct.TCP}.With(tcp(1<<bit)))...)
		}
		return append(frames, eth4(h.ip4(ct.TCP).With(tcp(0x1ff)), h.back4(ct.TCP).With(tcpBack(0xe00)))...)
	}}
	options := specimen{name: "TCP options of length 0", frames: func(h hosts) [][]byte {
		s := ct.Segment{Sport: 4000, Dport: 80, Flags: ct.SYN, Options: []byte{2, 0, 0, 0, 3, 0, 0, 0}}
		return eth4(h.ip4(ct.TCP).With(s.Bytes()))
	}}
	return append([]specimen{flags, options}, healthSpecimens()...)
}

// sent is one segment of a conversation between hosts 1 and 2.
type sent struct {
	back     bool
	flags    uint16
	seq, ack uint32
	payload  int
	closed   bool // the window
}

func talkOf(name string, segments ...sent) specimen {
	return specimen{name: name, frames: func(h hosts) [][]byte {
		var frames [][]byte
		for _, s := range segments {
			window := uint16(1000)
			if s.closed {
				window = 0
			}
			p, seg := h.ip4(ct.TCP), ct.Segment{Sport: 4000, Dport: 80, Flags: s.flags, Seq: s.seq, Ack: s.ack, Window: window, Payload: make([]byte, s.payload)}
			if s.back {
				p, seg.Sport, seg.Dport = h.back4(ct.TCP), 80, 4000
			}
			frames = append(frames, eth4(p.With(seg.Bytes()))...)
		}
		return frames
	}}
}

// healthSpecimens are conversations whose segments get lost, whose windows
// close, and whose sequence numbers are above 2^31, where comparisons go wrong.
func healthSpecimens() []specimen {
	const a, b = 3_000_000_000, 4_294_967_200 // b wraps
	open := []sent{{flags: ct.SYN, seq: a}, {back: true, flags: ct.SYN | ct.ACK, seq: b, ack: a + 1}, {flags: ct.ACK, seq: a + 1, ack: b + 1}}
	with := func(rest ...sent) []sent { return slices.Concat(open, rest) }
	var wrapped uint32 = b
	wrapped += 1 + 500
	return []specimen{
		talkOf("a conversation without losses", with(sent{flags: ct.ACK | ct.PSH, seq: a + 1, ack: b + 1, payload: 100}, sent{back: true, flags: ct.ACK | ct.PSH, seq: b + 1, ack: a + 101, payload: 500},
			sent{flags: ct.ACK, seq: a + 101, ack: wrapped}, sent{back: true, flags: ct.ACK, seq: wrapped, ack: a + 101, payload: 10})...),
		talkOf("a segment sent twice", with(sent{flags: ct.ACK, seq: a + 1, ack: b + 1, payload: 100}, sent{flags: ct.ACK, seq: a + 1, ack: b + 1, payload: 100})...),
		talkOf("a SYN sent three times", sent{flags: ct.SYN, seq: a}, sent{flags: ct.SYN, seq: a}, sent{flags: ct.SYN, seq: a}),
		talkOf("a SYN-ACK sent twice", open[0], open[1], open[1], open[2]),
		talkOf("SYNs with other sequence numbers, up and down", sent{flags: ct.SYN, seq: a}, sent{flags: ct.SYN, seq: 5}, sent{flags: ct.SYN, seq: a + 99}, sent{flags: ct.SYN, seq: 7}),
		talkOf("a side whose first segment is an ACK", sent{back: true, flags: ct.ACK, seq: b + 1, ack: a, payload: 9}, sent{flags: ct.ACK, seq: a, ack: b + 10}, sent{flags: ct.ACK | ct.PSH, seq: a, ack: b + 10, payload: 24}, sent{flags: ct.FIN | ct.ACK, seq: a + 24, ack: b + 10}),
		talkOf("a FIN sent twice", with(sent{flags: ct.FIN | ct.ACK, seq: a + 1, ack: b + 1}, sent{flags: ct.FIN | ct.ACK, seq: a + 1, ack: b + 1})...),
		talkOf("a closed window that opens", with(sent{back: true, flags: ct.ACK, seq: b + 1, ack: a + 1, closed: true}, sent{back: true, flags: ct.ACK, seq: b + 1, ack: a + 1, closed: true}, sent{back: true, flags: ct.ACK, seq: b + 1, ack: a + 1})...),
		talkOf("a refused connection", open[0], sent{back: true, flags: ct.RST | ct.ACK, ack: a + 1, closed: true}),
		talkOf("a connection that is reset by both", with(sent{flags: ct.RST, seq: a + 1, closed: true}, sent{back: true, flags: ct.RST, seq: b + 1, closed: true})...),
		{name: "the beginning of TCP headers alone", cut: 40, frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.TCP).With(tcp(ct.SYN)), h.ip4(ct.TCP).With(tcp(ct.ACK)))
		}},
	}
}

// corpus is a capture of all specimens, by case, with times that only nanoseconds hold.
func corpus(all []specimen) []ct.Packet {
	var packets []ct.Packet
	for i, s := range all {
		for _, f := range s.frames(hosts{uint16(i + 1)}) {
			p := ct.Packet{TimeNS: epoch + int64(len(packets))*1_234_567, Data: f, Length: uint32(len(f))}
			if s.cut > 0 {
				p.Data = f[:min(s.cut, len(f))]
			}
			packets = append(packets, p)
		}
	}
	return packets
}

// onLink is a payload of each kind in frames of a link type.
type onLink struct {
	name   string
	link   uint16
	header func(ethertype uint16) []byte
	reason string
}

func onLinks() []onLink {
	ipOnly := func(uint16) []byte { return nil }
	family := func(order binary.ByteOrder, six uint32) func(uint16) []byte {
		return func(typ uint16) []byte {
			v := uint32(2)
			if typ == ct.EtherIP6 {
				v = six
			}
			b := make([]byte, 4)
			order.PutUint32(b, v)
			return b
		}
	}
	ppp := func(head string) func(uint16) []byte {
		return func(typ uint16) []byte {
			proto := ct.BE(0x21)
			if typ == ct.EtherIP6 {
				proto = ct.BE(0x57)
			}
			return append([]byte(head), proto...)
		}
	}
	wireless := func(typ uint16) []byte { // from the distribution system, LLC, SNAP
		return slices.Concat([]byte{0x08, 0x02}, make([]byte, 22), ct.BE(0xaaaa, 0x0300, 0), ct.BE(typ))
	}
	return []onLink{
		{name: "raw IP", link: linkRaw, header: ipOnly},
		{name: "loopback, little endian", link: linkNull, header: family(binary.LittleEndian, 30)},
		{name: "loopback, big endian", link: linkNull, header: family(binary.BigEndian, 24)},
		{name: "loopback of OpenBSD", link: linkLoop, header: family(binary.BigEndian, 24)},
		{name: "Linux cooked", link: linkCooked, header: func(typ uint16) []byte {
			return slices.Concat(ct.BE(0, 1, 6), make([]byte, 8), ct.BE(typ))
		}},
		{name: "Linux cooked, version 2", link: linkCooked2, header: func(typ uint16) []byte {
			return slices.Concat(ct.BE(typ, 0, 0, 3, 1), []byte{4, 6}, make([]byte, 8))
		}},
		{name: "PPP", link: linkPPP, header: ppp("")},
		{name: "PPP in HDLC-like framing", link: linkPPP, header: ppp("\xff\x03")},
		{name: "PPP on a serial line", link: linkPPPSerial, header: ppp("\xff\x03")},
		{name: "PPP with direction", link: linkPPPDir, header: ppp("\x01\xff\x03")},
		{name: "802.11", link: link80211, header: wireless},
		{name: "802.11 with radiotap", link: linkRadiotap, header: func(typ uint16) []byte {
			return append([]byte{0, 0, 9, 0, 2, 0, 0, 0, 0}, wireless(typ)...)
		}},
		{name: "Cisco HDLC", link: linkCiscoHDLC, header: func(typ uint16) []byte { return ct.BE(0x0f00, typ) }},
	}
}

// linkCorpus is a pcapng capture with an interface for each link type, of
// different time resolutions and cuts.
func linkCorpus() (file []byte, all []specimen) {
	g := &ct.NG{Order: binary.BigEndian}
	g.Section()
	links := onLinks()
	resolutions := []byte{6, 9, 3, 0x80 | 20, 7, 0x80 | 32}
	for i, l := range links {
		g.Interface(l.link, 0, ct.Option{Code: ct.Resolution, Value: resolutions[i%len(resolutions) : i%len(resolutions)+1]})
	}
	n := 0
	for i, l := range links {
		all = append(all, specimen{name: l.name, reason: l.reason})
		h := hosts{uint16(i + 1)}
		for _, f := range [][]byte{
			append(l.header(ct.EtherIP4), h.ip4(ct.TCP).With(tcp(ct.SYN))...),
			append(l.header(ct.EtherIP6), h.ip6(ct.UDP).With(udp(1400))...),
			append(l.header(ct.EtherIP4), h.back4(ct.ICMP).With(ct.Ping(11, 0))...),
			append(l.header(ct.EtherIP4), h.ip4(ct.UDP).With(udp(5000))...),
		} {
			stamp := map[byte]uint64{6: 1e6, 9: 1e9, 3: 1e3, 0x80 | 20: 1 << 20, 7: 1e7, 0x80 | 32: 1 << 32}[resolutions[i%len(resolutions)]]
			n++
			g.Enhanced(uint32(i), uint64(epoch/1e9)*stamp+uint64(n)*stamp/97, ct.Packet{Data: f[:min(len(f), 2000)], Length: uint32(len(f))})
		}
	}
	return bytes.Clone(g.Bytes()), all
}

// describe names the case that an address belongs to.
func describe(all []specimen, a netip.Addr) string {
	if n := caseOf(a); n >= 1 && n <= len(all) {
		return all[n-1].name
	}
	return strings.Join([]string{"no case has", a.String()}, " ")
}
