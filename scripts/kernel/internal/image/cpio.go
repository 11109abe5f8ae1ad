// Package image makes the initial RAM file system of a virtual machine, and finds
// the kernel modules that go into it.
package image

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Writer writes a cpio archive in the format "newc" that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst). Folders above a
// file are made on the way. It is for one goroutine; the first error stays.
type Writer struct {
	out   *bufio.Writer
	inode uint32
	made  map[string]bool
	err   error
}

// NewWriter returns a Writer to w. Nothing is complete before Close.
func NewWriter(w io.Writer) *Writer {
	return &Writer{out: bufio.NewWriterSize(w, 1<<20), made: map[string]bool{".": true}}
}

// The type bits of a mode: S_IFDIR, S_IFREG, S_IFCHR.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeChar = 0o020000
)

// Dir adds a folder and those above it.
func (w *Writer) Dir(name string) {
	name = clean(name)
	if w.made[name] {
		return
	}
	w.made[name] = true
	w.Dir(path.Dir(name))
	w.header(name, modeDir|0o755, 0, 0, 0)
}

// Console adds the device /dev/console: without it process 1 has no output.
func (w *Writer) Console() {
	w.Dir("dev")
	w.header("dev/console", modeChar|0o600, 0, 5, 1)
}

// Bytes adds a file.
func (w *Writer) Bytes(name string, mode os.FileMode, data []byte) {
	w.file(name, mode, int64(len(data)), strings.NewReader(string(data)))
}

// File adds the file that is at source on this machine, with its permissions.
func (w *Writer) File(name, source string) {
	f, err := os.Open(source)
	if err != nil {
		w.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		w.fail(err)
		return
	}
	w.file(name, info.Mode().Perm(), info.Size(), f)
}

// Close ends the archive. It does not close what it writes to.
func (w *Writer) Close() error {
	w.header("TRAILER!!!", 0, 0, 0, 0)
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("write image: %w", w.err)
	}
	return nil
}

func (w *Writer) file(name string, mode os.FileMode, size int64, data io.Reader) {
	name = clean(name)
	w.Dir(path.Dir(name))
	if size >= 1<<32 {
		w.fail(fmt.Errorf("%s is too large for the format: %d bytes", name, size))
		return
	}
	w.header(name, modeFile|uint32(mode.Perm()), uint32(size), 0, 0)
	if w.err != nil {
		return
	}
	n, err := io.Copy(w.out, data)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, expected %d", name, n, size)
	}
	w.fail(err)
	w.pad(size)
}

// header writes the 110 bytes of a header and the name, padded to four bytes.
func (w *Writer) header(name string, mode, size, major, minor uint32) {
	if w.err != nil {
		return
	}
	w.inode++
	n, err := fmt.Fprintf(w.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		w.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0, name)
	w.fail(err)
	w.pad(int64(n))
}

func (w *Writer) pad(written int64) {
	_, err := w.out.Write(make([]byte, -written&3))
	w.fail(err)
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// clean returns the name as the archive has it: without a slash before it.
func clean(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }
