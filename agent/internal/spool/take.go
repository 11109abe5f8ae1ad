package spool

import (
	"errors"
	"io"
)

// Take returns the oldest batches: at most n, and no more once they hold
// maxBytes. They are marked as sent from now on. Each must go to Done or
// PutBack before the next Take or Append.
func (s *Spool) Take(n, maxBytes int) []Record {
	var taken []Record
	bytes := 0
	for _, seg := range s.segments {
		for len(taken) < n && bytes < maxBytes {
			r, err := s.next(seg)
			if err != nil {
				break
			}
			taken = append(taken, r)
			bytes += len(r.Data)
		}
	}
	s.reap()
	return taken
}

// next returns the next batch of the segment that is not done, with any error at its end.
func (s *Spool) next(seg *segment) (Record, error) {
	for {
		h, err := seg.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.count(func(st *Stats) { st.Errors++ })
				s.log.Error("part of the spool cannot be read", "file", seg.path, "error", err)
				seg.at = seg.size
			}
			return Record{}, err
		}
		if h.state == stateDone {
			continue
		}
		id, data, err := payload(seg.file, &h)
		if err != nil {
			s.log.Warn("damaged batch in the spool is lost", "file", seg.path, "offset", h.offset, "flows", h.flows, "error", err)
			s.settle(seg, h.offset, h.tally(), stateDone)
			s.count(func(st *Stats) { st.Damaged.add(h.tally()) })
			continue
		}
		if h.state == stateNew {
			s.mark(seg, h.offset, stateSent)
		}
		seg.taken.add(h.tally())
		return Record{ID: id, Data: data, Flows: h.flows, Sent: h.state == stateSent, segment: seg, offset: h.offset}, nil
	}
}

// Done tells that taken batches are stored, or given up.
func (s *Spool) Done(records ...Record) {
	for i := range records {
		r := &records[i]
		tally := Tally{Batches: 1, Flows: uint64(r.Flows), Bytes: uint64(len(r.Data))}
		r.segment.taken.sub(tally)
		s.settle(r.segment, r.offset, tally, stateDone)
	}
	s.reap()
}

// settle forgets a batch.
func (s *Spool) settle(seg *segment, offset int64, tally Tally, st state) {
	s.mark(seg, offset, st)
	seg.pending.sub(tally)
	s.count(func(st *Stats) { st.Waiting.sub(tally) })
}

// PutBack returns taken batches, in their order, to be taken again. Sent says
// of each whether it may be stored already.
func (s *Spool) PutBack(records ...Record) {
	for i := range records {
		r := &records[i]
		r.segment.taken.sub(Tally{Batches: 1, Flows: uint64(r.Flows), Bytes: uint64(len(r.Data))})
		r.segment.at = min(r.segment.at, r.offset)
		if !r.Sent {
			s.mark(r.segment, r.offset, stateNew)
		}
	}
}

// mark writes what became of a record. If that fails the batch may be sent
// once more after a restart, never less.
func (s *Spool) mark(seg *segment, offset int64, st state) {
	if err := seg.mark(offset, st); err != nil {
		s.count(func(st *Stats) { st.Errors++ })
		s.log.Warn("spool cannot note what was delivered", "file", seg.path, "error", err)
	}
}

// reap removes the segments at the front that are read to the end and of which
// nothing is taken. What still waits in such a segment could not be read.
func (s *Spool) reap() {
	for len(s.segments) > 0 {
		seg := s.segments[0]
		if seg.at < seg.size && seg.pending.Batches > 0 || seg.taken.Batches > 0 {
			return
		}
		if lost := seg.pending; lost.Batches > 0 {
			s.log.Warn("damaged batches in the spool are lost", "file", seg.path, "batches", lost.Batches, "flows", lost.Flows, "bytes", lost.Bytes)
			s.count(func(st *Stats) {
				st.Damaged.add(lost)
				st.Waiting.sub(lost)
			})
		}
		s.remove(seg)
	}
}
