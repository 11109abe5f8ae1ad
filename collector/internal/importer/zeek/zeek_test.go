package zeek

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// all reads what a source holds.
func all(t *testing.T, s *Source) (flows []ebbwatch.Flow, rejects []string) {
	t.Helper()
	for i := range s.Files() {
		r, err := s.Open(t.Context(), i, false)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for {
			var f ebbwatch.Flow
			err := r.Read(&f)
			var reject *importer.RejectError
			switch {
			case errors.Is(err, io.EOF):
			case errors.As(err, &reject):
				rejects = append(rejects, reject.Error())
				continue
			case err != nil:
				t.Fatal(err)
			default:
				flows = append(flows, f)
				continue
			}
			break
		}
	}
	return flows, rejects
}

func open(t *testing.T, paths ...string) *Source {
	t.Helper()
	s, err := New(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func golden(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("differs from %s (-update rewrites it):\n%s", file, got)
	}
}

func TestLogsOfADay(t *testing.T) {
	s := open(t, "testdata/day")
	flows, rejects := all(t, s)
	var sum importer.Summary
	s.Tell(&sum)
	golden(t, "testdata/day.json", map[string]any{"flows": flows, "rejects": rejects, "hints": sum.Hints, "left_out": sum.LeftOut})
}

// asJSON writes a log of Zeek's own format as JSON, with underscores in the
// names if asked, the last line first.
func asJSON(t *testing.T, from, to string, underscores bool) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var out []string
	for line := range strings.Lines(string(data)) {
		values := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if values[0] == "#fields" {
			names = values[1:]
		}
		if len(values) != len(names) || line[0] == '#' || line[0] == '{' {
			continue
		}
		object := map[string]any{}
		for i, v := range values {
			switch name := names[i]; {
			case v == "-":
			case name == "answers":
				object[name] = strings.Split(v, ",")
			case strings.HasSuffix(name, "_p"), strings.HasSuffix(name, "pkts"), name == "ts", name == "rtt", name == "qtype", name == "rcode":
				if underscores {
					name = strings.ReplaceAll(name, ".", "_")
				}
				object[name] = json.Number(v)
				if v == "yesterday" || v == "never" {
					object[name] = v
				}
			default:
				if underscores {
					name = strings.ReplaceAll(name, ".", "_")
				}
				object[name] = v
			}
		}
		b, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		out = append([]string{string(b)}, out...)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := io.WriteString(z, strings.Join(out, "\n")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestJSONTellsTheSame(t *testing.T) {
	want, _ := all(t, open(t, "testdata/day"))
	for _, underscores := range []bool{false, true} {
		dir := t.TempDir()
		for _, kind := range []string{"conn", "dns", "ssl"} {
			asJSON(t, "testdata/day/"+kind+".10:00:00-11:00:00.log", filepath.Join(dir, kind+".log.gz"), underscores)
		}
		data, err := os.ReadFile("testdata/day/http.10:00:00-11:00:00.log")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "http.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, rejects := all(t, open(t, dir))
		if len(got) != len(want) || len(rejects) != 5 {
			t.Fatalf("%d flows and %d rejects, want %d and 5: %q", len(got), len(rejects), len(want), rejects)
		}
		for i := range want { // lines were turned round, logs too: hints may come in any order
			if got[len(got)-1-i] != want[i] {
				t.Errorf("flow %d is\n%+v, want\n%+v", i, got[len(got)-1-i], want[i])
			}
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongFilesAreRefusedByWhatTheyAre(t *testing.T) {
	conn := `{"ts":1.5,"uid":"C1","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2,"proto":"udp","conn_state":"S0"}` + "\n"
	for name, test := range map[string]struct{ file, text, want string }{
		"a capture":         {"a.log", "\xd4\xc3\xb2\xa1\x02\x00", "agent replay"},
		"a capture, pcapng": {"conn.log", "\x0a\x0d\x0d\x0a\x1c\x00", "agent replay"},
		"an archive":        {"conn.log", "PK\x03\x04", "zip"},
		"a page":            {"conn.log", "<html>", "HTML"},
		"prose":             {"conn.log", "Dear all,\n", `"Dear all,"`},
		"nothing":           {"conn.log", "", "empty"},
		"another log":       {"x.log", "#path\tweird\n#fields\tts\tuid\n1.0\tC\n", `"weird"`},
		"only hints":        {"dns.log", "#path\tdns\n#fields\tts\tuid\n1.0\tC\n", "no conn.log"},
		"other JSON":        {"x.log", `{"a":1}`, "none of Zeek's logs"},
		"broken JSON":       {"conn.log", `{"a":`, "not JSON"},
		"a comment":         {"conn.log", "# a comment\n", "#fields"},
		"JSON by its keys":  {"x.log", conn, ""},
		"a damaged gzip":    {"conn.log.gz", "\x1f\x8b\x08rubbish that is long enough", "damaged or cut off"},
		"a gzip's header":   {"conn.log.gz", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00", "damaged or cut off"},
		"a byte order mark": {"conn.log", "\ufeff" + conn, ""},
		"UTF-16":            {"conn.log", "\xff\xfe#\x00s\x00", "iconv"},
		"an array":          {"conn.log", "[" + conn + "]", "jq"},
		"indented JSON":     {"conn.log", "{\n \"ts\": 1}", "jq"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(t.Context(), []string{write(t, t.TempDir(), test.file, test.text)})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestACopyOfALogIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	line := `{"ts":1.5,"uid":"C1","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2,"proto":"udp","conn_state":"S0"}`
	write(t, dir, "conn.log", line+"\n")
	write(t, dir, "labeled-conn.log", line[:len(line)-1]+`,"label":"Benign"}`+"\n")
	write(t, dir, "open_conn.log", line+"\n")
	s := open(t, dir)
	if len(s.Files()) != 1 || len(s.leftOut) != 1 || !strings.Contains(s.leftOut[0].Why, "copy") || s.other["open_conn"] != 1 {
		t.Errorf("reads %q, leaves out %v and %v", s.Files(), s.leftOut, s.other)
	}
}

// Logs that are larger than the memory for hints are joined while both are about
// in the order of time, and what is given up is counted.
func TestHintsTakeBoundedMemory(t *testing.T) {
	const n, limit = 20_000, 100_000
	dir := t.TempDir()
	var conns, hints strings.Builder
	for i := range n {
		fmt.Fprintf(&conns, `{"ts":%d.5,"uid":"C%d","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":443,"proto":"tcp","conn_state":"SF"}`+"\n", i, i)
		fmt.Fprintf(&hints, `{"ts":%d.4,"uid":"C%d","server_name":"host-%d.example"}`+"\n", i, i, i)
	}
	write(t, dir, "conn.log", conns.String())
	write(t, dir, "ssl.log", hints.String())
	s := open(t, dir)
	s.join.table = newTable(limit)
	flows, _ := all(t, s)
	for i, f := range flows {
		if f.Hint.ServerName != fmt.Sprintf("host-%d.example", i) {
			t.Fatalf("flow %d has name %q", i, f.Hint.ServerName)
		}
	}
	if len(flows) != n || s.join.table.bytes > limit || len(s.join.table.byUID) > 0 {
		t.Errorf("%d flows; the table holds %d bytes of %d hints", len(flows), s.join.table.bytes, len(s.join.table.byUID))
	}
	write(t, dir, "conn.log", `{"ts":99999.5,"uid":"C19999","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":443,"proto":"tcp","conn_state":"SF"}`)
	s = open(t, dir)
	s.join.table = newTable(limit)
	flows, _ = all(t, s)
	var sum importer.Summary
	s.Tell(&sum)
	if h := sum.Hints; len(flows) != 1 || flows[0].Hint.ServerName == "" || h.Read != n || h.Matched != 1 || h.Unmatched != n-1 || s.join.table.bytes > limit {
		t.Errorf("hints are %+v, the table holds %d bytes", h, s.join.table.bytes)
	}
}

func TestNamesAreBoundedAndVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain.example":                       "plain.example",
		`a\x00b\xff`:                          `a\000b\255`,
		"tab\tand space":                      `tab\009and\032space`,
		strings.Repeat("x", 300) + ".example": strings.Repeat("x", 247) + ".example",
		strings.Repeat("\n", 100):             strings.Repeat(`\010`, 63),
		`\x`:                                  `\x`,
	} {
		if got := name(in); got != want || len(got) > ebbwatch.MaxName {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, file := range []string{"conn", "dns", "ssl", "http"} {
		data, err := os.ReadFile("testdata/day/" + file + ".10:00:00-11:00:00.log")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, file)
	}
	f.Add([]byte("#separator \\x2c\n#fields,ts,uid\n1,2\n{\"ts\":1e99}"), "conn")
	f.Fuzz(func(t *testing.T, data []byte, kind string) {
		text, err := importer.NewLines(io.NopCloser(bytes.NewReader(data)))
		if err != nil {
			return
		}
		l := newLines(text)
		var b ebbwatch.Batch
		b.Agent, b.Boot, b.Time = "a", strings.Repeat("0", 36), time.Unix(0, 0)
		for {
			r, _, err := l.next()
			var reject *importer.RejectError
			if errors.As(err, &reject) {
				continue
			}
			if err != nil {
				break
			}
			var flow ebbwatch.Flow
			if reason, _ := conn(r, &flow); reason != "" {
				continue
			}
			if h, ok := makeHint(kind, r, l); ok {
				flow.Hint = h.Hint
			}
			b.Append(&flow)
		}
		if b.Len() <= ebbwatch.MaxBatchFlows {
			if err := b.Validate(); err != nil {
				t.Errorf("a flow cannot be stored: %v", err)
			}
		}
	})
}

const connLine = `{"ts":%d,"uid":"C%d","id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2,"proto":"udp","conn_state":"S0"}` + "\n"

// In a folder, other files are left out, and a log of which nothing is known is not.
func TestADamagedLogInAFolderIsAnError(t *testing.T) {
	var torn bytes.Buffer
	z := gzip.NewWriter(&torn)
	for i := range 20_000 {
		fmt.Fprintf(z, connLine, 1_700_000_000+i, i*i)
	}
	z.Close()
	half := torn.String()[:torn.Len()/2]
	for name, test := range map[string]struct{ file, text, want string }{
		"a conn.log without its beginning": {"conn.2.log.gz", half[:11], "conn.2.log.gz: line 1: "},
		"a dns.log without its end":        {"dns.log.gz", half, "dns.log.gz: line "},
		"a log that is never read":         {"open_conn.log.gz", half[:11], ""},
		"another file":                     {"notes.gz", half[:11], ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "conn.log", fmt.Sprintf(connLine, 1, 1))
			write(t, dir, test.file, test.text)
			s, err := New(t.Context(), []string{dir})
			if err == nil {
				_, err = s.Open(t.Context(), 0, true) // as the survey does, before anything is stored
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "damaged or cut off")) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

func TestEmptyFieldsAreAsUnset(t *testing.T) {
	head := "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n" +
		"#fields\tts\tid.orig_h\tid.resp_h\tproto\tservice\tduration\torig_bytes\tconn_state\thistory\torig_pkts\t_node_name\n"
	var flows [2][]ebbwatch.Flow
	for i, nothing := range []string{"-", "(empty)"} {
		line := strings.ReplaceAll("1.5\t10.0.0.1\t10.0.0.2\ttcp\tX\tX\tX\tX\tX\tX\tX\n", "X", nothing)
		var rejects []string
		flows[i], rejects = all(t, open(t, write(t, t.TempDir(), "conn.log", head+line)))
		if len(flows[i]) != 1 || len(rejects) > 0 {
			t.Fatalf("%s: %d records, %v", nothing, len(flows[i]), rejects)
		}
	}
	if f := flows[1][0]; f != flows[0][0] || f.DstHealth.Retransmits != 0 {
		t.Errorf("with (empty) the record is\n%+v, with -\n%+v", f, flows[0][0])
	}
}
