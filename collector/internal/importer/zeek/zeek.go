// Package zeek reads the logs of Zeek: flow records from conn.log, and what
// dns.log, ssl.log and http.log tell of the same conversations. Logs are in
// Zeek's own format or JSON lines, also compressed by gzip.
package zeek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// JoinMemory is how many bytes of hints wait for their conversations, at most.
const JoinMemory = 256 << 20

// Source is an importer.Source of Zeek's logs.
type Source struct {
	conns   []string
	join    join
	leftOut []importer.LeftOut
	other   map[string]int // files of other logs, by path
}

// New looks at the given files, and at those in the given folders and below. In a
// folder, what is no log of Zeek is left out, and a log that cannot be read is an error.
func New(ctx context.Context, paths []string) (*Source, error) {
	found, err := importer.Walk(paths)
	if err != nil {
		return nil, err
	}
	s := &Source{other: map[string]int{}}
	s.join.table = newTable(JoinMemory)
	logs := map[string][]log{}
	for _, f := range found {
		if f.Why != "" {
			s.leave(f.Path, f.Why)
			continue
		}
		l, err := look(ctx, f.Path)
		foreign := errors.Is(err, errForeign) || !slices.Contains(readKinds, kindByName(f.Path))
		switch {
		case err != nil && (f.Named || !foreign || ctx.Err() != nil):
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		case err != nil:
			s.leave(f.Path, err.Error())
		case slices.Contains(readKinds, l.kind):
			logs[l.kind] = append(logs[l.kind], l)
		case f.Named:
			return nil, fmt.Errorf("%s is Zeek's log %q: only conn.log holds flows, and dns.log, ssl.log and http.log tell more of them", f.Path, l.kind)
		default:
			s.other[l.kind]++
		}
	}
	s.sort(logs)
	if len(s.conns) == 0 {
		return nil, fmt.Errorf("no conn.log in %s: it holds the flows, other logs only tell more of them%s", strings.Join(paths, ", "), s.hint())
	}
	return s, nil
}

func (s *Source) hint() string {
	if len(s.leftOut) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", s.leftOut[0].File, s.leftOut[0].Why)
}

func (s *Source) leave(path, why string) {
	s.leftOut = append(s.leftOut, importer.LeftOut{File: path, Why: why})
}

var readKinds = []string{"conn", "dns", "ssl", "http"}

// sort orders the logs of each kind by the time of their first line, and leaves
// out copies: a log beside its compressed or labelled self.
func (s *Source) sort(logs map[string][]log) {
	for kind, all := range logs {
		slices.SortStableFunc(all, func(a, b log) int { return a.first.Compare(b.first) })
		seen := map[string]string{}
		var paths []string
		for _, l := range all {
			if of := seen[l.uid]; of != "" && l.uid != "" {
				s.leave(l.path, "begins with the same connection as "+of+": a copy of it")
				continue
			}
			seen[l.uid] = l.path
			paths = append(paths, l.path)
		}
		if kind == "conn" {
			s.conns = paths
		} else {
			s.join.streams = append(s.join.streams, &stream{kind: kind, paths: paths})
		}
	}
	slices.SortFunc(s.join.streams, func(a, b *stream) int { return strings.Compare(a.kind, b.kind) })
}

// log is what the beginning of a file tells.
type log struct {
	path, kind string
	first      time.Time // of its first record, the zero time if there is none
	uid        string    // of its first record
}

var kindInName = regexp.MustCompile(`(?i)(?:^|[^a-z])(open_conn|conn|dns|ssl|http)(?:[^a-z]|$)`)

// errForeign says that a file can be read, but is no log of Zeek.
var errForeign = errors.New("is no log of Zeek")

