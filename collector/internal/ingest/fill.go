package ingest

import (
	"context"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

// fill appends messages to a block and hands it over when it is due and its turn
// to be inserted. A block that is due but waits goes on growing up to its limits,
// which are wider for the one that waits first; then nothing more is read.
func (p *pipe) fill(stop, ctx context.Context) error {
	defer close(p.full)
	current := <-p.free
	due := time.NewTimer(0)
	<-due.C
	isDue := false
	var place *place
	defer func() { place.leave() }()
	arrived := p.arrived
	put := func(msg message) {
		if p.accept(ctx, current, msg) && len(current.sequences) == 1 {
			current.since = time.Now()
			due.Reset(p.Config.BlockAge)
			place = p.line.join(p.worker)
		}
	}
	for arrived != nil || len(current.sequences) > 0 || p.doubts.waiting() {
		limits, wider := p.limits()
		if place.isFirst() {
			limits = wider
		}
		isFull := current.full(limits)
		switch {
		case len(p.doubts.answered) > 0 && !isFull:
			put(p.doubts.next())
			continue
		case p.doubts.ripe(arrived == nil, p.shard.Of) && place.stepBack():
			if p.ask(ctx) != nil {
				return nil
			}
			continue
		case p.known.Full() && len(current.sequences) == 0:
			if p.forget(ctx) != nil {
				return nil
			}
			continue
		}
		source := arrived
		if isFull || p.known.Full() {
			source = nil
		}
		if isDue || source == nil {
			place.getReady()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due.C:
			isDue = true
		case <-p.doubts.due:
			p.doubts.isDue = true
		case <-place.grows():
			p.move(current, place.large)
			current.reset()
			p.free <- current
			current = place.large
		case <-place.begins():
			current.place = place
			select {
			case p.full <- current:
			case <-ctx.Done():
				return nil
			}
			place = nil
			due.Stop()
			isDue = false
			select {
			case current = <-p.free:
			case <-ctx.Done():
				return nil
			}
		case msg, ok := <-source:
			if !ok {
				arrived = nil
				continue
			}
			if stop.Err() != nil { // somebody else may have it at once
				msg.nak(0) // or after AckWait, if this fails
				continue
			}
			put(msg)
		}
	}
	return nil
}

// move appends to a load what another has. Both hold the same then.
func (p *pipe) move(from, to *load) {
	for _, msg := range from.messages {
		if b, err := p.decoder.Decode(msg.subject, msg.data, msg.stored); err != nil {
			to.refuse(msg, err) // as before: its letter is written
		} else {
			to.append(b, msg)
		}
	}
	to.since = from.since
}

// accept appends a message to the block and reports whether it did: not if the
// message or its batch is known already, or may be. Of a refused one it appends
// a row that says so.
func (p *pipe) accept(ctx context.Context, l *load, msg message) bool {
	if !msg.asked {
		switch p.ledger.Status(msg.sequence, msg.stored) {
		case ledger.New:
		case ledger.Held:
			p.Metrics.redelivered.Inc()
			return false // it is acknowledged with its block, or known when it comes again
		case ledger.Done:
			p.Metrics.redelivered.Inc()
			p.acknowledge(ctx, msg) // the one before got lost; if this one does too, it comes again
			return false
		}
	}
	b, err := p.decoder.Decode(msg.subject, msg.data, msg.stored)
	if err != nil {
		if p.refuse(ctx, l, msg, err) != nil {
			msg.nak(letterPause) // or after AckWait, if this fails
			return false
		}
		p.ledger.Hold(msg.sequence, msg.stored)
		return true
	}
	run := stored.Run{Agent: b.Agent, Boot: b.Boot}
	switch p.known.Status(run, b.Sequence) {
	case stored.New:
	case stored.Stored: // or about to be: then the first copy is still in the stream, so that this one may go
		p.Metrics.copies.Inc()
		p.ledger.Discard(msg.sequence, msg.stored)
		p.settleLetters(ctx, []message{msg})
		p.acknowledge(ctx, msg)
		return false
	case stored.Unknown:
		if !msg.asked {
			p.ledger.Hold(msg.sequence, msg.stored)
			p.doubts.add(msg, stored.Batch{Run: run, Sequence: b.Sequence, Time: b.Time})
			return false
		}
	}
	p.known.Add(run, b.Sequence)
	p.ledger.Hold(msg.sequence, msg.stored)
	l.append(b, msg)
	return true
}
