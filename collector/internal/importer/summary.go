package importer

import (
	"fmt"
	"io"
	"time"
)

// Summary is what an import did.
type Summary struct {
	Format string        `json:"format"`
	Agent  string        `json:"agent"`
	Files  []FileSummary `json:"files"`
	Known  int           `json:"known_files"` // imported before
	// Records and Rows are those of this run. A record that is not a row is in Rejected.
	Records uint64 `json:"records"`
	Rows    uint64 `json:"rows"`
	// WithoutPackets are rows that count none, which are not in the rollup by the minute.
	WithoutPackets uint64 `json:"without_packets"`
	// Rejected counts lines that hold no record and records that cannot be stored, by reason.
	Rejected map[string]uint64 `json:"rejected"`
	Examples []Example         `json:"examples,omitempty"` // the first rejected lines
	LeftOut  []LeftOut         `json:"left_out"`           // files that were not read
	Hints    *Hints            `json:"hints,omitempty"`
	// First and Last are the times of the earliest and the latest record, moved by ShiftSeconds.
	First        *time.Time `json:"first,omitempty"`
	Last         *time.Time `json:"last,omitempty"`
	ShiftSeconds float64    `json:"shift_seconds"`
	Seconds      float64    `json:"seconds"`
}

// FileSummary is what was done with one file: "imported", "continued" (it broke
// off before), "known" (imported before, at Imported), or "broken off".
type FileSummary struct {
	File     string     `json:"file"`
	State    string     `json:"state"`
	Records  uint64     `json:"records"`
	Rows     uint64     `json:"rows,omitempty"` // also those that were stored before it broke off
	Imported *time.Time `json:"imported,omitempty"`
}

// LeftOut is a file that holds no records of the format.
type LeftOut struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// Hints tells how records of several logs were joined.
type Hints struct {
	Read      uint64 `json:"read"`      // hints that logs beside the records held
	Matched   uint64 `json:"matched"`   // records that got one
	Further   uint64 `json:"further"`   // later hints of a conversation that has one
	Unmatched uint64 `json:"unmatched"` // conversations with a hint and no record
	Rejected  uint64 `json:"rejected"`  // lines that hold no hint
}

// Example is a rejected line.
type Example struct {
	File   string `json:"file"`
	Line   int64  `json:"line"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// maxExamples is how many rejected lines a summary shows.
const maxExamples = 10

// RejectError is the error for a line that holds no record.
type RejectError struct {
	Line   int64  // from 1
	Reason string // one of a few
	Detail string
	Text   []byte // the line, or what was read of it; valid until the next Read
}

func (r *RejectError) Error() string {
	return fmt.Sprintf("line %d: %s: %s", r.Line, r.Reason, r.Detail)
}

// reject counts r, shows it if it is among the first, and writes its line to rejects.
func (s *Summary) reject(file string, r *RejectError, rejects io.Writer) error {
	s.Rejected[r.Reason]++
	if len(s.Examples) < maxExamples {
		s.Examples = append(s.Examples, Example{File: file, Line: r.Line, Reason: r.Reason, Detail: r.Detail})
	}
	if rejects == nil {
		return nil
	}
	if _, err := fmt.Fprintf(rejects, "%s:%d: %s: %s\n%s\n", file, r.Line, r.Reason, r.Detail, r.Text); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

func (s *Summary) span(first, last time.Time) {
	first, last = first.UTC(), last.UTC()
	if s.First == nil || first.Before(*s.First) {
		s.First = &first
	}
	if s.Last == nil || last.After(*s.Last) {
		s.Last = &last
	}
}
