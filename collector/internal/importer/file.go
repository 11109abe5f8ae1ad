package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// MaxLine is the longest line that is read, in bytes. What is longer is rejected.
const MaxLine = 1 << 20

// ReasonLong is the reason of a line that exceeds MaxLine.
const ReasonLong = "line too long"

// Digest returns the SHA-256 of a file's content as it lies on the disk, in
// hexadecimal, and its size.
func Digest(ctx context.Context, path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, until(ctx, f))
	if err != nil {
		return "", 0, fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// until returns what reads from r until ctx ends.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// Lines reads the lines of a text, which may be compressed by gzip. Its memory
// does not grow with the text, nor with what a compressed one expands to.
type Lines struct {
	file       io.Closer
	reader     *bufio.Reader
	compressed bool
	line       []byte
	number     int64
}

// OpenLines opens a file, which is read until ctx ends: a line need not have an
// end, nor be one of those that a caller sees.
func OpenLines(ctx context.Context, path string) (*Lines, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	l, err := NewLines(struct {
		io.Reader
		io.Closer
	}{until(ctx, f), f})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// NewLines reads the lines of text, which Close closes.
func NewLines(text io.ReadCloser) (*Lines, error) {
	l := &Lines{file: text, reader: bufio.NewReaderSize(text, 1<<16)}
	if isGzip, err := l.begins("\x1f\x8b"); err != nil {
		return nil, err
	} else if isGzip {
		z, err := gzip.NewReader(l.reader)
		if err != nil {
			return nil, damaged(1, err)
		}
		l.compressed, l.reader = true, bufio.NewReaderSize(z, 1<<16)
	}
	if marked, err := l.begins(byteOrderMark); err != nil {
		return nil, err
	} else if marked {
		_, _ = l.reader.Discard(len(byteOrderMark)) // they are there
	}
	return l, nil
}

// byteOrderMark is what some editors and spreadsheets write before UTF-8.
const byteOrderMark = "\ufeff"

func (l *Lines) begins(with string) (bool, error) {
	head, err := l.reader.Peek(len(with))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, damaged(1, err)
	}
	return string(head) == with, nil
}

func damaged(line int64, err error) error {
	return fmt.Errorf("line %d: %w: the file is damaged or cut off", line, err)
}

// Peek returns up to n bytes of what comes next, at most 64 KiB.
func (l *Lines) Peek(n int) []byte {
	b, _ := l.reader.Peek(n) // an error shows again in Next
	return b
}

// CheckWhole reports that a file is damaged or cut off, if its form tells: if it
// is compressed.
func CheckWhole(ctx context.Context, path string) error {
	l, err := OpenLines(ctx, path)
	if err != nil {
		return err
	}
	defer l.Close()
	if !l.compressed {
		return nil
	}
	for err == nil {
		_, err = l.Next()
		var reject *RejectError
		if errors.As(err, &reject) {
			err = nil
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Next returns the next line without its end, valid until the next call. It
// returns io.EOF after the last, and a *RejectError for one that is too long.
func (l *Lines) Next() ([]byte, error) {
	l.number++
	part, err := l.reader.ReadSlice('\n')
	if err == nil {
		return bytes.TrimRight(part, "\r\n"), nil
	}
	l.line = l.line[:0]
	tooLong := false
	for {
		if len(l.line)+len(part) > MaxLine {
			part, tooLong = part[:max(0, MaxLine-len(l.line))], true
		}
		l.line = append(l.line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		part, err = l.reader.ReadSlice('\n')
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, damaged(l.number, err)
	case tooLong:
		return nil, &RejectError{Line: l.number, Reason: ReasonLong, Detail: fmt.Sprintf("more than %d bytes", MaxLine), Text: l.line}
	case len(l.line) == 0:
		return nil, io.EOF
	}
	return bytes.TrimRight(l.line, "\r\n"), nil
}

// Number returns the number of the line that Next returned, from 1.
func (l *Lines) Number() int64 { return l.number }

// Close closes what is read.
func (l *Lines) Close() error { return l.file.Close() }

// LooksLike says what a file that begins with head seems to be, for people who
// named the wrong one.
func LooksLike(head []byte) string {
	for _, k := range []struct{ magic, what string }{
		{"\xd4\xc3\xb2\xa1", "a packet capture: make flows of it by `ebbwatch agent replay --json FILE > flows.json` and import these by `import json`"},
		{"\xa1\xb2\xc3\xd4", "a packet capture: make flows of it by `ebbwatch agent replay --json FILE > flows.json` and import these by `import json`"},
		{"\x4d\x3c\xb2\xa1", "a packet capture: make flows of it by `ebbwatch agent replay --json FILE > flows.json` and import these by `import json`"},
		{"\x0a\x0d\x0d\x0a", "a packet capture: make flows of it by `ebbwatch agent replay --json FILE > flows.json` and import these by `import json`"},
		{"\x0c\xa5", "a file of nfcapd: import it by `import nfcapd`"},
		{"PK\x03\x04", "a zip archive: unpack it first"},
		{"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (zstd -d)"},
		{"BZh", "compressed by bzip2: unpack it first (bunzip2)"},
		{"\xfd7zXZ\x00", "compressed by xz: unpack it first (unxz)"},
		{"\x1f\x8b", "compressed by gzip twice: unpack it once"},
		{"PAR1", "a Parquet file: write it as CSV or JSON lines first"},
		{"\x7fELF", "a program"},
		{"\xff\xfe", "text in UTF-16: write it in UTF-8 first (iconv -f UTF-16 -t UTF-8)"},
		{"\xfe\xff", "text in UTF-16: write it in UTF-8 first (iconv -f UTF-16 -t UTF-8)"},
		{"#separator", "a Zeek log: import it by `import zeek`"},
		{"ts,te,td,", "what nfdump printed: import the files of nfcapd themselves by `import nfcapd`"},
		{"firstSeen,", "what nfdump printed: import the files of nfcapd themselves by `import nfcapd`"},
		{"[", "a JSON array: write one object a line first (jq -c '.[]')"},
		{"{\n", "JSON whose objects take several lines: write one object a line first (jq -c .)"},
		{"{\r\n", "JSON whose objects take several lines: write one object a line first (jq -c .)"},
		{"{", "JSON lines: import them by `import json` if their keys are the columns of table flows, or by `import zeek` if Zeek wrote them"},
		{"<", "HTML or XML"},
	} {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.what
		}
	}
	head = head[:min(len(head), 60)]
	switch line, _, _ := bytes.Cut(head, []byte("\n")); {
	case len(head) == 0:
		return "an empty file"
	case slices.Contains(head, 0):
		return "a binary file"
	default:
		return fmt.Sprintf("text that begins with %q", line)
	}
}

// Found is a path that Walk found.
type Found struct {
	Path  string
	Named bool   // by the user, and not found in a folder
	Why   string // it is not to be read, "" if it is
}

// Walk returns the given files, and what is in the given folders and below them,
// in the order of their names. A folder that is given may be a link; links in
// folders are not to be read, which may lead anywhere, and round in circles.
func Walk(paths []string) ([]Found, error) {
	var found []Found
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look at: %w", err)
		}
		if !info.IsDir() {
			if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("%s is no regular file: it is read twice, so write it to one first", path)
			}
			found = append(found, Found{Path: path, Named: true})
			continue
		}
		// With the separator, a link is looked through.
		err = filepath.WalkDir(path+string(filepath.Separator), func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || d.IsDir():
			case d.Type().IsRegular():
				found = append(found, Found{Path: p})
			case d.Type() == fs.ModeSymlink:
				found = append(found, Found{Path: p, Why: "is a link: name it, and not only its folder, to import what it points to"})
			default:
				found = append(found, Found{Path: p, Why: "is no regular file"})
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look through folder: %w", err)
		}
	}
	return found, nil
}
