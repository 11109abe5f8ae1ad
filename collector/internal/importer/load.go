package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// Limits of a block beside BlockRows. An insert makes a part for each day, and
// ClickHouse refuses one that makes more than 100.
const (
	blockDays  = 60
	blockNames = 16 << 20 // bytes

	namesPerRecord = 19
)

// block is what is stored by one insert. Its bounds depend on nothing but the
// file and the shift.
type block struct {
	batch      ebbwatch.Batch
	days       map[int64]struct{}
	records    uint64              // also those that are left out
	packetless uint64              // records of the batch that count no packets
	names      int                 // bytes of their names
	strings    map[string]struct{} // the names
	first      time.Time
	last       time.Time
	end        time.Time
}

func (b *block) full(f *ebbwatch.Flow, rows int) bool {
	_, same := b.days[day(f.Start)]
	return b.records >= uint64(rows) || !same && len(b.days) >= blockDays || b.names > blockNames || len(b.strings) > ebbwatch.MaxBatchFlows-namesPerRecord
}

// take notes a record that belongs to the block, whether it is stored or not.
func (b *block) take(f *ebbwatch.Flow) {
	b.records++
	b.days[day(f.Start)] = struct{}{}
	for _, name := range [namesPerRecord]string{
		f.Interface, f.Interfaces, f.NetNS, f.DropReason, f.Hint.ServerName, f.Hint.DNSType, f.Hint.DNSRcode, f.Hint.TLSALPN, f.Hint.TLSJA4, f.Hint.HTTPMethod, f.Hint.QUICVersion,
		f.SrcOwner.Process, f.SrcOwner.Unit, f.SrcOwner.Container, f.SrcOwner.Pod, f.DstOwner.Process, f.DstOwner.Unit, f.DstOwner.Container, f.DstOwner.Pod,
	} {
		if name != "" {
			b.names += len(name)
			b.strings[name] = struct{}{}
		}
	}
}

func (b *block) reset() {
	b.batch.Reset()
	clear(b.days)
	clear(b.strings)
	b.records, b.names, b.packetless = 0, 0, 0
	b.first, b.last, b.end = time.Time{}, time.Time{}, time.Time{}
}

func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// loader stores one file.
type loader struct {
	*Importer
	file    *file
	sum     *Summary
	block   block
	columns *sink.Block
	number  uint32 // of the block that is being filled, from 1
	from    uint32 // the first block that is not known to be stored
	broken  bool   // an earlier run may have stored block from
	rows    uint64 // of the blocks before it
	records uint64
	horizon time.Time // older records are left out; the zero time for none
	future  time.Time // records from here on are left out
}

// load stores the records of a file that are not stored yet.
func (m *Importer) load(ctx context.Context, f *file, s *Summary, progress func(records uint64)) error {
	l := &loader{Importer: m, file: f, sum: s, columns: sink.NewBlock(), number: 1, future: m.Now().Add(24 * time.Hour)}
	l.columns.Enrich(m.Enricher)
	l.block.days, l.block.strings = make(map[int64]struct{}), make(map[string]struct{})
	l.from, l.broken = f.entry.Blocks+1, f.entry.Begun
	if m.Old == OldSkip {
		var err error
		if l.horizon, err = m.Journal.Horizon(ctx); err != nil {
			return err
		}
	}
	if !f.entry.Begun {
		f.entry.Begun = true
		if err := m.Journal.Put(ctx, f.entry); err != nil {
			return err
		}
	}
	err := m.each(ctx, f.index, false, func(flow *ebbwatch.Flow, reject *RejectError) error {
		if reject != nil {
			if l.number < l.from { // told when that block was stored
				return nil
			}
			return s.reject(f.path, reject, m.Rejects)
		}
		if n := l.records + l.block.records; n%10_000 == 0 {
			progress(n)
		}
		return l.add(ctx, flow)
	})
	if err == nil {
		err = l.flush(ctx, true)
	}
	f.stored = l.rows
	return err
}

