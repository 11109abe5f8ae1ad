package nfdump

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// What columns are read, by their names before nfdump 1.7.4 and since.
const (
	first = iota
	last
	duration
	srcAddr
	dstAddr
	srcPort
	dstPort
	proto
	flags
	inPackets
	inBytes
	outPackets
	outBytes
	vlan
	columnCount
)

var names = map[string]int{
	"ts": first, "te": last, "td": duration, "sa": srcAddr, "da": dstAddr, "sp": srcPort, "dp": dstPort, "pr": proto, "flg": flags,
	"ipkt": inPackets, "ibyt": inBytes, "opkt": outPackets, "obyt": outBytes, "svln": vlan,
	"firstSeen": first, "lastSeen": last, "srcAddr": srcAddr, "dstAddr": dstAddr, "srcPort": srcPort, "dstPort": dstPort, "proto": proto,
	"duration": duration, "packets": inPackets, "bytes": inBytes, "outPackets": outPackets, "outBytes": outBytes, "flags": flags, "srcVlan": vlan,
}

// needed are the columns without which there is no record.
var needed = []int{first, srcAddr, dstAddr, proto, inPackets, inBytes}

// lines reads the CSV that nfdump writes.
type lines struct {
	text    *bufio.Reader
	columns [columnCount]int // where each is in a line, -1 if it is not
	count   int              // of columns in a line
	number  int64
	atEnd   bool
}

// newLines reads as far as the names of the columns.
func newLines(text io.Reader) (*lines, error) {
	l := &lines{text: bufio.NewReaderSize(text, 1<<16)}
	return l, l.header()
}

// header reads the names of the columns. A file without records has none.
func (l *lines) header() error {
	for {
		for i := range l.columns { // nothing of what a line before the header names
			l.columns[i] = -1
		}
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			l.columns[outPackets] = 0 // nothing to read again
			return nil
		}
		if err != nil {
			return err
		}
		found := strings.Split(line, ",")
		for i, n := range found {
			if c, ok := names[strings.TrimSpace(n)]; ok {
				l.columns[c] = i
			}
		}
		if l.columns[first] < 0 {
			continue // what it says before
		}
		l.count = len(found)
		for _, c := range needed {
			if l.columns[c] < 0 {
				return fmt.Errorf("the CSV of this nfdump has not all columns that are needed, but %.200q: use nfdump 1.6.17 or later", line)
			}
		}
		return nil
	}
}

// next returns the next line, io.EOF after the last or before the summary.
func (l *lines) next() (string, error) {
	if l.atEnd {
		return "", io.EOF
	}
	line, err := l.text.ReadSlice('\n')
	l.number++
	text := strings.TrimSpace(string(line))
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("read the output of nfdump, line %d: %w", l.number, err)
	case err != nil && text == "", text == "Summary", strings.HasPrefix(text, "No matching flows"):
		l.atEnd = true
		return "", io.EOF
	}
	return text, nil
}

// read replaces f with the next record. It returns io.EOF after the last, and a
// *importer.RejectError for a line that holds none.
func (l *lines) read(f *ebbwatch.Flow) error {
	line, err := l.next()
	if err != nil {
		return err
	}
	if reason, detail := l.flow(strings.Split(line, ","), f); reason != "" {
		return &importer.RejectError{Line: l.number, Reason: reason, Detail: detail, Text: []byte(line)}
	}
	return nil
}

