package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

// Record tells what the database has.
type Record interface {
	// Last returns the highest number of a batch of each of the runs.
	Last(ctx context.Context, runs []stored.Run) (map[stored.Run]uint64, error)
	// Contains returns those of the batches that are stored.
	Contains(ctx context.Context, batches []stored.Batch) ([]stored.Batch, error)
}

// doubts are messages of which memory cannot tell whether their batch is stored:
// the first of a run, and what comes out of order from before this session. They
// wait for a question to the database that is about many of them.
type doubts struct {
	unasked  []doubt
	bytes    int
	due      <-chan time.Time // when the first of them has waited for doubtAge
	isDue    bool
	answered []message // to be accepted or known
}

type doubt struct {
	message
	batch stored.Batch
}

// A question is asked when one of these is reached.
const (
	doubtAge      = 50 * time.Millisecond
	doubtMessages = 2000
	doubtBytes    = 8 << 20 // of all shards together
)

func (d *doubts) add(msg message, b stored.Batch) {
	if len(d.unasked) == 0 {
		d.due = time.After(doubtAge)
	}
	d.unasked = append(d.unasked, doubt{msg, b})
	d.bytes += len(msg.data)
}

// next removes and returns the first message that is answered for.
func (d *doubts) next() message {
	msg := d.answered[0]
	d.answered[0] = message{} // let go of its bytes
	d.answered = d.answered[1:]
	return msg
}

// waiting reports whether any message is there.
func (d *doubts) waiting() bool { return len(d.unasked)+len(d.answered) > 0 }

// ripe reports whether to ask now: nothing more will come, or it is time. What
// is answered for goes first.
func (d *doubts) ripe(closing bool, shards int) bool {
	return len(d.answered) == 0 && len(d.unasked) > 0 &&
		(closing || d.isDue || len(d.unasked) >= doubtMessages || d.bytes >= doubtBytes/shards)
}

// ask asks the database about all doubts, until it answers. It fails only when
// ctx ends.
func (p *pipe) ask(ctx context.Context) error {
	d := &p.doubts
	var runs []stored.Run
	seen := make(map[stored.Run]bool)
	for i := range d.unasked {
		if r := d.unasked[i].batch.Run; !seen[r] && !p.known.Knows(r) {
			seen[r] = true
			runs = append(runs, r)
		}
	}
	if len(runs) > 0 {
		last, err := insist(ctx, p, func() (map[stored.Run]uint64, error) { return p.Record.Last(ctx, runs) })
		if err != nil {
			return err
		}
		for _, r := range runs {
			p.known.Learn(r, last[r])
		}
	}
	var batches []stored.Batch
	for i := range d.unasked {
		if b := d.unasked[i].batch; p.known.Status(b.Run, b.Sequence) == stored.Unknown {
			batches = append(batches, b)
		}
	}
	if len(batches) > 0 {
		found, err := insist(ctx, p, func() ([]stored.Batch, error) { return p.Record.Contains(ctx, batches) })
		if err != nil {
			return err
		}
		for _, b := range found {
			p.known.Add(b.Run, b.Sequence)
		}
		p.Metrics.looked.Add(float64(len(batches)))
	}
	for i := range d.unasked {
		msg := d.unasked[i].message
		msg.asked = true
		d.answered = append(d.answered, msg)
	}
	*d = doubts{answered: d.answered}
	return nil
}

// insist repeats a question until it is answered or ctx ends.
func insist[T any](ctx context.Context, p *pipe, question func() (T, error)) (T, error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		answer, err := question()
		if err == nil {
			p.trouble.Store(nil)
			return answer, nil
		}
		p.trouble.Store(&err)
		if ctx.Err() != nil {
			return answer, fmt.Errorf("ask what is stored: %w", context.Cause(ctx))
		}
		if p.Metrics.mayWarn() {
			p.Log.Warn("cannot ask what is stored, repeating; batches wait in nats", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// forget empties the memory of what is stored, once nothing is on its way: what
// is needed of it is asked for again.
func (p *pipe) forget(ctx context.Context) error {
	select {
	case p.full <- nil: // the block before is stored
		p.known.Reset()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
