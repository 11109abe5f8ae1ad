// Package importer stores flow records that other tools wrote: it reads foreign
// files twice, first to learn what they hold and then to store it in blocks that
// are the same each time, so that an import can be repeated or continued without
// a row standing twice.
//
// A folder below it is one foreign format. Adding one touches its folder and the
// list in collector/app.
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// Source is what a format makes of the paths that it was given. It is used by
// one goroutine.
type Source interface {
	// Files returns the files that hold records, in the order in which they are
	// to be read.
	Files() []string
	// Open opens file number i. The survey asks only for times, so that records
	// need not be complete; survey and storing see the same records in the same
	// order.
	Open(ctx context.Context, i int, survey bool) (Reader, error)
	// Tell adds what only the source knows to the summary of an import.
	Tell(*Summary)
}

// Reader reads the records of one file.
type Reader interface {
	// Read replaces f with the next record. It returns io.EOF after the last, and
	// a *RejectError for what holds no record, which the next call passes over. After
	// any other error the file cannot be read on.
	Read(f *ebbwatch.Flow) error
	Close() error
}

// Store writes blocks, each at most once for its token.
type Store interface {
	WriteWithin(ctx context.Context, b *sink.Block, token string, patience time.Duration) error
}

// Journal remembers imports.
type Journal interface {
	// Entries returns the imports under the name of an agent.
	Entries(ctx context.Context, agent string) ([]Entry, error)
	Put(ctx context.Context, e Entry) error
	// Horizon returns the time before which the store drops records, the zero time
	// if it keeps all.
	Horizon(ctx context.Context) (time.Time, error)
}

// Entry is what the journal knows of the import of one file.
type Entry struct {
	ID, Agent, Format, File, Digest string
	Size                            int64 // bytes of the file
	Generation                      uint32
	Shift                           time.Duration
	Begun                           bool   // a block may be stored
	Blocks                          uint32 // known to be stored
	Records, Rows                   uint64 // of these blocks
	Done                            bool
	Updated                         time.Time // set by the journal
	// Forgotten says, of an entry that the journal returns, that the store took
	// so many inserts since Updated that it may not know the last token any more.
	Forgotten bool
}

// The ways to treat records that are older than what the store keeps.
const (
	OldRefuse = "refuse" // import nothing
	OldSkip   = "skip"   // leave them out, and count them
	OldKeep   = "keep"   // as refuse: what the store drops cannot be kept
)

// Options say what is to be done with the records.
type Options struct {
	Format, Agent string
	// MoveTo is the time to which the newest record is moved, and all others with
	// it; the zero time leaves them where they are.
	MoveTo time.Time
	Old    string // OldRefuse, OldSkip or OldKeep
	// Again imports files that were imported before, or of which another content was.
	Again bool
	// BrokenBlock says whether the block at which an import broke off is stored,
	// where that cannot be told any more: "stored", "missing", or "".
	BrokenBlock string
	// Patience is how long an insert is repeated while ClickHouse is not there.
	Patience time.Duration
	// Rejects, if set, gets the lines that hold no record, after their place and reason.
	Rejects io.Writer
	// Progress, if set, is told now and then.
	Progress func(Progress)
}

// Progress is how far an import is.
type Progress struct {
	File        string
	Index, Of   int // of files, from 0
	Survey      bool
	Done, Total uint64 // records; Total is 0 in the survey
}

// Importer imports a source.
type Importer struct {
	Options
	Source  Source
	Store   Store
	Journal Journal
	// Enricher tells what is known of addresses; nil: nothing.
	Enricher sink.Enricher
	// BlockRows is how many records are inserted together, at most
	// ebbwatch.MaxBatchFlows. An import can only be continued with the same number.
	BlockRows int
	Now       func() time.Time
}

// BlockRows is the number of records of a block. Do not change it: blocks of
// imports that broke off under another number would not be recognised.
const BlockRows = 50_000

// ErrInterrupted is the error of an import whose context ended.
var ErrInterrupted = errors.New("interrupted; the same command goes on where this one ended")

