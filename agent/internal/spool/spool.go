// Package spool keeps batches on disk while they cannot be delivered: a folder
// of segment files, bounded in bytes, oldest dropped first.
//
// What was appended survives the death of the process at once, and the death of
// the machine after the next sync, at most syncEvery later. Nothing on the disk
// is trusted: each record has its checksum, what is damaged is counted and
// passed over, and what is no segment is left alone.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Spool is a queue on disk. Make it with New; it can be used after Open. Stats
// is safe for concurrent use, the rest is for one goroutine.
type Spool struct {
	cfg Config
	log *slog.Logger

	lock     *os.File
	segments []*segment // oldest first
	active   *segment   // the last of them while it is written, else nil
	last     uint64     // highest number of a segment so far
	buf      []byte
	dirty    bool
	synced   time.Time

	mu    sync.Mutex
	stats Stats
}

// New returns a spool that touches nothing before Open.
func New(cfg Config, log *slog.Logger) *Spool { return &Spool{cfg: cfg, log: log} }

// Stats returns the figures of now.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Spool) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Open locks the folder and finds what an earlier run left in it. After an
// error it can be called again.
func (s *Spool) Open() error {
	lock, err := openDir(s.cfg.Dir)
	if err != nil {
		s.count(func(st *Stats) { st.Errors++ })
		return fmt.Errorf("open spool: %w", err)
	}
	numbers, foreign, err := listSegments(s.cfg.Dir)
	if err != nil {
		lock.Close()
		s.count(func(st *Stats) { st.Errors++ })
		return fmt.Errorf("open spool: %w", err)
	}
	s.lock = lock
	for _, n := range numbers {
		s.last = max(s.last, n)
		seg := &segment{path: segmentPath(s.cfg.Dir, n)}
		damage, err := seg.load()
		switch {
		case errors.Is(err, errForeign):
			foreign = append(foreign, filepath.Base(seg.path))
			continue
		case err != nil:
			s.log.Error("part of the spool cannot be read", "file", seg.path, "error", err)
		}
		if damage.Batches > 0 {
			s.log.Warn("damaged batches in the spool are lost", "file", seg.path, "places", damage.Batches, "bytes", damage.Bytes)
		}
		s.segments = append(s.segments, seg)
		s.count(func(st *Stats) {
			st.Damaged.add(damage)
			st.Waiting.add(seg.pending)
			st.FileBytes += seg.size
		})
	}
	if len(foreign) > 0 {
		s.log.Warn("files in the spool's folder are not the spool's and are left alone", "dir", s.cfg.Dir, "files", len(foreign), "first", foreign[0])
	}
	s.count(func(st *Stats) { st.Foreign = uint64(len(foreign)) })
	s.reap()
	if w := s.Stats().Waiting; w.Batches > 0 {
		s.log.Info("batches of an earlier run wait on disk", "dir", s.cfg.Dir, "batches", w.Batches, "flows", w.Flows, "bytes", w.Bytes)
	}
	return nil
}

// Hold looks whether the folder is still the one that Open locked. If somebody
// removed it or put another in its place, Hold makes and locks it again, and writes
// what it has open there; what lay in files that it had closed is lost, and counted
// as damaged. It returns whether it had to, and why it could not: the spool takes
// nothing then, and Hold can be called again. Nothing may be taken at the time.
func (s *Spool) Hold() (again bool, err error) {
	if s.lock == nil {
		return false, errClosed
	}
	if isAt(s.lock, filepath.Join(s.cfg.Dir, lockName)) {
		return false, nil
	}
	s.active, s.dirty = nil, false // a file that is nowhere takes nothing more
	lock, err := openDir(s.cfg.Dir)
	if err != nil {
		s.count(func(st *Stats) { st.Errors++ })
		return false, fmt.Errorf("the spool's folder was removed: %w", err)
	}
	s.lock.Close()
	s.lock = lock
	if there, _, err := listSegments(s.cfg.Dir); err == nil && len(there) > 0 {
		s.last = max(s.last, there[len(there)-1]) // of somebody's; the next Open takes them
	}
	var lost Tally
	s.segments = slices.DeleteFunc(s.segments, func(seg *segment) bool {
		err := seg.restore()
		if err == nil {
			return false
		}
		s.log.Warn("a segment of the spool is lost with its folder", "file", seg.path, "batches", seg.pending.Batches, "flows", seg.pending.Flows, "error", err)
		lost.add(seg.pending)
		seg.close()
		s.count(func(st *Stats) {
			st.Damaged.add(seg.pending)
			st.Waiting.sub(seg.pending)
			st.FileBytes -= seg.size
		})
		return true
	})
	s.log.Warn("the spool's folder was removed and is made again", "dir", s.cfg.Dir, "kept_batches", s.Stats().Waiting.Batches, "lost_batches", lost.Batches, "lost_flows", lost.Flows)
	return true, nil
}

// Len returns how many batches wait. A batch that was taken waits until Done.
func (s *Spool) Len() int { return int(s.Stats().Waiting.Batches) }

