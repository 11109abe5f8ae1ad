// Package columns reads records whose fields are named as the columns of the SQL
// table flows: CSV with a header line, and JSON lines. It is the inverse of an
// export from the store and of `agent replay --json`.
package columns

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// Reasons for which a line is no record.
const (
	reasonFields = "wrong number of fields"
	reasonSyntax = "syntax"
	reasonQuoted = "within a quoted field of several lines"
	reasonValue  = "value"
	reasonKey    = "unknown column"
	reasonMiss   = "a column is missing"
)

// row is a record that is being put together. What a column may only say beside
// others is settled at its end.
type row struct {
	ebbwatch.Flow
	seen       uint8 // of must
	end        time.Time
	durationMS int64
}

// must are the columns without which there is no record.
var must = []string{"start", "src_ip", "dst_ip"}

// column sets what one column tells.
type column func(r *row, text string) error

// ignored are columns that follow from others, and those that the import sets.
var ignored = []string{
	"agent", "bytes", "packets",
	"src_country", "src_asn", "src_network", "src_tags", "dst_country", "dst_asn", "dst_network", "dst_tags", "agent_tags",
}

// lookup returns the setter of a column, nil if there is none.
func lookup(name string) column {
	name = canonical(name)
	if slices.Contains(ignored, name) {
		return func(*row, string) error { return nil }
	}
	if set := base[name]; set != nil {
		return set
	}
	if a, ok := ebbwatch.ParseAttribute(name); ok {
		return func(r *row, text string) error { return a.Set(&r.Flow, text) }
	}
	return nil
}

// canonical returns the name of a column in table flows.
func canonical(name string) string {
	switch name {
	case "src":
		return "src_ip"
	case "dst":
		return "dst_ip"
	}
	return name
}

// base are the columns that are no attributes, and those of attributes that are read in more forms.
var base = map[string]column{
	"start":          moment(func(r *row, t time.Time) { r.Start, r.seen = t, r.seen|1 }),
	"end":            moment(func(r *row, t time.Time) { r.end = t }),
	"duration_ms":    number(32, func(r *row, v uint64) { r.durationMS = int64(v) }),
	"src_ip":         address(func(r *row, a netip.Addr) { r.Src, r.seen = a, r.seen|2 }),
	"dst_ip":         address(func(r *row, a netip.Addr) { r.Dst, r.seen = a, r.seen|4 }),
	"src_port":       number(16, func(r *row, v uint64) { r.SrcPort = uint16(v) }),
	"dst_port":       number(16, func(r *row, v uint64) { r.DstPort = uint16(v) }),
	"proto":          protocol,
	"vlan":           number(12, func(r *row, v uint64) { r.VLAN = uint16(v) }),
	"src_packets":    number(63, func(r *row, v uint64) { r.SrcPackets = v }),
	"src_bytes":      number(63, func(r *row, v uint64) { r.SrcBytes = v }),
	"dst_packets":    number(63, func(r *row, v uint64) { r.DstPackets = v }),
	"dst_bytes":      number(63, func(r *row, v uint64) { r.DstBytes = v }),
	"age_ms":         number(32, func(r *row, v uint64) { r.AgeMS = uint32(v) }),
	"handshake_us":   number(32, func(r *row, v uint64) { r.HandshakeUS = uint32(v) }),
	"rtt_us":         number(32, func(r *row, v uint64) { r.RTTUS = uint32(v) }),
	"app_latency_us": number(32, func(r *row, v uint64) { r.Hint.LatencyUS = uint32(v) }),
}

func number(bits int, set func(*row, uint64)) column {
	return func(r *row, text string) error {
		v, err := strconv.ParseUint(text, 10, bits)
		if err != nil {
			return fmt.Errorf("want a number of at most %d bits", bits)
		}
		set(r, v)
		return nil
	}
}

func address(set func(*row, netip.Addr)) column {
	return func(r *row, text string) error {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return errors.New("want an IPv4 or IPv6 address")
		}
		set(r, a.Unmap())
		return nil
	}
}

// layouts are those of RFC 3339, and of ClickHouse, which means UTC.
var layouts = [...]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999"}

func moment(set func(*row, time.Time)) column {
	return func(r *row, text string) error {
		for _, layout := range layouts {
			if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 && t.Year() < 2200 {
				set(r, t.UTC().Truncate(time.Microsecond))
				return nil
			}
		}
		return errors.New("want a time of the years 1970 to 2199 as RFC 3339, or 2006-01-02 15:04:05.000 in UTC")
	}
}

