// Package nfdump reads the files of nfcapd (NetFlow, IPFIX, sFlow) through the
// program nfdump, which knows all versions of their format.
package nfdump

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// Source is an importer.Source of files of nfcapd.
type Source struct {
	command string
	paths   []string
	leftOut []importer.LeftOut
}

// New looks at the given files, and at those in the given folders whose name
// begins with "nfcapd.".
func New(paths []string) (*Source, error) {
	found, err := importer.Walk(paths)
	if err != nil {
		return nil, err
	}
	s := &Source{}
	for _, f := range found {
		base := filepath.Base(f.Path)
		switch {
		case !f.Named && strings.HasPrefix(base, "nfcapd.current"):
			s.leave(f.Path, "nfcapd still writes it")
		case !f.Named && !strings.HasPrefix(base, "nfcapd."):
			s.leave(f.Path, "its name does not begin with nfcapd.")
		default:
			if err := check(f.Path); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
			s.paths = append(s.paths, f.Path)
		}
	}
	if len(s.paths) == 0 {
		return nil, fmt.Errorf("no file of nfcapd in %s: their names begin with 'nfcapd.'", strings.Join(paths, ", "))
	}
	if s.command, err = exec.LookPath("nfdump"); err != nil {
		return nil, errors.New("the program nfdump is not installed, which reads these files: apt-get install nfdump, dnf install nfdump, or build https://github.com/phaag/nfdump")
	}
	return s, nil
}

func (s *Source) leave(path, why string) {
	s.leftOut = append(s.leftOut, importer.LeftOut{File: path, Why: why})
}

// check looks for the two bytes that nfcapd's files begin with, on machines of
// either byte order.
func check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read: %w", err)
	}
	if head = head[:n]; bytes.HasPrefix(head, []byte("\x0c\xa5")) || bytes.HasPrefix(head, []byte("\xa5\x0c")) {
		return nil
	}
	return fmt.Errorf("is no file of nfcapd, but %s", importer.LooksLike(head))
}

// Files implements importer.Source.
func (s *Source) Files() []string { return s.paths }

// Tell implements importer.Source.
func (s *Source) Tell(sum *importer.Summary) { sum.LeftOut = append(sum.LeftOut, s.leftOut...) }

// Open implements importer.Source. nfdump joins the two directions of a
// conversation (-B), if its CSV has columns for the second.
func (s *Source) Open(ctx context.Context, i int, _ bool) (importer.Reader, error) {
	r, err := s.start(ctx, s.paths[i], "-B", "-O", "tstart")
	if err != nil || r.columns[outPackets] >= 0 {
		return r, err
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return s.start(ctx, s.paths[i])
}

func (s *Source) start(ctx context.Context, path string, flags ...string) (*reader, error) {
	if strings.HasPrefix(path, "-") {
		path = "./" + path // no flag of nfdump
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, s.command, append([]string{"-r", path, "-o", "csv"}, flags...)...) //nolint:gosec // found on PATH, as documented
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")                                               // its times are local ones
	r := &reader{cmd: cmd, cancel: cancel}
	cmd.Stderr = &r.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("run nfdump: %w", err)
	}
	r.lines = bufio.NewReaderSize(out, 1<<16)
	if err := r.header(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

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

// reader reads the CSV of one run of nfdump.
type reader struct {
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	lines   *bufio.Reader
	stderr  limited
	columns [columnCount]int // where each is in a line, -1 if it is not
	count   int              // of columns in a line
	number  int64
	atEnd   bool
}

// limited keeps the beginning of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	_, _ = l.Buffer.Write(p[:min(len(p), max(0, 1000-l.Len()))]) // a buffer takes all
	return len(p), nil
}

// header reads the names of the columns. A file without records has none.
func (r *reader) header() error {
	for i := range r.columns {
		r.columns[i] = -1
	}
	for {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			r.columns[outPackets] = 0 // nothing to read again
			return nil
		}
		if err != nil {
			return err
		}
		found := strings.Split(line, ",")
		for i, n := range found {
			if c, ok := names[strings.TrimSpace(n)]; ok {
				r.columns[c] = i
			}
		}
		if r.columns[first] < 0 {
			continue // what it says before
		}
		r.count = len(found)
		for _, c := range needed {
			if r.columns[c] < 0 {
				return fmt.Errorf("the CSV of this nfdump has not all columns that are needed, but %.200q: use nfdump 1.6.17 or later", line)
			}
		}
		return nil
	}
}

// next returns the next line, io.EOF after the last or before the summary.
func (r *reader) next() (string, error) {
	if r.atEnd {
		return "", io.EOF
	}
	line, err := r.lines.ReadSlice('\n')
	r.number++
	text := strings.TrimSpace(string(line))
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("read the output of nfdump, line %d: %w", r.number, err)
	case err != nil && text == "", text == "Summary", strings.HasPrefix(text, "No matching flows"):
		r.atEnd = true
		return "", io.EOF
	}
	return text, nil
}

// Read implements importer.Reader.
func (r *reader) Read(f *ebbwatch.Flow) error {
	line, err := r.next()
	if errors.Is(err, io.EOF) {
		return r.wait()
	}
	if err != nil {
		return err
	}
	values := strings.Split(line, ",")
	if reason, detail := r.flow(values, f); reason != "" {
		return &importer.RejectError{Line: r.number, Reason: reason, Detail: detail, Text: []byte(line)}
	}
	return nil
}

// wait returns io.EOF if nfdump has read the file to its end.
func (r *reader) wait() error {
	_, _ = io.Copy(io.Discard, r.lines) // the summary
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("nfdump: %w: %s", err, bytes.TrimSpace(r.stderr.Bytes()))
	}
	return io.EOF
}

// Close implements importer.Reader.
func (r *reader) Close() error {
	r.cancel()
	_ = r.cmd.Wait() // it was told to end, or has ended
	return nil
}

// flow reads one line. It returns the reason and the detail of what is wrong.
func (r *reader) flow(values []string, f *ebbwatch.Flow) (reason, detail string) {
	if len(values) < r.count {
		return "wrong number of fields", fmt.Sprintf("%d, want %d", len(values), r.count)
	}
	get := func(c int) string {
		if i := r.columns[c]; i >= 0 {
			return strings.TrimSpace(values[i])
		}
		return ""
	}
	*f = ebbwatch.Flow{Sampling: 1, Final: true}
	var err error
	if f.Start, err = time.Parse("2006-01-02 15:04:05.999", get(first)); err != nil || f.Start.Year() < 1970 {
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
