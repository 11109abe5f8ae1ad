package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch"
	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

// The reference: what tshark dissects of each packet, summed up to
// conversations by rules of its own, which docs/replay.md states.

// talk is the sum of a conversation's records, or of its packets.
type talk struct {
	packets, bytes     [2]uint64 // sent by the lower endpoint, by the higher one
	flags              [2]uint16
	firstUS, lastUS    int64 // microseconds since 1970
	icmpType, icmpCode uint8 // of the first packet, or of the request that it answers
	asker              int   // the side that sent that message; 0 where proto is not ICMP
}

// talkKey tells conversations apart. Endpoint a is the lower one.
type talkKey struct {
	a, b         netip.Addr
	aPort, bPort uint16
	proto        uint8
	vlan         uint16
	tunnel       ebbwatch.Tunnel
	tunnelID     uint32
}

func (k talkKey) String() string {
	s := fmt.Sprintf("%s %d - %s %d proto %d", k.a, k.aPort, k.b, k.bPort, k.proto)
	if k.vlan != 0 {
		s += fmt.Sprintf(" vlan %d", k.vlan)
	}
	if k.tunnel != 0 {
		s += fmt.Sprintf(" %s %d", k.tunnel, k.tunnelID)
	}
	return s
}

// oriented returns the key with the lower endpoint first, and the side of it
// that was the source.
func (k talkKey) oriented() (talkKey, int) {
	if c := k.a.Compare(k.b); c > 0 || c == 0 && k.aPort > k.bPort {
		k.a, k.b, k.aPort, k.bPort = k.b, k.a, k.bPort, k.aPort
		return k, 1
	}
	return k, 0
}

// account is what a capture amounts to.
type account struct {
	talks   map[talkKey]*talk
	tcp     map[talkKey]*tcpTalk
	refused Count
}

// tsharkFields are what the reference asks for, each with all its occurrences.
func tsharkFields() []string {
	return []string{
		"frame.time_epoch", "frame.len", "frame.protocols", "vlan.id", "ieee8021ad.id",
		"ip.src", "ip.dst", "ip.proto", "ip.id", "ip.flags.mf", "ip.frag_offset",
		"ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.hopopts.nxt", "ipv6.dstopts.nxt", "ipv6.routing.nxt", "ah.next_header",
		"ipv6.fraghdr.nxt", "ipv6.fraghdr.offset", "ipv6.fraghdr.more", "ipv6.fraghdr.ident",
		"tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport", "udp.dstport",
		"sctp.srcport", "sctp.dstport", "dccp.srcport", "dccp.dstport",
		"icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code", "gre.flags_and_version", "gre.key", "vxlan.vni", "geneve.vni",
		"tcp.analysis.retransmission", "tcp.analysis.fast_retransmission", "tcp.analysis.spurious_retransmission", "tcp.analysis.out_of_order", "tcp.analysis.zero_window",
	}
}

// needTshark skips without tshark, except in CI.
func needTshark(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs tshark (scripts/setup-packages.sh tshark:tshark)")
	}
	t.Skip("needs tshark")
}

// reference sums up a capture by tshark.
func reference(t *testing.T, file string) *account {
	t.Helper()
	needTshark(t)
	args := []string{
		"-n", "-r", file, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
		"-d", "udp.port==8472,vxlan", "-T", "fields", "-E", "occurrence=a", "-E", "separator=/t", "-E", "aggregator=;",
	}
	for _, f := range tsharkFields() {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := walker{account: newAccount(), firsts: map[string]verdict{}}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := w.packet(lines.Text()); err != nil {
			t.Fatalf("%s: packet %q: %v", file, lines.Text(), err)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		t.Fatalf("tshark: %v\n%s", err, complaints.String())
	}
	return w.account
}

// walker goes along the protocols that tshark found in a packet.
type walker struct {
	account *account
	fields  map[string][]string // of the packet at hand: occurrences that are left
	firsts  map[string]verdict  // by first fragments, what their datagram belongs to
	problem error
}

// level is one IP packet: the outermost, or one in a tunnel.
type level struct {
	key                 talkKey
	ports, later, first bool
	flags               uint16
	icmpType, icmpCode  uint8
	fragment            string // names the datagram
	typed               bool   // type and code of ICMP were there
	unreadable          bool
}

// verdict is what a packet belongs to.
type verdict struct {
	key                talkKey
	icmpType, icmpCode uint8
}

// take removes and returns the first occurrence of a field that is left.
func (w *walker) take(name string) (string, bool) {
	all := w.fields[name]
	if len(all) == 0 {
		return "", false
	}
	w.fields[name] = all[1:]
	return all[0], true
}

func (w *walker) number(name string) (uint64, bool) {
	s, ok := w.take(name)
	if !ok {
		return 0, false
	}
	switch s {
	case "True":
		return 1, true
	case "False":
		return 0, true
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		w.problem = fmt.Errorf("field %s: %w", name, err)
	}
	return n, err == nil
}

func (w *walker) addr(name string) (netip.Addr, bool) {
	s, ok := w.take(name)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		w.problem = fmt.Errorf("field %s: %w", name, err)
	}
	return a, err == nil
}

