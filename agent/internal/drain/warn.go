package drain

import (
	"fmt"
	"time"
)

// warn makes and enqueues an early warning, if there is anything to tell. It
// runs between drains, in their goroutine, so that the sequence numbers of its
// batches and theirs are in the order of their times.
func (d *Drainer) warn() error {
	now, err := d.Clock()
	if err != nil {
		return fmt.Errorf("warn: %w", err)
	}
	b := &d.warning
	b.Reset()
	tells := d.Warner.Warn(b, time.Duration(now.MonoNS-d.warned.MonoNS), time.Duration(now.MonoNS-d.last.MonoNS))
	d.warned = now
	if !tells {
		return nil
	}
	b.Time = now.Wall.Truncate(time.Microsecond)
	b.Sequence = d.Sink.NextSequence()
	b.Losses = append(b.Losses, d.Sink.Losses()...)
	m, err := d.Sink.Encode(b)
	if err != nil {
		d.Log.Error("warning cannot be encoded and is lost", "sequence", b.Sequence, "features", len(b.Features), "sources", len(b.Sources), "error", err)
		return nil
	}
	d.Sink.Enqueue(m)
	return nil
}
