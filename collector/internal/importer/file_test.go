package importer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"testing"
)

func FuzzObject(f *testing.F) {
	for _, line := range []string{
		`{"a":1,"b":"two","c":[1,{"d":"]}"}],"e":null,"f":{"g":"\""}}`, ` { "a" : -1.5e3 , "b\n":"\u00e9" } `, `{}`, `[1]`, `{"a":1`, `"a"`, `{"a":tru}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := map[string]any{}
		err := Object(line, func(key string, v Value) error {
			var value any
			if v.IsText {
				value = v.Text
			} else if err := json.Unmarshal(v.Raw, &value); err != nil {
				t.Fatalf("value of %q is %q: %v", key, v.Raw, err)
			}
			got[key] = value
			return nil
		})
		var want map[string]any
		if json.Unmarshal(line, &want) != nil || want == nil { // null is no object
			if err == nil {
				if string(bytes.TrimSpace(line)) != "null" && json.Valid(line) {
					return // a number that float64 does not hold
				}
				t.Fatalf("%q is read as %v", line, got)
			}
			return
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if err != nil || string(a) != string(b) {
			t.Fatalf("%q is read as %s, %v; want %s", line, a, err, b)
		}
	})
}

// A small file that expands to 256 MB, nearly all of which is one line.
func TestABombTakesBoundedMemory(t *testing.T) {
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for range 256 {
		if _, err := z.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(z, "\nshort\n"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := NewLines(io.NopCloser(&bomb))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = l.Next()
	runtime.ReadMemStats(&after)
	var reject *RejectError
	if !errors.As(err, &reject) || reject.Reason != ReasonLong || len(reject.Text) != MaxLine {
		t.Errorf("the long line: %v", err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("it took %d bytes", grown)
	}
	if line, err := l.Next(); string(line) != "short" || err != nil || l.Number() != 2 {
		t.Errorf("line %d is %q, %v", l.Number(), line, err)
	}
	if _, err := l.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