// packet accounts one line of tshark's output.
func (w *walker) packet(line string) error {
	w.fields = map[string][]string{}
	w.problem = nil
	for i, v := range strings.Split(line, "\t") {
		if v != "" {
			w.fields[tsharkFields()[i]] = strings.Split(v, ";")
		}
	}
	us, err := epochUS(w.fields["frame.time_epoch"][0])
	if err != nil {
		return err
	}
	length, _ := w.number("frame.len")
	levels := w.walk(strings.Split(w.fields["frame.protocols"][0], ":"))
	if w.problem != nil {
		return w.problem
	}
	v, flags, ok := w.judge(levels)
	if !ok {
		w.account.refused.add(1, length)
		return nil
	}
	key, side := v.key.oriented()
	k := w.account.talks[key]
	if k == nil {
		k = &talk{firstUS: us, lastUS: us, icmpType: v.icmpType, icmpCode: v.icmpCode}
		if key.proto == ebbwatch.ProtoICMP || key.proto == ebbwatch.ProtoICMPv6 {
			k.asker = side
		}
		if request := requestOf(v); request != 0 {
			k.icmpType, k.icmpCode, k.asker = request, 0, 1-side
		}
		w.account.talks[key] = k
	}
	k.firstUS, k.lastUS = min(k.firstUS, us), max(k.lastUS, us)
	k.packets[side]++
	k.bytes[side] += length
	k.flags[side] |= flags
	if flags != 0 {
		w.tcp(key, side, us, flags)
	}
	return nil
}

// requestOf returns the ICMP type that a reply answers, 0 for other packets.
func requestOf(v verdict) uint8 {
	v4 := v.key.a.Is4()
	switch {
	case v4 && v.key.proto == ebbwatch.ProtoICMP && v.icmpType == 0:
		return 8
	case v4 && v.key.proto == ebbwatch.ProtoICMP && v.icmpType == 14:
		return 13
	case !v4 && v.key.proto == ebbwatch.ProtoICMPv6 && v.icmpType == 129:
		return 128
	}
	return 0
}

// tcp accounts what tshark's analysis says of a segment.
func (w *walker) tcp(key talkKey, side int, us int64, flags uint16) {
	k := w.account.tcp[key]
	if k == nil {
		k = &tcpTalk{}
		w.account.tcp[key] = k
	}
	k.segments = append(k.segments, segmentSeen{us, side, flags})
	has := func(names ...string) uint32 {
		for _, name := range names {
			if _, ok := w.take("tcp.analysis." + name); ok {
				return 1
			}
		}
		return 0
	}
	k.retransmits[side] += has("retransmission", "fast_retransmission", "spurious_retransmission")
	k.outOfOrder[side] += has("out_of_order")
	k.zeroWindows[side] += has("zero_window")
	if flags&ct.RST != 0 {
		k.resets[side]++
	}
}

// epochUS converts "seconds.fraction" to whole microseconds.
func epochUS(s string) (int64, error) {
	seconds, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return 0, err
	}
	us, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	return sec*1e6 + us, err
}

// walk returns the IP packets inside each other.
func (w *walker) walk(protocols []string) []*level {
	var levels []*level
	var vlans int
	var vlan uint16
	var tunnel ebbwatch.Tunnel
	var tunnelID uint32
	for _, p := range protocols {
		var here *level
		if len(levels) > 0 {
			here = levels[len(levels)-1]
		}
		switch p {
		case "vlan", "ieee8021ad":
			id, ok := w.number(p + ".id")
			if vlans++; ok && vlans == 1 && here == nil {
				vlan = uint16(id)
			}
		case "ip", "ipv6":
			if here != nil && (here.key.proto == 4 || here.key.proto == 41) {
				tunnel, tunnelID = ebbwatch.TunnelIPIP, 0
			}
			l := &level{key: talkKey{vlan: vlan, tunnel: tunnel, tunnelID: tunnelID}}
			w.ip(l, p)
			levels = append(levels, l)
		case "gre":
			tunnel, tunnelID = ebbwatch.TunnelGRE, w.greKey()
		case "vxlan", "geneve":
			tunnel = map[string]ebbwatch.Tunnel{"vxlan": ebbwatch.TunnelVXLAN, "geneve": ebbwatch.TunnelGeneve}[p]
			vni, _ := w.number(p + ".vni")
			tunnelID = uint32(vni)
		case "icmp", "icmpv6":
			typ, ok1 := w.number(p + ".type")
			code, ok2 := w.number(p + ".code")
			here.icmpType, here.icmpCode, here.typed = uint8(typ), uint8(code), ok1 && ok2
			return levels // what follows is a quotation
		default:
			if here != nil && !w.above(here, p) {
				return levels
			}
		}
	}
	return levels
}

