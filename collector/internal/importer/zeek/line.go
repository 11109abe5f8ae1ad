package zeek

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// field is one of the fields that are read, of any log.
type field uint8

const (
	fTime field = iota
	fUID
	fSrc
	fSrcPort
	fDst
	fDstPort
	fProto
	fService
	fDuration
	fSrcPayload
	fDstPayload
	fState
	fHistory
	fSrcPackets
	fSrcBytes
	fDstPackets
	fDstBytes
	fVLAN
	fNode
	fQuery
	fQueryType
	fQueryTypeNumber
	fRcode
	fRcodeNumber
	fAnswers
	fRTT
	fServerName
	fALPN
	fJA4
	fMethod
	fHost
	fStatus
	fPath
	fDepth
	fieldCount
)

// fields are Zeek's names. In JSON, exporters write the dots of ids as underscores, too.
var fields = map[string]field{
	"ts": fTime, "uid": fUID, "id.orig_h": fSrc, "id.orig_p": fSrcPort, "id.resp_h": fDst, "id.resp_p": fDstPort,
	"id_orig_h": fSrc, "id_orig_p": fSrcPort, "id_resp_h": fDst, "id_resp_p": fDstPort,
	"proto": fProto, "service": fService, "duration": fDuration, "orig_bytes": fSrcPayload, "resp_bytes": fDstPayload, "conn_state": fState,
	"history": fHistory, "orig_pkts": fSrcPackets, "orig_ip_bytes": fSrcBytes, "resp_pkts": fDstPackets, "resp_ip_bytes": fDstBytes,
	"vlan": fVLAN, "_node_name": fNode,
	"query": fQuery, "qtype_name": fQueryType, "qtype": fQueryTypeNumber, "rcode_name": fRcode, "rcode": fRcodeNumber, "answers": fAnswers, "rtt": fRTT,
	"server_name": fServerName, "next_protocol": fALPN, "ja4": fJA4,
	"method": fMethod, "host": fHost, "status_code": fStatus, "trans_depth": fDepth,
	"_path": fPath, "@stream": fPath,
}

// record is one line: what each field holds, "" where it is unset.
type record [fieldCount]string

// lines reads the lines of a Zeek log, in Zeek's own format or as JSON.
type lines struct {
	*importer.Lines
	path      string // of the log, as its header names it
	columns   []int  // field of each column, -1 for one that is not read
	separator string
	unset     string
	empty     string
	set       string
	values    record
}

const (
	reasonColumns = "wrong number of fields"
	reasonJSON    = "not JSON"
)

// openLines opens a log. It does not say what is in it: see kind.
func openLines(ctx context.Context, path string) (*lines, error) {
	l, err := importer.OpenLines(ctx, path)
	if err != nil {
		return nil, err
	}
	return newLines(l), nil
}

func newLines(l *importer.Lines) *lines {
	return &lines{Lines: l, separator: "\t", unset: "-", empty: "(empty)", set: ","}
}

// next returns the next record, valid until the next call.
func (l *lines) next() (*record, []byte, error) {
	for {
		line, err := l.Next()
		if err != nil {
			return nil, nil, err
		}
		switch {
		case len(line) == 0:
		case line[0] == '#':
			l.header(string(line))
		case l.columns != nil:
			return &l.values, line, l.tabbed(line)
		case line[0] == '{':
			return &l.values, line, l.object(line)
		default:
			return nil, line, l.bad(line, reasonJSON, "and no header of Zeek before it")
		}
	}
}

func (l *lines) bad(line []byte, reason, detail string) error {
	return &importer.RejectError{Line: l.Number(), Reason: reason, Detail: detail, Text: line}
}

// header reads a line that begins with #. Logs that were put together have
// several headers.
func (l *lines) header(line string) {
	if sep, ok := strings.CutPrefix(line, "#separator "); ok {
		l.separator = unescape(strings.TrimSpace(sep))
		return
	}
	name, value, _ := strings.Cut(line, l.separator)
	switch name {
	case "#set_separator":
		l.set = unescape(value)
	case "#empty_field":
		l.empty = value
	case "#unset_field":
		l.unset = value
	case "#path":
		l.path = value
	case "#fields":
		names := strings.Split(value, l.separator)
		l.columns = l.columns[:0]
		for _, n := range names {
			at := -1
			if f, ok := fields[n]; ok {
				at = int(f)
			}
			l.columns = append(l.columns, at)
		}
	}
}

func (l *lines) tabbed(line []byte) error {
	l.values = record{}
	rest, sep := string(line), l.separator
	for i, f := range l.columns {
		value, after, more := strings.Cut(rest, sep)
		if more == (i == len(l.columns)-1) {
			return l.bad(line, reasonColumns, fmt.Sprintf("want the %d of the header", len(l.columns)))
		}
		rest = after
		if f >= 0 && value != l.unset && value != l.empty {
			l.values[f] = value
		}
	}
	return nil
}

func (l *lines) object(line []byte) error {
	l.values = record{}
	err := importer.Object(line, func(key string, v importer.Value) error {
		f, ok := fields[key]
		switch {
		case !ok || bytes.Equal(v.Raw, []byte("null")):
		case v.IsText:
			l.values[f] = v.Text
		default:
			l.values[f] = string(v.Raw)
		}
		return nil
	})
	if err != nil {
		return l.bad(line, reasonJSON, err.Error())
	}
	return nil
}

// count returns the elements of a set or vector.
func (l *lines) count(v string) int {
	switch {
	case v == "", v == "[]":
		return 0
	case v[0] == '[':
		n := 0
		depth, quoted := 0, false
		for i := 0; i < len(v); i++ {
			switch c := v[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '[':
				depth++
			case c == ']':
				depth--
			case c == ',' && depth == 1:
				n++
			}
		}
		return n + 1
	}
	return strings.Count(v, l.set) + 1
}

// unescape replaces Zeek's \xNN by the byte.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

var errTime = errors.New("want seconds since 1970, or RFC 3339")

// parseTime reads a time as Zeek writes it, to the microsecond: epoch seconds,
// also in milliseconds where JSON says so by its size, or ISO 8601.
func parseTime(s string) (time.Time, error) {
	if len(s) > 10 && s[4] == '-' {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || t.Unix() < 0 || t.UnixMicro() >= lastMicro {
			return time.Time{}, errTime
		}
		return t.UTC().Truncate(time.Microsecond), nil
	}
	us, err := micros(s)
	if err != nil {
		return time.Time{}, errTime
	}
	if us > 1e17 { // the year 5138 in seconds: JSON::TS_MILLIS writes milliseconds
		us /= 1000
	}
	if us >= lastMicro {
		return time.Time{}, errTime
	}
	return time.UnixMicro(us).UTC(), nil
}

// lastMicro is the beginning of the year 2200, in microseconds: no log is of later.
const lastMicro = 7_258_118_400_000_000

// micros reads seconds as microseconds, without the rounding of a float where
// they are written without an exponent.
func micros(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if strings.ContainsAny(s, "eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0 && f < 9e12) {
			return 0, errTime
		}
		return int64(f*1e6 + 0.5), nil
	}
	sec, err := strconv.ParseUint(whole, 10, 43)
	if err != nil {
		return 0, errTime
	}
	us := int64(sec) * 1_000_000
	for i, unit := 0, int64(100_000); i < len(fraction); i, unit = i+1, unit/10 {
		if fraction[i] < '0' || fraction[i] > '9' {
			return 0, errTime
		}
		us += int64(fraction[i]-'0') * unit
	}
	return us, nil
}
