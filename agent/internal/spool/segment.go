package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// segment is one file of the spool. It is open while it is written or read.
type segment struct {
	path string
	file *os.File
	size int64 // up to where the file is ours
	at   int64 // where the next record is read

	pending Tally // what is not done
	taken   Tally // of those, what is taken
}

// load reads the headers of all records. It returns what is damaged, also
// beside an error of the file, after which the segment ends where that was.
func (seg *segment) load() (damage Tally, err error) {
	if err := seg.open(); err != nil {
		return Tally{}, err
	}
	defer seg.close()
	info, err := seg.file.Stat()
	if err != nil {
		return Tally{}, fmt.Errorf("look at segment: %w", err)
	}
	seg.size, seg.at = info.Size(), segmentHeader
	if !info.Mode().IsRegular() {
		return Tally{}, fmt.Errorf("%w: no regular file", errForeign)
	}
	if err := checkSegmentHeader(seg.file); err != nil {
		return Tally{}, err
	}
	scan := scanner{r: seg.file, end: seg.size, at: segmentHeader}
	for {
		h, err := scan.next()
		if errors.Is(err, io.EOF) {
			return scan.damage, nil
		}
		if err != nil {
			scan.damage.add(Tally{Batches: 1, Bytes: uint64(seg.size - scan.at)})
			seg.size = scan.at
			return scan.damage, err
		}
		if h.state != stateDone {
			seg.pending.add(h.tally())
		}
	}
}

// open opens an existing segment. A link is not followed, nor a device waited for.
func (seg *segment) open() error {
	if seg.file != nil {
		return nil
	}
	f, err := os.OpenFile(seg.path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	seg.file = f
	return nil
}

// create makes the file and writes its header.
func (seg *segment) create() error {
	f, err := os.OpenFile(seg.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	seg.file = f
	if err := errors.Join(seg.write(appendSegmentHeader(nil)), syncDir(filepath.Dir(seg.path))); err != nil {
		seg.close()
		os.Remove(seg.path)
		return err
	}
	seg.at = seg.size
	return nil
}

// restore makes the file again if it was removed and is still open here. It fails
// if it is not.
func (seg *segment) restore() error {
	if seg.file == nil {
		_, err := os.Lstat(seg.path)
		return err
	}
	if isAt(seg.file, seg.path) {
		return nil
	}
	f, err := os.OpenFile(seg.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(seg.file, 0, seg.size))
	if err = errors.Join(err, f.Sync()); err != nil {
		f.Close()
		return errors.Join(err, os.Remove(seg.path))
	}
	seg.file.Close()
	seg.file = f
	return nil
}

// write appends b as a whole or not at all.
func (seg *segment) write(b []byte) error {
	if err := seg.open(); err != nil {
		return err
	}
	if _, err := seg.file.WriteAt(b, seg.size); err != nil {
		return errors.Join(err, seg.file.Truncate(seg.size))
	}
	seg.size += int64(len(b))
	return nil
}

// next returns the next record's header, io.EOF at the end. What is damaged
// between records is passed over.
func (seg *segment) next() (header, error) {
	if seg.at >= seg.size {
		return header{}, io.EOF
	}
	if err := seg.open(); err != nil {
		return header{}, err
	}
	scan := scanner{r: seg.file, end: seg.size, at: seg.at}
	h, err := scan.next()
	seg.at = scan.at
	return h, err
}

// mark overwrites the state of the record at offset.
func (seg *segment) mark(offset int64, st state) error {
	if seg.file == nil {
		return nil // removed meanwhile
	}
	_, err := seg.file.WriteAt([]byte{byte(st)}, offset+stateOffset)
	return err
}

func (seg *segment) close() {
	if seg.file != nil {
		seg.file.Close()
		seg.file = nil
	}
}