// Append adds batches behind all others, and drops the oldest for want of room.
// It returns how many it added; after an error the rest is still the caller's.
// Nothing may be taken at the time.
func (s *Spool) Append(records ...Record) (int, error) {
	if s.lock == nil {
		return 0, errClosed
	}
	for i := range records {
		if err := s.append(&records[i]); err != nil {
			s.count(func(st *Stats) { st.Errors++ })
			return i, err
		}
	}
	return len(records), nil
}

func (s *Spool) append(r *Record) error {
	if len(r.ID) > maxID || len(r.Data) > ebbwatch.MaxBatchEncoded {
		return fmt.Errorf("add to spool: batch %.64s of %d bytes is too large", r.ID, len(r.Data))
	}
	size := int64(recordHeader + len(r.ID) + len(r.Data))
	if s.active == nil || s.active.size+size > min(maxSegment, s.cfg.MaxBytes/4) {
		if err := s.rotate(size); err != nil {
			return err
		}
	}
	if err := s.makeRoom(size, s.cfg.MaxBytes); err != nil {
		return err
	}
	if s.active == nil { // it was the oldest, too
		if err := s.rotate(size); err != nil {
			return err
		}
	}
	st := stateNew
	if r.Sent {
		st = stateSent
	}
	s.buf = appendRecord(s.buf[:0], r, st, s.active.size)
	if err := s.active.write(s.buf); err != nil {
		return fmt.Errorf("add to spool: %w", err)
	}
	tally := Tally{Batches: 1, Flows: uint64(r.Flows), Bytes: uint64(len(r.Data))}
	s.active.pending.add(tally)
	s.dirty = true
	s.count(func(st *Stats) {
		st.Waiting.add(tally)
		st.Written.add(tally)
		st.FileBytes += size
	})
	return nil
}

// rotate begins a new segment that has room for a record of size bytes.
func (s *Spool) rotate(size int64) error {
	if err := s.sync(); err != nil {
		return err
	}
	limit, err := s.limit()
	if err != nil {
		return err
	}
	if err := s.makeRoom(segmentHeader+size, limit); err != nil {
		return err
	}
	s.last++
	seg := &segment{path: segmentPath(s.cfg.Dir, s.last)}
	if err := seg.create(); err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	if s.active != nil {
		s.active.close()
	}
	s.active = seg
	s.segments = append(s.segments, seg)
	s.count(func(st *Stats) { st.FileBytes += seg.size })
	return nil
}

// limit is the most that the files may take now.
func (s *Spool) limit() (int64, error) {
	free, total, err := diskSpace(s.cfg.Dir)
	if err != nil {
		return 0, err
	}
	reserve := min(total/20, 1<<30)
	return min(s.cfg.MaxBytes, s.Stats().FileBytes+max(0, free-reserve)), nil
}

// makeRoom drops the oldest segments until need more bytes stay within limit.
func (s *Spool) makeRoom(need, limit int64) error {
	if need > limit {
		return fmt.Errorf("add to spool: %w: %s", ErrNoRoom, s.cfg.Dir)
	}
	for s.Stats().FileBytes+need > limit && len(s.segments) > 0 {
		seg := s.segments[0]
		lost := seg.pending
		s.remove(seg)
		s.count(func(st *Stats) {
			st.Dropped.add(lost)
			st.Waiting.sub(lost)
		})
		if lost.Batches > 0 {
			s.log.Warn("spool is full, the oldest batches are dropped", "batches", lost.Batches, "flows", lost.Flows, "bytes", lost.Bytes)
		}
	}
	return nil
}

// remove deletes the oldest segment.
func (s *Spool) remove(seg *segment) {
	s.segments = s.segments[1:]
	if s.active == seg {
		s.active, s.dirty = nil, false
	}
	seg.close()
	s.count(func(st *Stats) { st.FileBytes -= seg.size })
	if err := os.Remove(seg.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.count(func(st *Stats) { st.Errors++ })
		s.log.Warn("spool cannot remove a segment", "file", seg.path, "error", err)
	}
}

// Sync forces what was appended to the disk, at most once in syncEvery: call it
// again while it returns true, not much later than that.
func (s *Spool) Sync() (again bool) {
	if !s.dirty {
		return false
	}
	if time.Since(s.synced) < syncEvery {
		return true
	}
	if err := s.sync(); err != nil {
		s.count(func(st *Stats) { st.Errors++ })
		s.log.Warn("spool cannot be forced to the disk", "error", err)
	}
	return false
}

func (s *Spool) sync() error {
	if !s.dirty || s.active == nil {
		return nil
	}
	s.dirty, s.synced = false, time.Now()
	if err := s.active.file.Sync(); err != nil {
		return fmt.Errorf("sync spool: %w", err)
	}
	return nil
}

// Close forces the spool to the disk and unlocks the folder.
func (s *Spool) Close() error {
	if s.lock == nil {
		return nil
	}
	err := s.sync()
	for _, seg := range s.segments {
		seg.close()
	}
	err = errors.Join(err, s.lock.Close())
	s.lock, s.segments, s.active = nil, nil, nil
	return err
}
