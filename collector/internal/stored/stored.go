// Package stored tells whether a batch is in the database already, by who made
// it: agent, run of the agent, and number in that run.
//
// JetStream drops a second copy of a message only within its duplicate window,
// and forgets what it knew when the message is acknowledged and the server
// starts again. A copy that comes later, from an agent's spool for one, has a
// stream sequence of its own. It is recognized here: the table coverage has a row
// of every batch that is stored, written last, so that it is the record of what
// is done; the table runs has the highest number of each run.
//
// A Set remembers what it was told. What comes with a higher number than a run
// ever had is new; for the rest, which is rare, a Table looks into coverage.
package stored

import (
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/ranges"
)

// Run is one run of an agent.
type Run struct{ Agent, Boot string }

// Batch is a batch's identity. Time is when its drain ended, to the millisecond:
// where in the table it stands.
type Batch struct {
	Run
	Sequence uint64
	Time     time.Time
}

// Status is what a Set knows about a batch.
type Status uint8

// Unknown: only the table can tell.
const (
	Unknown Status = iota
	New
	Stored
)

// Set is what one session of a collector knows about batches that are stored or
// on their way into the store. It is right as long as nobody else stores any. The
// zero value is ready for use; it is not safe for concurrent use.
type Set struct {
	Sharers int // how many sets share the memory for one; 0 is 1
	runs    map[Run]*run
	bytes   int
}

// run is what is known of one run: of the numbers up to last, those in known are
// stored and the table can tell of the others; above last only those in known
// are stored.
type run struct {
	last  uint64
	known ranges.Set
}

const (
	runBytes   = 256 // of memory, with its strings and its place in the map
	rangeBytes = 16
	maxBytes   = 64 << 20 // of all sharers; some 250,000 runs
)

// Status returns what is known of a batch.
func (s *Set) Status(r Run, sequence uint64) Status {
	switch known := s.runs[r]; {
	case known == nil:
		return Unknown
	case known.known.Contains(sequence):
		return Stored
	case sequence > known.last:
		return New
	}
	return Unknown
}

// Knows reports whether the set was told of the run.
func (s *Set) Knows(r Run) bool { return s.runs[r] != nil }

// Learn tells that last is the highest number of the run in the table, 0 if it
// has none.
func (s *Set) Learn(r Run, last uint64) {
	if s.runs == nil {
		s.runs = make(map[Run]*run)
	}
	if s.runs[r] == nil {
		s.runs[r] = &run{last: last}
		s.bytes += runBytes
	}
}

// Add tells that the batch is stored, or will be by this session. The run must be known.
func (s *Set) Add(r Run, sequence uint64) {
	known := s.runs[r]
	before := len(known.known)
	known.known = known.known.Add(sequence, sequence)
	s.bytes += rangeBytes * (len(known.known) - before)
}

// Full reports whether the set takes as much memory as it may. Then Reset it,
// once all that was added is in the table.
func (s *Set) Full() bool { return s.bytes >= maxBytes/max(1, s.Sharers) }

// Reset forgets everything.
func (s *Set) Reset() { *s = Set{Sharers: s.Sharers} }