func (w *walker) greKey() uint32 {
	flags, _ := w.number("gre.flags_and_version")
	if flags&0x2000 == 0 || flags&7 != 0 {
		return 0
	}
	key, _ := w.number("gre.key")
	return uint32(key)
}

// ip reads a header.
func (w *walker) ip(l *level, p string) {
	var ok1, ok2, ok3 bool
	l.key.a, ok1 = w.addr(p + ".src")
	l.key.b, ok2 = w.addr(p + ".dst")
	var proto uint64
	if p == "ipv6" {
		proto, ok3 = w.number("ipv6.nxt")
	} else {
		proto, ok3 = w.number("ip.proto")
		id, _ := w.number("ip.id")
		more, _ := w.number("ip.flags.mf")
		offset, _ := w.number("ip.frag_offset")
		l.later, l.first = offset != 0, offset == 0 && more != 0
		l.fragment = fmt.Sprint(l.key, proto, id)
	}
	l.key.proto = uint8(proto)
	l.unreadable = !ok1 || !ok2 || !ok3
}

// above reads what stands behind an IP header, and reports whether more can follow.
func (w *walker) above(l *level, p string) bool {
	switch p {
	case "ipv6.hopopts", "ipv6.dstopts", "ipv6.routing":
		next, ok := w.number(p + ".nxt")
		l.key.proto, l.unreadable = uint8(next), l.unreadable || !ok
	case "ah":
		next, ok := w.number("ah.next_header")
		l.key.proto, l.unreadable = uint8(next), l.unreadable || !ok
	case "ipv6.fraghdr":
		next, ok := w.number("ipv6.fraghdr.nxt")
		offset, _ := w.number("ipv6.fraghdr.offset")
		more, _ := w.number("ipv6.fraghdr.more")
		id, _ := w.number("ipv6.fraghdr.ident")
		l.fragment = fmt.Sprint(l.key.a, l.key.b, l.key.vlan, l.key.tunnel, l.key.tunnelID, id)
		l.key.proto, l.later, l.first, l.unreadable = uint8(next), offset != 0, offset == 0 && more != 0, l.unreadable || !ok
	case "tcp", "udp", "udplite", "sctp", "dccp":
		port := p
		if p == "udplite" {
			port = "udp" // as tshark names them
		}
		sport, ok1 := w.number(port + ".srcport")
		dport, ok2 := w.number(port + ".dstport")
		l.key.aPort, l.key.bPort, l.ports = uint16(sport), uint16(dport), ok1 && ok2
		if p == "tcp" {
			flags, _ := w.number("tcp.flags")
			l.flags = uint16(flags) & 0x1ff
		}
	case "eth", "ethertype", "ppp":
	default:
		return false
	}
	return true
}

// judge says what a packet belongs to: its innermost IP packet that can be read.
func (w *walker) judge(levels []*level) (v verdict, flags uint16, ok bool) {
	at := -1
	for i, l := range levels {
		if !l.readable() {
			break
		}
		at = i
	}
	if at < 0 {
		return verdict{}, 0, false
	}
	l := levels[at]
	v = verdict{l.key, l.icmpType, l.icmpCode}
	if l.later {
		if known, ok := w.firsts[l.fragment]; ok {
			v = known
		}
	}
	for _, l := range levels[:at+1] {
		if l.first {
			w.firsts[l.fragment] = v
		}
	}
	return v, l.flags, true
}

// readable reports whether all that names the level's conversation is there.
func (l *level) readable() bool {
	if l.unreadable {
		return false
	}
	if l.later {
		return true
	}
	switch l.key.proto {
	case 6, 17, 33, 132, 136:
		return l.ports
	case ebbwatch.ProtoICMP:
		return l.typed || l.key.a.Is6()
	case ebbwatch.ProtoICMPv6:
		return l.typed || l.key.a.Is4()
	}
	return true
}
