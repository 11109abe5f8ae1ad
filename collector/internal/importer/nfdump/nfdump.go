// Package nfdump reads the files of nfcapd (NetFlow, IPFIX, sFlow) through the
// program nfdump, which knows all versions of their format.
package nfdump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// Source is an importer.Source of files of nfcapd.
type Source struct {
	command string
	paths   []string
	leftOut []importer.LeftOut
}

// New looks at the given files, and at those in the given folders whose name
// begins with "nfcapd.".
func New(paths []string) (*Source, error) {
	found, err := importer.Walk(paths)
	if err != nil {
		return nil, err
	}
	s := &Source{}
	for _, f := range found {
		base := filepath.Base(f.Path)
		switch {
		case f.Why != "":
			s.leave(f.Path, f.Why)
		case !f.Named && strings.HasPrefix(base, "nfcapd.current"):
			s.leave(f.Path, "nfcapd still writes it")
		case !f.Named && !strings.HasPrefix(base, "nfcapd."):
			s.leave(f.Path, "its name does not begin with nfcapd.")
		default:
			if err := check(f.Path); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
			s.paths = append(s.paths, f.Path)
		}
	}
	if len(s.paths) == 0 {
		return nil, fmt.Errorf("no file of nfcapd in %s: their names begin with 'nfcapd.'", strings.Join(paths, ", "))
	}
	if s.command, err = exec.LookPath("nfdump"); err != nil {
		return nil, errors.New("the program nfdump is not installed, which reads these files: apt-get install nfdump, dnf install nfdump, or build https://github.com/phaag/nfdump")
	}
	return s, nil
}

func (s *Source) leave(path, why string) {
	s.leftOut = append(s.leftOut, importer.LeftOut{File: path, Why: why})
}

// check looks for the two bytes that nfcapd's files begin with, on machines of
// either byte order.
func check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read: %w", err)
	}
	if head = head[:n]; bytes.HasPrefix(head, []byte("\x0c\xa5")) || bytes.HasPrefix(head, []byte("\xa5\x0c")) {
		return nil
	}
	return fmt.Errorf("is no file of nfcapd, but %s", importer.LooksLike(head))
}

// Files implements importer.Source.
func (s *Source) Files() []string { return s.paths }

// Tell implements importer.Source.
func (s *Source) Tell(sum *importer.Summary) { sum.LeftOut = append(sum.LeftOut, s.leftOut...) }

// Open implements importer.Source. nfdump joins the two directions of a
// conversation (-B), if its CSV has columns for the second.
func (s *Source) Open(ctx context.Context, i int, survey bool) (importer.Reader, error) {
	r, err := s.start(ctx, s.paths[i], "-B", "-O", "tstart")
	if err == nil && r.columns[outPackets] < 0 {
		if err := r.Close(); err != nil {
			return nil, err
		}
		r, err = s.start(ctx, s.paths[i])
	}
	if err != nil {
		return nil, err
	}
	if !survey {
		r.warn = func(what string) { s.leave(s.paths[i], "not all of it: "+what) }
	}
	return r, nil
}

func (s *Source) start(ctx context.Context, path string, flags ...string) (*reader, error) {
	if strings.HasPrefix(path, "-") {
		path = "./" + path // no flag of nfdump
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, s.command, append([]string{"-r", path, "-o", "csv"}, flags...)...) //nolint:gosec // found on PATH, as documented
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")                                               // its times are local ones
	r := &reader{cmd: cmd, cancel: cancel}
	cmd.Stderr = &r.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("run nfdump: %w", err)
	}
	if r.lines, err = newLines(out); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// reader reads the CSV of one run of nfdump.
type reader struct {
	*lines
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stderr limited
	some   bool              // a record was read
	warn   func(what string) // if set, is told of what nfdump says beside records
}

// limited keeps the beginning of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	_, _ = l.Buffer.Write(p[:min(len(p), max(0, 1000-l.Len()))]) // a buffer takes all
	return len(p), nil
}

// Read implements importer.Reader.
func (r *reader) Read(f *ebbwatch.Flow) error {
	err := r.read(f)
	if errors.Is(err, io.EOF) {
		return r.wait()
	}
	r.some = r.some || err == nil
	return err
}

// wait returns io.EOF if nfdump has read the file to its end. Its exit status is
// 0 also for files that it cannot read: then it says so, and has no records.
func (r *reader) wait() error {
	_, _ = io.Copy(io.Discard, r.text) // the summary
	err := r.cmd.Wait()
	said := string(bytes.TrimSpace(r.stderr.Bytes()))
	switch {
	case err != nil:
		return fmt.Errorf("nfdump: %w: %s", err, said)
	case said != "" && !r.some:
		return fmt.Errorf("nfdump reads no record, and says: %s", said)
	case said != "" && r.warn != nil:
		r.warn("nfdump says: " + said)
	}
	return io.EOF
}

// Close implements importer.Reader.
func (r *reader) Close() error {
	r.cancel()
	_ = r.cmd.Wait() // it was told to end, or has ended
	return nil
}