func protocol(r *row, text string) error {
	switch text {
	case "tcp":
		text = "6"
	case "udp":
		text = "17"
	case "icmp":
		text = "1"
	}
	v, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return errors.New("want IANA's number of the protocol, tcp, udp or icmp")
	}
	r.Proto = uint8(v)
	return nil
}

// finish settles the end and tells what is missing.
func (r *row) finish() error {
	for i, name := range must {
		if r.seen&(1<<i) == 0 {
			return errors.New(name)
		}
	}
	switch {
	case !r.end.IsZero() && !r.end.Before(r.Start):
		r.End = r.end
	default:
		r.End = r.Start.Add(time.Duration(r.durationMS) * time.Millisecond)
	}
	return nil
}

// Source is an importer.Source of CSV files or JSON lines.
type Source struct {
	paths   []string
	leftOut []importer.LeftOut
	json    bool
}

// NewCSV looks at the given files, and at those in the given folders whose name has ".csv".
func NewCSV(paths []string) (*Source, error) { return open(paths, false, ".csv") }

// NewJSON looks at the given files, and at those in the given folders whose name has ".json".
func NewJSON(paths []string) (*Source, error) { return open(paths, true, ".json") }

func open(paths []string, isJSON bool, extension string) (*Source, error) {
	found, err := importer.Walk(paths)
	if err != nil {
		return nil, err
	}
	s := &Source{json: isJSON}
	for _, f := range found {
		if f.Why != "" {
			s.leftOut = append(s.leftOut, importer.LeftOut{File: f.Path, Why: f.Why})
			continue
		}
		if !f.Named && !strings.Contains(filepath.Base(f.Path), extension) {
			s.leftOut = append(s.leftOut, importer.LeftOut{File: f.Path, Why: "its name has no " + extension})
			continue
		}
		s.paths = append(s.paths, f.Path)
	}
	if len(s.paths) == 0 {
		return nil, fmt.Errorf("no file whose name has %s in %s: name the files, or check the folder", extension, strings.Join(paths, ", "))
	}
	return s, nil
}

// Files implements importer.Source.
func (s *Source) Files() []string { return s.paths }

// Tell implements importer.Source.
func (s *Source) Tell(sum *importer.Summary) { sum.LeftOut = append(sum.LeftOut, s.leftOut...) }

// Open implements importer.Source.
func (s *Source) Open(ctx context.Context, i int, _ bool) (importer.Reader, error) {
	l, err := importer.OpenLines(ctx, s.paths[i])
	if err != nil {
		return nil, err
	}
	r := &reader{lines: l}
	if s.json {
		r.parse, err = r.object, r.checkJSON()
	} else {
		r.parse, err = r.separated, r.header()
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return r, nil
}

// reader reads one file.
type reader struct {
	lines   *importer.Lines
	parse   func(line []byte, r *row) (reason string, err error)
	columns []column
	names   []string
	known   map[string]column // of the keys of JSON seen so far
	quoted  int64             // the line of CSV whose last field goes on, 0 if none does
}

// Read implements importer.Reader.
func (r *reader) Read(f *ebbwatch.Flow) error {
	for {
		line, err := r.lines.Next()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		w := row{Flow: ebbwatch.Flow{Sampling: 1}}
		reason, err := r.parse(line, &w)
		switch {
		case errors.Is(err, errNoRecord):
			continue
		case err == nil:
			reason, err = reasonMiss, w.finish()
		}
		if err != nil {
			return &importer.RejectError{Line: r.lines.Number(), Reason: reason, Detail: err.Error(), Text: line}
		}
		*f = w.Flow
		return nil
	}
}

// Close implements importer.Reader.
func (r *reader) Close() error { return r.lines.Close() }

// header reads the names of the columns.
func (r *reader) header() error {
	head := slices.Clone(r.lines.Peek(512))
	var line []byte
	var err error
	for err == nil && len(line) == 0 {
		line, err = r.lines.Next()
	}
	if errors.Is(err, io.EOF) {
		return errors.New("is empty: the first line must name the columns")
	}
	if err != nil {
		return err
	}
	names, err := fields(string(line))
	isMust := func(n string) bool { return slices.Contains(must, canonical(n)) }
	if err != nil || !slices.ContainsFunc(names, isMust) {
		for _, separator := range ";\t|" {
			if slices.ContainsFunc(strings.Split(string(line), string(separator)), func(n string) bool { return isMust(strings.Trim(n, `" `)) }) {
				return fmt.Errorf("its fields are separated by %q: write commas", separator)
			}
		}
		return fmt.Errorf("its first line names none of %s: it is %s", strings.Join(must, ", "), importer.LooksLike(head))
	}
	var r0 row
	for i, n := range names {
		set := lookup(n)
		switch {
		case set == nil:
			return fmt.Errorf("column %q is none of table flows (docs/columns.md lists them): rename it or take it out", n)
		case slices.ContainsFunc(names[:i], func(m string) bool { return canonical(m) == canonical(n) }):
			return fmt.Errorf("column %q is there twice", canonical(n))
		}
		if bit := slices.Index(must, canonical(n)); bit >= 0 {
			r0.seen |= 1 << bit
		}
		r.columns = append(r.columns, set)
	}
	r.names = names
	if err := r0.finish(); err != nil {
		return fmt.Errorf("column %w is missing: a record needs %s", err, strings.Join(must, ", "))
	}
	return nil
}

// fields splits a line of CSV. A quoted field may not hold the end of a line:
// no column does.
func fields(line string) ([]string, error) {
	if !strings.Contains(line, `"`) {
		return strings.Split(line, ","), nil
	}
	c := csv.NewReader(strings.NewReader(line))
	return c.Read()
}

// goesOn reports whether the last field of a line of CSV is quoted and has no end
// in it (RFC 4180, 2.6).
func goesOn(line []byte) bool {
	for {
		if rest, quoted := bytes.CutPrefix(line, quote); quoted {
			for quoted { // two quotes are one of the text
				end := bytes.IndexByte(rest, '"')
				if end < 0 {
					return true
				}
				rest, quoted = bytes.CutPrefix(rest[end+1:], quote)
			}
			line = rest
		}
		_, after, more := bytes.Cut(line, comma)
		if !more {
			return false
		}
		line = after
	}
}

var quote, comma = []byte{'"'}, []byte{','}

func (r *reader) separated(line []byte, w *row) (string, error) {
	if began := r.quoted; began > 0 { // no record of its own, whatever it looks like
		if !goesOn(append(quote[:1:1], line...)) {
			r.quoted = 0
		}
		return reasonQuoted, fmt.Errorf("it begins in line %d, and no column holds the end of a line", began)
	}
	if goesOn(line) {
		r.quoted = r.lines.Number()
	}
	values, err := fields(string(line))
	if err != nil {
		return reasonSyntax, errors.New("quotes that do not match")
	}
	if len(values) != len(r.columns) {
		return reasonFields, fmt.Errorf("%d, want the %d of the header", len(values), len(r.columns))
	}
	for i, v := range values {
		if v == "" || v == `\N` { // as if the column were not there
			continue
		}
		if err := r.columns[i](w, v); err != nil {
			return reasonValue, fmt.Errorf("%s is %q: %w", r.names[i], v[:min(len(v), 60)], err)
		}
	}
	return "", nil
}

// errNoRecord says that a line is not meant to be a record.
var errNoRecord = errors.New("no record")

// beginsWithObject matches what is not the first line of an object of several.
var beginsWithObject = regexp.MustCompile(`^\{(?:[^\r\n]|$)`)

func (r *reader) checkJSON() error {
	r.known = map[string]column{}
	head := r.lines.Peek(512)
	if beginsWithObject.Match(head) {
		return nil
	}
	return fmt.Errorf("is not JSON lines, but %s", importer.LooksLike(head))
}

func (r *reader) object(line []byte, w *row) (reason string, err error) {
	err = importer.Object(line, func(key string, v importer.Value) error {
		if key == "totals" { // the last line of a replay
			return errNoRecord
		}
		set, ok := r.known[key]
		if !ok {
			if set = lookup(key); set == nil {
				reason = reasonKey
				return fmt.Errorf("%.60q", key)
			}
			r.known[strings.Clone(key)] = set
		}
		text := v.Text
		if !v.IsText {
			text = string(v.Raw)
		}
		if text == "" || text == "null" && !v.IsText {
			return nil
		}
		if err := set(w, text); err != nil {
			reason = reasonValue
			return fmt.Errorf("%s is %.60q: %w", key, text, err)
		}
		return nil
	})
	if err != nil && reason == "" {
		reason = reasonSyntax
	}
	return reason, err
}
