package replay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ebbwatch/ebbwatch"
)

// JSON writes each record as a JSON object on a line of its own, whose keys are
// the columns of the SQL table flows, and at last the totals as {"totals":{…}}.
type JSON struct {
	w       *bufio.Writer
	columns []column
	line    []byte
}

// NewJSON returns a JSON that writes to w when its buffer is full, and at last.
func NewJSON(w io.Writer) *JSON {
	return &JSON{w: bufio.NewWriterSize(w, 1<<16), columns: columns()}
}

// Record writes one record.
func (j *JSON) Record(f *ebbwatch.Flow) error {
	b := append(j.line[:0], '{')
	for i, c := range j.columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), c.name...), '"', ':')
		b = c.write(b, f)
	}
	j.line = append(b, '}', '\n')
	_, err := j.w.Write(j.line)
	return wrapWrite(err)
}

// Totals writes the last line. problem, if there is one, stands in it as "error".
func (j *JSON) Totals(t *Totals, problem error) error {
	type totals struct {
		*Totals
		Error string `json:"error,omitempty"`
	}
	last := totals{Totals: t}
	if problem != nil {
		last.Error = problem.Error()
	}
	err := json.NewEncoder(j.w).Encode(map[string]totals{"totals": last})
	if err == nil {
		err = j.w.Flush()
	}
	return wrapWrite(err)
}

// appendString writes s as JSON. Nearly all strings need no escaping.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // never: every string has a JSON form
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// Text writes records as lines of a table for people, and a summary.
type Text struct {
	w     *bufio.Writer
	lines int
}

// NewText returns a Text that writes to w when its buffer is full, and at last.
func NewText(w io.Writer) *Text { return &Text{w: bufio.NewWriterSize(w, 1<<16)} }

const textRow = "%-26s %10s %-5s %-8s %-28s %-28s %9s %12s %9s %12s %s\n"

// Record writes one line.
func (t *Text) Record(f *ebbwatch.Flow) error {
	if t.lines == 0 {
		fmt.Fprintf(t.w, textRow, "start (UTC)", "ms", "proto", "state", "source", "destination", "packets", "bytes", "packets", "bytes", "")
	}
	t.lines++
	_, err := fmt.Fprintf(t.w, textRow, f.Start.UTC().Format("2006-01-02 15:04:05.000000"), strconv.FormatInt(f.End.Sub(f.Start).Milliseconds(), 10),
		protocol(f.Proto), f.ConnState, endpoint(f, true), endpoint(f, false), strconv.FormatUint(f.SrcPackets, 10), strconv.FormatUint(f.SrcBytes, 10),
		strconv.FormatUint(f.DstPackets, 10), strconv.FormatUint(f.DstBytes, 10), notes(f))
	return wrapWrite(err)
}

func endpoint(f *ebbwatch.Flow, source bool) string {
	addr, port := f.Dst, f.DstPort
	if source {
		addr, port = f.Src, f.SrcPort
	}
	if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
		return addr.String()
	}
	return addr.String() + " " + strconv.Itoa(int(port))
}

func protocol(proto uint8) string {
	switch proto {
	case ebbwatch.ProtoICMP:
		return "icmp"
	case ebbwatch.ProtoTCP:
		return "tcp"
	case ebbwatch.ProtoUDP:
		return "udp"
	case ebbwatch.ProtoICMPv6:
		return "icmp6"
	}
	return strconv.Itoa(int(proto))
}

// notes tells what only some records have.
func notes(f *ebbwatch.Flow) string {
	var all []string
	if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
		all = append(all, fmt.Sprintf("type %d code %d", f.ICMPType, f.ICMPCode))
	}
	if f.SrcFlags|f.DstFlags != 0 {
		all = append(all, fmt.Sprintf("%s/%s", f.SrcFlags, f.DstFlags))
	}
	if f.VLAN != 0 {
		all = append(all, fmt.Sprintf("vlan %d", f.VLAN))
	}
	if f.Tunnel != 0 {
		all = append(all, fmt.Sprintf("%s %d", f.Tunnel, f.TunnelID))
	}
	if f.Hint.ServerName != "" {
		all = append(all, strconv.QuoteToASCII(f.Hint.ServerName)) // from the network: it might command a terminal
	}
	return strings.Join(all, ", ")
}

// Totals writes the summary, but not of nothing: then the problem is all there is to say.
func (t *Text) Totals(sum *Totals, problem error) error {
	if problem != nil && sum.Seen.Packets == 0 {
		return wrapWrite(t.w.Flush())
	}
	if t.lines > 0 {
		fmt.Fprintln(t.w)
	}
	fmt.Fprintf(t.w, "%d records of %d conversations", sum.Records, sum.Conversations)
	if sum.First != "" {
		fmt.Fprintf(t.w, ", %s to %s", sum.First, sum.Last)
	}
	fmt.Fprintln(t.w)
	row := func(name string, c Count) {
		fmt.Fprintf(t.w, "%-32s %12d packets %16d bytes\n", name, c.Packets, c.Bytes)
	}
	row("seen", sum.Seen)
	row("recorded", sum.Recorded)
	row("overflowed (flow map full)", sum.Overflowed)
	row("refused", sum.Refused.Count)
	for _, reason := range slices.Sorted(maps.Keys(sum.Refused.Reasons)) {
		fmt.Fprintf(t.w, "  %-30s %12d packets\n", strings.ReplaceAll(reason, "_", " "), sum.Refused.Reasons[reason])
	}
	if sum.Evicted > 0 {
		fmt.Fprintf(t.w, "%d conversations were forgotten early, for room\n", sum.Evicted)
	}
	if problem != nil {
		fmt.Fprintln(t.w, "incomplete:", problem)
	}
	return wrapWrite(t.w.Flush())
}

func wrapWrite(err error) error {
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