// flow reads one line. It returns the reason and the detail of what is wrong.
func (l *lines) flow(values []string, f *ebbwatch.Flow) (reason, detail string) {
	if len(values) < l.count {
		return "wrong number of fields", fmt.Sprintf("%d, want %d", len(values), l.count)
	}
	get := func(c int) string {
		if i := l.columns[c]; i >= 0 {
			return strings.TrimSpace(values[i])
		}
		return ""
	}
	*f = ebbwatch.Flow{Sampling: 1, Final: true}
	var err error
	if f.Start, err = time.Parse("2006-01-02 15:04:05.999", get(first)); err != nil || f.Start.Year() < 1970 || f.Start.Year() >= 2200 {
		return "time", strconv.Quote(get(first))
	}
	seconds, err := strconv.ParseFloat(max(get(duration), "0"), 64)
	if err != nil || !(seconds >= 0 && seconds < 366*24*3600) {
		return "time", "duration is " + strconv.Quote(get(duration))
	}
	f.End = f.Start.Add(time.Duration(seconds*1e6) * time.Microsecond)
	for to, c := range map[*netip.Addr]int{&f.Src: srcAddr, &f.Dst: dstAddr} {
		a, err := netip.ParseAddr(get(c))
		if err != nil || a.Zone() != "" {
			return "address", strconv.Quote(get(c))
		}
		*to = a.Unmap()
	}
	var ok bool
	if f.Proto, ok = protocol(get(proto)); !ok {
		return "protocol", strconv.Quote(get(proto))
	}
	for to, c := range map[*uint64]int{&f.SrcPackets: inPackets, &f.SrcBytes: inBytes, &f.DstPackets: outPackets, &f.DstBytes: outBytes} {
		if text := get(c); text != "" {
			if *to, err = strconv.ParseUint(text, 10, 63); err != nil {
				return "number", strconv.Quote(text)
			}
		}
	}
	if bad := ports(f, get(srcPort), get(dstPort)); bad != "" {
		return "number", strconv.Quote(bad)
	}
	if v, err := strconv.ParseUint(get(vlan), 10, 12); err == nil {
		f.VLAN = uint16(v)
	}
	f.SrcFlags = tcpFlags(f.Proto, get(flags))
	state(f)
	return "", ""
}

// ports reads ports, or ICMP's type and code, which stand in the second one: as
// type times 256 plus code, or as type.code. It returns the text that is none.
func ports(f *ebbwatch.Flow, src, dst string) (bad string) {
	if typ, code, dotted := strings.Cut(dst, "."); dotted {
		t, err := strconv.ParseUint(typ, 10, 8)
		c, err2 := strconv.ParseUint(code, 10, 8)
		if err != nil || err2 != nil {
			return dst
		}
		f.ICMPType, f.ICMPCode = uint8(t), uint8(c)
		return ""
	}
	for _, p := range []struct {
		text string
		to   *uint16
	}{{src, &f.SrcPort}, {dst, &f.DstPort}} {
		if p.text == "" {
			continue
		}
		v, err := strconv.ParseUint(p.text, 10, 16)
		if err != nil {
			return p.text
		}
		*p.to = uint16(v)
	}
	if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
		f.ICMPType, f.ICMPCode = uint8(f.DstPort>>8), uint8(f.DstPort)
		f.SrcPort, f.DstPort = 0, 0
	}
	return ""
}

// protocols are nfdump's names of those that have one. It writes others as numbers.
var protocols = []struct {
	name   string
	number uint8
}{
	{"ICMP", 1}, {"IGMP", 2}, {"IPIP", 4}, {"TCP", 6}, {"EGP", 8}, {"IGP", 9}, {"UDP", 17}, {"IPv6", 41}, {"RSVP", 46}, {"GRE", 47}, {"ESP", 50},
	{"AH", 51}, {"ICMP6", 58}, {"EIGRP", 88}, {"OSPF", 89}, {"PIM", 103}, {"VRRP", 112}, {"L2TP", 115}, {"SCTP", 132}, {"UDPLt", 136},
}

func protocol(text string) (uint8, bool) {
	if v, err := strconv.ParseUint(text, 10, 8); err == nil {
		return uint8(v), true
	}
	i := slices.IndexFunc(protocols, func(p struct {
		name   string
		number uint8
	}) bool {
		return p.name == text
	})
	if i < 0 {
		return 0, false
	}
	return protocols[i].number, true
}

// tcpFlags reads flags like "...AP.S.", or as a number.
func tcpFlags(proto uint8, text string) (f ebbwatch.TCPFlags) {
	if proto != ebbwatch.ProtoTCP {
		return 0
	}
	if v, err := strconv.ParseUint(text, 0, 8); err == nil {
		return ebbwatch.TCPFlags(v)
	}
	const letters = "FSRPAUEC" // from the lowest bit
	for i := range len(letters) {
		if strings.IndexByte(text, letters[i]) >= 0 {
			f |= 1 << i
		}
	}
	return f
}

// state fills in what follows from the counters. NetFlow has no more.
func state(f *ebbwatch.Flow) {
	switch {
	case f.Proto == ebbwatch.ProtoTCP && f.SrcFlags == ebbwatch.FlagSYN && f.DstPackets == 0:
		f.ConnState, f.Initiator = ebbwatch.StateS0, ebbwatch.InitiatorSYN
	case f.Proto == ebbwatch.ProtoUDP && f.DstPackets > 0:
		f.ConnState = ebbwatch.StateSF
	case f.Proto == ebbwatch.ProtoUDP:
		f.ConnState = ebbwatch.StateS0
	}
}
