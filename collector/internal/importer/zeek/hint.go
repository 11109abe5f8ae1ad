package zeek

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// hint is what a line of dns.log, ssl.log or http.log tells of a conversation.
type hint struct {
	uid string
	ts  time.Time
	ebbwatch.Hint
}

// size returns about how many bytes a hint takes in the table.
func (h *hint) size() int {
	const entry = 320 // the value, and its place in map and queue
	return entry + len(h.uid) + len(h.ServerName) + len(h.DNSType) + len(h.DNSRcode) + len(h.TLSALPN) + len(h.TLSJA4) + len(h.HTTPMethod)
}

// makeHint reads a line of the log of that kind; false for one that tells nothing.
func makeHint(kind string, r *record, l *lines) (h hint, ok bool) {
	ts, err := parseTime(r[fTime])
	if err != nil || r[fUID] == "" || len(r[fUID]) > 64 {
		return h, false
	}
	h = hint{uid: strings.Clone(r[fUID]), ts: ts}
	switch kind {
	case "dns":
		h.App, h.ServerName = ebbwatch.AppDNS, lower(r[fQuery])
		h.DNSType = typeName(r[fQueryType], r[fQueryTypeNumber], "TYPE")
		h.DNSRcode = typeName(r[fRcode], r[fRcodeNumber], "RCODE")
		h.DNSAnswers = uint32(min(l.count(r[fAnswers]), 1<<16-1))
		if us, err := micros(r[fRTT]); err == nil {
			h.LatencyUS = uint32(min(us, 1<<32-1))
		}
	case "ssl":
		h.App, h.ServerName = ebbwatch.AppTLS, lower(r[fServerName])
		h.TLSALPN, h.TLSJA4 = name(r[fALPN]), name(r[fJA4])
	case "http":
		h.App, h.ServerName, h.HTTPMethod = ebbwatch.AppHTTP, lower(withoutPort(r[fHost])), name(r[fMethod])
		if v, err := strconv.ParseUint(r[fStatus], 10, 16); err == nil {
			h.HTTPStatus = uint32(v)
		}
	}
	// What is kept may not hold on to the whole line.
	for _, text := range []*string{&h.ServerName, &h.DNSType, &h.DNSRcode, &h.TLSALPN, &h.TLSJA4, &h.HTTPMethod} {
		*text = strings.Clone(*text)
	}
	return h, true
}

func lower(s string) string { return strings.ToLower(name(s)) } // which is ASCII

func withoutPort(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// typeName returns IANA's name of a DNS type or code, where Zeek has "*" for ANY and
// "query-65" or "unknown-65" for what it has no name for.
func typeName(zeek, number, prefix string) string {
	switch {
	case zeek == "*":
		return "ANY"
	case number == "65" && prefix == "TYPE":
		return "HTTPS"
	case number == "64" && prefix == "TYPE":
		return "SVCB"
	}
	if _, n, ok := strings.Cut(zeek, "-"); ok {
		number, zeek = n, ""
	}
	if zeek != "" {
		return name(zeek)
	}
	if _, err := strconv.ParseUint(number, 10, 16); err == nil {
		return prefix + number
	}
	return ""
}

// table holds hints until their conversations come, within a limit of memory.
// Beyond it, those that came first are given up.
type table struct {
	byUID   map[string]*hint
	queue   []*hint // in the order of arrival; those that were taken are in it still
	bytes   int
	max     int
	further uint64
	unused  uint64 // that were given up
}

func newTable(limit int) *table { return &table{byUID: make(map[string]*hint), max: limit} }

// add keeps the earliest hint of a conversation.
func (t *table) add(h hint) {
	if old := t.byUID[h.uid]; old != nil {
		t.further++
		if h.ts.Before(old.ts) {
			t.bytes += h.size() - old.size()
			*old = h
		}
		return
	}
	p := &h
	t.byUID[h.uid] = p
	t.queue = append(t.queue, p)
	t.bytes += h.size()
}

// full reports whether there is no room for another hint.
func (t *table) full() bool { return t.bytes >= t.max || 16*len(t.queue) >= t.max }

// shrink gives up the oldest hint that waits.
func (t *table) shrink() {
	for len(t.queue) > 0 {
		h := t.queue[0]
		t.queue[0] = nil
		t.queue = t.queue[1:]
		if t.byUID[h.uid] == h {
			delete(t.byUID, h.uid)
			t.bytes -= h.size()
			t.unused++
			return
		}
	}
}

// take returns the hint of a conversation, nil if there is none, and forgets it.
func (t *table) take(uid string) *hint {
	h := t.byUID[uid]
	if h != nil {
		delete(t.byUID, uid)
		t.bytes -= h.size()
	}
	return h
}

// stream reads the hints of all logs of one kind, one log after the other.
type stream struct {
	kind     string
	paths    []string // to be opened
	open     *lines   // of path
	path     string
	head     hint
	live     bool // head is the next hint
	rejected uint64
}

// advance reads the next hint into head. open opens a log.
func (s *stream) advance(open func(path string) (*lines, error)) error {
	s.live = false
	for {
		if s.open == nil {
			if len(s.paths) == 0 {
				return nil
			}
			l, err := open(s.paths[0])
			if err != nil {
				return fmt.Errorf("%s: %w", s.paths[0], err)
			}
			s.open, s.path, s.paths = l, s.paths[0], s.paths[1:]
		}
		r, _, err := s.open.next()
		var reject *importer.RejectError
		switch {
		case errors.Is(err, io.EOF):
			if err := s.close(); err != nil {
				return err
			}
			continue
		case errors.As(err, &reject):
			s.rejected++
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", s.path, err)
		}
		if s.head, s.live = makeHint(s.kind, r, s.open); s.live {
			return nil
		}
		s.rejected++
	}
}

func (s *stream) close() error {
	if s.open == nil {
		return nil
	}
	err := s.open.Close()
	s.open = nil
	return err
}

// join gives conversations their hints. It reads ahead of the records as far as
// memory allows, so that small logs may be in any order, and at least as far as
// the time of the record, so that large ones are joined as long as both are
// about in the order of time.
type join struct {
	streams []*stream
	lines   func(path string) (*lines, error) // opens a log
	table   *table
	read    uint64
	matched uint64
	started bool
}

func (j *join) apply(f *ebbwatch.Flow, uid string) error {
	if !j.started {
		j.started = true
		for _, s := range j.streams {
			if err := s.advance(j.lines); err != nil {
				return err
			}
		}
	}
	for {
		var next *stream
		for _, s := range j.streams {
			if s.live && (next == nil || s.head.ts.Before(next.head.ts)) {
				next = s
			}
		}
		if next == nil || j.table.full() && next.head.ts.After(f.End) {
			break
		}
		for j.table.full() && len(j.table.queue) > 0 {
			j.table.shrink()
		}
		j.table.add(next.head)
		j.read++
		if err := next.advance(j.lines); err != nil {
			return err
		}
	}
	h := j.table.take(uid)
	if h == nil {
		return nil
	}
	j.matched++
	app := f.Hint.App
	f.Hint = h.Hint
	if app == ebbwatch.AppQUIC {
		f.Hint.App = app // Zeek tells of its handshake in ssl.log
	}
	return nil
}

func (j *join) close() error {
	var errs []error
	for _, s := range j.streams {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
