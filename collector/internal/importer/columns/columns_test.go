package columns

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

func newReader(data []byte, isJSON bool) (*reader, error) {
	l, err := importer.NewLines(io.NopCloser(bytes.NewReader(data)))
	if err != nil {
		return nil, err
	}
	r := &reader{lines: l}
	if isJSON {
		r.parse, err = r.object, r.checkJSON()
	} else {
		r.parse, err = r.separated, r.header()
	}
	return r, err
}

func TestCSVAndJSONTellTheSame(t *testing.T) {
	csv := "start,end,src,dst,src_port,dst_port,proto,conn_state,initiator,final,src_bytes,server_name,app,src_pid,bytes,agent\n" +
		"2026-03-01T10:00:00.123456+01:00,2026-03-01 09:00:01.5,::ffff:10.0.0.1,2001:db8::1,1,443,tcp,SF,syn,true,77,\"a,\"\"b\"\"\",tls,42,99,web-1\n" +
		"2026-03-01 09:00:00,,10.0.0.1,10.0.0.2,,,,,,,,,,,,\n"
	lines := `{"start":"2026-03-01T10:00:00.123456+01:00","end":"2026-03-01 09:00:01.5","src_ip":"10.0.0.1","dst_ip":"2001:db8::1","src_port":1,"dst_port":"443","proto":6,"conn_state":"SF","initiator":"syn","final":true,"src_bytes":77,"server_name":"a,\"b\"","app":"tls","src_pid":42,"agent":"replay"}
{"totals":{"records":1}}

{"start":"2026-03-01 09:00:00","src_ip":"10.0.0.1","dst_ip":"10.0.0.2","vlan":null}`
	var flows [2][]ebbwatch.Flow
	for i, text := range []string{csv, lines} {
		r, err := newReader([]byte(text), i == 1)
		if err != nil {
			t.Fatal(err)
		}
		for {
			var f ebbwatch.Flow
			if err := r.Read(&f); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			flows[i] = append(flows[i], f)
		}
	}
	if len(flows[0]) != 2 || !slices.Equal(flows[0], flows[1]) {
		t.Fatalf("CSV gives\n%+v\nJSON gives\n%+v", flows[0], flows[1])
	}
	f := flows[0][0]
	if f.Start.Format(time.RFC3339Nano) != "2026-03-01T09:00:00.123456Z" || f.End.Sub(f.Start) != 1376544*time.Microsecond || f.Src.String() != "10.0.0.1" ||
		f.Hint.ServerName != `a,"b"` || f.Hint.App != ebbwatch.AppTLS || f.SrcOwner.PID != 42 || f.Sampling != 1 || !f.Final {
		t.Errorf("the first is %+v", f)
	}
}

func TestBadValuesAreRejectedByReason(t *testing.T) {
	good := `"start":"2026-03-01 09:00:00","src_ip":"10.0.0.1","dst_ip":"10.0.0.2"`
	for line, want := range map[string]string{
		`{` + good + `,"src_port":70000}`:                         reasonValue,
		`{` + good + `,"vlan":4096}`:                              reasonValue,
		`{` + good + `,"proto":"sctpx"}`:                          reasonValue,
		`{` + good + `,"conn_state":"sf"}`:                        reasonValue,
		`{` + good + `,"src_bytes":-1}`:                           reasonValue,
		`{` + good + `,"src_bytes":99999999999999999999}`:         reasonValue,
		`{` + good + `,"server_name":["a"],"src_ip":{}}`:          reasonValue,
		`{` + good + `,"colour":"red"}`:                           reasonKey,
		`{"start":"2026-03-01 09:00:00","src_ip":"10.0.0.1"}`:     reasonMiss,
		`{` + strings.Replace(good, "2026", "1026", 1) + `}`:      reasonValue,
		`{` + strings.Replace(good, ".0.1", ".0.1%eth0", 1) + `}`: reasonValue,
		`{` + good: reasonSyntax,
	} {
		r, err := newReader([]byte(line), true)
		if err != nil {
			t.Fatal(err)
		}
		var f ebbwatch.Flow
		var reject *importer.RejectError
		if err := r.Read(&f); !errors.As(err, &reject) || reject.Reason != want || reject.Line != 1 {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("start,src_ip,dst_ip,server_name\n2026-03-01 09:00:00,10.0.0.1,10.0.0.2,\"a\"\n"), false)
	f.Add([]byte(`{"start":"2026-03-01 09:00:00","src_ip":"10.0.0.1","dst_ip":"10.0.0.2","app":"dns"}`), true)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		r, err := newReader(data, isJSON)
		if err != nil {
			return
		}
		var b ebbwatch.Batch
		b.Agent, b.Boot, b.Time = "a", strings.Repeat("0", 36), time.Unix(0, 0)
		for b.Len() < 100 {
			var flow ebbwatch.Flow
			err := r.Read(&flow)
			var reject *importer.RejectError
			if errors.As(err, &reject) {
				continue
			}
			if err != nil {
				break
			}
			b.Append(&flow)
		}
		if err := b.Validate(); err != nil {
			t.Errorf("a flow cannot be stored: %v", err)
		}
	})
}

func TestAHeaderThatDoesNotDoSaysWhy(t *testing.T) {
	for header, want := range map[string]string{
		"\n\n":                      "is empty",
		"start;src_ip;dst_ip":       "separated by ';'",
		"\"start\"\tsrc_ip\tdst_ip": `separated by '\t'`,
		"start,src,dst_ip,src_ip":   `"src_ip" is there twice`,
		"ts,te,td,sa,da,sp,dp":      "import nfcapd",
		"firstSeen,duration,proto":  "import nfcapd",
		"\xff\xfes\x00t\x00":        "iconv",
		"":                          "is empty",
	} {
		if _, err := newReader([]byte(header), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", header, err, want)
		}
	}
	for _, header := range []string{"\ufeffstart,src_ip,dst_ip\n", "\n\r\nstart,src,dst\n"} {
		if _, err := newReader([]byte(header), false); err != nil {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// A line in a quoted field is text of somebody, and no record.
func TestAQuotedFieldOfSeveralLinesForgesNoRecord(t *testing.T) {
	record := "2026-03-01 09:00:00,10.0.0.1,10.0.0.2,"
	text := "start,src_ip,dst_ip,server_name\n" +
		record + "\"one \"\"line\"\"\"\n" + // a record
		record + "\"begins\n" +
		record + "forged\n" +
		"ends\",\n" +
		record + "\"again\n" +
		"ends\",\"and begins\n" +
		record + "\"\n" + // ends
		record + "x\"y\n" + // a quote that begins no field
		record + "last\n"
	r, err := newReader([]byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		var f ebbwatch.Flow
		var reject *importer.RejectError
		err := r.Read(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.As(err, &reject) {
			got = append(got, reject.Reason)
		} else {
			got = append(got, f.Hint.ServerName)
		}
	}
	want := []string{`one "line"`, reasonSyntax, reasonQuoted, reasonQuoted, reasonSyntax, reasonQuoted, reasonQuoted, reasonSyntax, "last"}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are\n%q\nwant\n%q", got, want)
	}
}
