package importer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

const layout = "2006-01-02 15:04:05 UTC"

// plan decides for each file whether it is known, by how much its times are
// moved, and whether that can be stored, before anything is.
func (m *Importer) plan(ctx context.Context, files []*file, s *Summary) error {
	entries, err := m.Journal.Entries(ctx, m.Agent)
	if err != nil {
		return err
	}
	var known *Entry // one that was begun before, and so fixes the shift of all
	for _, f := range files {
		if err := m.match(f, entries); err != nil {
			return err
		}
		if f.known && known == nil {
			known = &f.entry
		}
	}
	shift := m.shift(files, known)
	horizon, err := m.Journal.Horizon(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.entry.Done {
			continue
		}
		if !f.known {
			f.entry.Shift = shift
		}
		if first := f.first.Add(f.entry.Shift); f.records > 0 && m.Old != OldSkip && first.Before(horizon) {
			return tooOld(f, horizon)
		}
	}
	// All are noted first: whatever comes between, what is left of them later is moved as far.
	for _, f := range files {
		if !f.known {
			if err := m.Journal.Put(ctx, f.entry); err != nil {
				return err
			}
		}
		if f.records > 0 {
			s.span(f.first.Add(f.entry.Shift), f.last.Add(f.entry.Shift))
		}
	}
	s.ShiftSeconds = shift.Seconds()
	return nil
}

// match finds the file in the journal, or makes its entry.
func (m *Importer) match(f *file, entries []Entry) error {
	var same *Entry
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Format != m.Format:
		case e.Digest == f.digest:
			if same == nil || e.Generation > same.Generation {
				same = e
			}
		case e.File == f.path && !m.Again:
			return fmt.Errorf("%s was imported as agent %s on %s, when it had other contents (%d bytes then, %d now): what both hold would be stored twice. "+
				"Import log files that have been rotated and grow no more; to import it nevertheless, use --again, or another --agent", f.path, m.Agent, e.Updated.Format(layout), e.Size, f.size)
		}
	}
	f.entry = Entry{Agent: m.Agent, Format: m.Format, File: f.path, Digest: f.digest, Size: f.size}
	if same != nil {
		if !same.Done || !m.Again {
			f.known, f.entry = true, *same
			return nil
		}
		f.entry.Generation = same.Generation + 1
	}
	sum := sha256.Sum256([]byte("ebbwatch import\x00" + m.Format + "\x00" + m.Agent + "\x00" + f.digest + "\x00" + strconv.Itoa(int(f.entry.Generation))))
	f.entry.ID = hex.EncodeToString(sum[:])
	return nil
}

// shift returns by how much the times of the run's files are moved. Files of one
// capture move together: one that was imported before decides for the others.
func (m *Importer) shift(files []*file, known *Entry) time.Duration {
	if known != nil {
		return known.Shift
	}
	if m.MoveTo.IsZero() {
		return 0
	}
	var newest time.Time
	for _, f := range files {
		if f.last.After(newest) {
			newest = f.last
		}
	}
	if newest.IsZero() {
		return 0
	}
	return m.MoveTo.Sub(newest)
}

// tooOld refuses a file with records that the store would drop, at once or at the
// next merge.
func tooOld(f *file, horizon time.Time) error {
	return fmt.Errorf("%s: its records begin at %s, which is %w: table flows drops rows from before %s, so they would vanish at once. Nothing is imported. Choose\n"+
		"  --shift now         move all times so that the newest record is of now (or of a given time: --shift 2026-01-31T12:00:00Z)\n"+
		"  --old skip          leave out the records that are too old, and count them\n"+
		"or keep them with these times: raise what the configuration of the collector says, start it again (it changes the tables), and then run this command again:\n"+
		"  store: {retention_days: {flows: 10000, flows_1m: 10000, flows_1h: 10000, pairs: 10000, service_rtt_5m: 10000}}    (in that of `ebbwatch up` below collector)",
		f.path, f.first.Add(f.entry.Shift).Format(layout), ErrOld, horizon.Format(layout))
}
