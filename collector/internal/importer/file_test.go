package importer

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ebbwatch/ebbwatch"
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

func TestAFolderIsWalkedButNotItsLinks(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "folder")
	err := errors.Join(
		os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "a.log"), nil, 0o600),
		os.Symlink(".", filepath.Join(folder, "loop")), os.Symlink("/dev/zero", filepath.Join(folder, "zero.log")),
		syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600), os.Symlink("folder", filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "empty"), 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"folder", "link"} { // as Zeek's folder "current" is one
		found, err := Walk([]string{filepath.Join(dir, given), filepath.Join(dir, "empty")})
		var got []string
		for _, f := range found {
			got = append(got, filepath.Base(f.Path)+": "+f.Why)
		}
		want := []string{"a.log: ", "loop: is a link", "pipe: is no regular file", "zero.log: is a link"}
		if err != nil || !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: %q, %v, want %q", given, got, err, want)
		}
	}
	for _, name := range []string{"pipe", "zero.log"} {
		if _, err := Walk([]string{filepath.Join(folder, name)}); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s by its name: %v", name, err)
		}
	}
}

// A text without ends of lines, or with nothing else, is read no longer than is wanted.
func TestReadingEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bomb.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	chunk := make([]byte, 1<<20)
	for range 200 { // more than 64 KiB of the file: see until
		_, writeErr := z.Write(chunk)
		err = errors.Join(err, writeErr)
	}
	if err := errors.Join(err, z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := OpenLines(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cancel()
	if _, err := l.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on gives %v", err)
	}
	if err := CheckWhole(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("checking it gives %v", err)
	}
	if err := CheckWhole(t.Context(), path); err != nil {
		t.Errorf("the whole file: %v", err)
	}
	if err := os.Truncate(path, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := CheckWhole(t.Context(), path); err == nil || !strings.Contains(err.Error(), "damaged or cut off") {
		t.Errorf("half of the file: %v", err)
	}
}

// A block counts all names that a record can have: their number is bounded.
func TestABlockCountsAllNames(t *testing.T) {
	n := 0
	for a := range ebbwatch.Attributes {
		if a.Text() {
			n++
		}
	}
	if n != namesPerRecord {
		t.Errorf("a record has %d names, namesPerRecord is %d", n, namesPerRecord)
	}
}