// look finds out what a file is.
func look(ctx context.Context, path string) (log, error) {
	l, err := openLines(ctx, path)
	if err != nil {
		return log{}, err
	}
	defer l.Close()
	head := l.Peek(512)
	if len(head) == 0 || head[0] != '#' && head[0] != '{' {
		return log{}, fmt.Errorf("%w, but %s", errForeign, importer.LooksLike(head))
	}
	isZeek, what := head[0] == '#', importer.LooksLike(head)
	r, _, err := l.next()
	var reject *importer.RejectError
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &reject):
		return log{}, err
	case isZeek && l.columns == nil:
		return log{}, fmt.Errorf("%w: it begins with # and has no line #fields", errForeign)
	case err != nil && !isZeek:
		return log{}, fmt.Errorf("%w: %w: it is %s", errForeign, err, what)
	case err != nil:
		r = new(record)
	}
	found := log{path: path, uid: r[fUID]}
	found.first, _ = parseTime(r[fTime]) // a line that has none is rejected later
	found.kind = kind(path, l.path, r)
	if found.kind == "" {
		return log{}, fmt.Errorf("%w, or JSON of none of Zeek's logs conn, dns, ssl, http: neither its name nor its keys say so", errForeign)
	}
	return found, nil
}

// kindByName returns which log a file is by its name, "" if that does not say.
func kindByName(path string) string {
	if m := kindInName.FindStringSubmatch(filepath.Base(path)); m != nil {
		return strings.ToLower(m[1])
	}
	return ""
}

// kind returns the name of the log: as it says itself, or by its file's name, or
// by what only lines of that log have.
func kind(path, header string, r *record) string {
	named := kindByName(path)
	switch {
	case named == "open_conn": // what is still open stands in conn.log when it ends
		return named
	case header != "":
		return header
	case r[fPath] != "":
		return r[fPath]
	case named != "":
		return named
	case r[fState] != "":
		return "conn"
	case r[fDepth] != "":
		return "http"
	}
	return ""
}

// Files implements importer.Source.
func (s *Source) Files() []string { return s.conns }

// Open implements importer.Source. The survey finds out that the other logs can be
// read, too, since they are while flows are stored.
func (s *Source) Open(ctx context.Context, i int, survey bool) (importer.Reader, error) {
	for _, stream := range s.join.streams {
		for _, path := range stream.paths {
			if survey && i == 0 {
				if err := importer.CheckWhole(ctx, path); err != nil {
					return nil, fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	}
	l, err := openLines(ctx, s.conns[i])
	if err != nil {
		return nil, err
	}
	r := &reader{lines: l}
	if !survey {
		r.join = &s.join
		s.join.lines = func(path string) (*lines, error) { return openLines(ctx, path) }
	}
	return r, nil
}

// Tell implements importer.Source.
func (s *Source) Tell(sum *importer.Summary) {
	sum.LeftOut = append(sum.LeftOut, s.leftOut...)
	for _, kind := range slices.Sorted(maps.Keys(s.other)) {
		sum.LeftOut = append(sum.LeftOut, importer.LeftOut{File: kind, Why: fmt.Sprintf("%d files of Zeek's log %s, which tells nothing of flows", s.other[kind], kind)})
	}
	j := &s.join
	h := &importer.Hints{Read: j.read, Matched: j.matched, Further: j.table.further, Unmatched: j.table.unused + uint64(len(j.table.byUID))}
	for _, stream := range j.streams {
		h.Rejected += stream.rejected
	}
	sum.Hints = h
	_ = j.close() // read only
}

// reader reads one conn.log.
type reader struct {
	lines *lines
	join  *join
}

// Read implements importer.Reader.
func (r *reader) Read(f *ebbwatch.Flow) error {
	rec, line, err := r.lines.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return err
	}
	if reason, detail := conn(rec, f); reason != "" {
		return r.lines.bad(line, reason, detail)
	}
	if r.join == nil {
		return nil
	}
	return r.join.apply(f, rec[fUID])
}

// Close implements importer.Reader.
func (r *reader) Close() error { return r.lines.Close() }