// ErrOld is wrapped by the refusal of records that the store would drop.
var ErrOld = errors.New("older than what is kept")

// Run imports everything and returns what was done, also beside an error.
func (m *Importer) Run(ctx context.Context) (*Summary, error) {
	started := m.Now()
	s := &Summary{Format: m.Format, Agent: m.Agent, Rejected: map[string]uint64{}, LeftOut: []LeftOut{}, Files: []FileSummary{}}
	if err := ebbwatch.ValidateAgent(m.Agent); err != nil {
		return s, fmt.Errorf("--agent: %w", err)
	}
	err := m.run(ctx, s)
	m.Source.Tell(s)
	s.Seconds = m.Now().Sub(started).Seconds()
	if ctx.Err() != nil {
		err = ErrInterrupted
	}
	return s, err
}

func (m *Importer) run(ctx context.Context, s *Summary) error {
	files, err := m.survey(ctx, s)
	if err != nil {
		return err
	}
	if err := m.plan(ctx, files, s); err != nil {
		return err
	}
	var total, done uint64
	for _, f := range files {
		if !f.entry.Done {
			total += f.records
		}
	}
	for n, f := range files {
		at := len(s.Files)
		s.Files = append(s.Files, FileSummary{File: f.path, State: "imported", Records: f.records})
		told := &s.Files[at]
		switch {
		case f.entry.Done:
			told.State, told.Imported = "known", &f.entry.Updated
			s.Known++
			continue
		case f.entry.Begun:
			told.State = "continued"
		}
		err := m.load(ctx, f, s, func(records uint64) {
			m.tell(Progress{File: f.path, Index: n, Of: len(files), Done: done + records, Total: total})
		})
		told.Rows = f.stored
		if err != nil {
			told.State = "broken off"
			return fmt.Errorf("%s: %w", f.path, err)
		}
		done += f.records
	}
	return nil
}

func (m *Importer) tell(p Progress) {
	if m.Progress != nil {
		m.Progress(p)
	}
}

// file is one file of the source.
type file struct {
	index   int    // of the source
	path    string // absolute
	digest  string
	size    int64
	records uint64
	first   time.Time // earliest start
	last    time.Time // latest start
	known   bool      // the journal has entry
	entry   Entry
	stored  uint64 // rows that this run stored
}

// survey reads all files once. Of several with the same content it leaves out all but one.
func (m *Importer) survey(ctx context.Context, s *Summary) ([]*file, error) {
	paths := m.Source.Files()
	files := make([]*file, 0, len(paths))
	byDigest := make(map[string]string, len(paths))
	for i, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", path, err)
		}
		f := &file{index: i, path: absolute}
		if f.digest, f.size, err = Digest(ctx, path); err != nil {
			return nil, err
		}
		if same, ok := byDigest[f.digest]; ok {
			s.LeftOut = append(s.LeftOut, LeftOut{File: path, Why: "has the same content as " + same})
			continue
		}
		byDigest[f.digest] = path
		err = m.each(ctx, i, true, func(flow *ebbwatch.Flow, reject *RejectError) error {
			if reject != nil {
				return nil // counted when it is stored
			}
			if f.records == 0 || flow.Start.Before(f.first) {
				f.first = flow.Start
			}
			if flow.Start.After(f.last) {
				f.last = flow.Start
			}
			if f.records++; f.records%10_000 == 0 {
				m.tell(Progress{File: path, Index: i, Of: len(paths), Survey: true, Done: f.records})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w; nothing is imported", path, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// each calls visit for every record and every reject of a file.
func (m *Importer) each(ctx context.Context, i int, survey bool, visit func(*ebbwatch.Flow, *RejectError) error) (err error) {
	r, err := m.Source.Open(ctx, i, survey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var f ebbwatch.Flow
	for {
		err := r.Read(&f)
		var reject *RejectError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &reject):
			err = visit(nil, reject)
		case err == nil:
			err = visit(&f, nil)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}