func (l *loader) add(ctx context.Context, f *ebbwatch.Flow) error {
	f.Start, f.End = f.Start.Add(l.file.entry.Shift), f.End.Add(l.file.entry.Shift)
	if l.block.full(f, l.BlockRows) {
		if err := l.flush(ctx, false); err != nil {
			return err
		}
	}
	b := &l.block
	b.take(f)
	if reason := l.unfit(f); reason != "" {
		if l.number >= l.from {
			l.sum.Rejected[reason]++
		}
		return nil
	}
	if b.first.IsZero() || f.Start.Before(b.first) {
		b.first = f.Start
	}
	if f.Start.After(b.last) {
		b.last = f.Start
	}
	if f.End.After(b.end) {
		b.end = f.End
	}
	b.batch.Append(f)
	if f.SrcPackets+f.DstPackets == 0 {
		b.packetless++
	}
	return nil
}

// unfit returns why a record cannot be stored with its times, "" if it can.
func (l *loader) unfit(f *ebbwatch.Flow) string {
	switch {
	case f.Start.UnixMicro() < 0:
		return "before 1970"
	case !f.Start.Before(l.future):
		return "in the future"
	case f.Start.Before(l.horizon):
		return "older than what is kept"
	}
	return ""
}

// flush stores the block unless it is stored already, and notes that.
func (l *loader) flush(ctx context.Context, last bool) error {
	e := &l.file.entry
	b := &l.block
	isStored := l.number < l.from
	if !isStored {
		write, err := l.mustWrite(l.broken && l.number == l.from)
		if err != nil {
			return err
		}
		if write {
			if err := l.write(ctx); err != nil {
				return err
			}
		}
	}
	l.records += b.records
	l.rows += uint64(b.batch.Len())
	if !isStored {
		l.sum.Records += b.records
		l.sum.Rows += uint64(b.batch.Len())
		l.sum.WithoutPackets += b.packetless
	}
	if last && l.number+1 < l.from {
		return fmt.Errorf("%d blocks of it are stored, it now has %d: it is read by another version of its tool. Import it under another --agent", l.from-1, l.number)
	}
	if !isStored || last {
		e.Blocks, e.Records, e.Rows, e.Done = max(l.number, e.Blocks), l.records, l.rows, last
		if err := l.Journal.Put(ctx, *e); err != nil {
			return err
		}
	}
	l.number++
	b.reset()
	return nil
}

// mustWrite tells whether the block is to be inserted. The one at which an
// import broke off may be stored or not: ClickHouse knows, by its token, as
// long as it remembers that.
func (l *loader) mustWrite(broken bool) (bool, error) {
	if l.block.batch.Len() == 0 {
		return false, nil
	}
	if !broken || !l.file.entry.Forgotten {
		return true, nil
	}
	switch l.BrokenBlock {
	case "stored":
		return false, nil
	case "missing":
		return true, nil
	}
	return false, fmt.Errorf("the import broke off on %s, at a block of %d rows, and ClickHouse has taken too many inserts since to remember whether it is stored. Look:\n"+
		"  SELECT count() FROM flows WHERE agent = '%s' AND start >= '%s' AND start <= '%s'\n"+
		"and run the command again with --broken-block stored, or --broken-block missing", l.file.entry.Updated.Format(layout), l.block.batch.Len(),
		l.Agent, l.block.first.UTC().Format("2006-01-02 15:04:05.000"), l.block.last.UTC().Format("2006-01-02 15:04:05.000"))
}

// write inserts the block under a token that is the same each time.
func (l *loader) write(ctx context.Context) error {
	id, b := l.file.entry.ID, &l.block.batch
	b.Agent, b.Sequence, b.Time = l.Agent, uint64(l.number), l.block.end
	b.Boot = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
	if err := b.Validate(); err != nil {
		return err
	}
	l.columns.Reset()
	l.columns.Append(b, l.Now())
	err := l.Store.WriteWithin(ctx, l.columns, fmt.Sprintf("import:%s:%d", id, l.number), l.Patience)
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, errors.New("the same command goes on where this one ended"))
	}
	return err
}
