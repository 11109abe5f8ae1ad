package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// load is a block with the messages that it came from.
type load struct {
	block     *sink.Block
	messages  []message
	sequences []uint64
	newest    time.Time // when the newest message was stored
	bytes     int
	since     time.Time // when its first message was appended
}

func newLoad() *load { return &load{block: sink.NewBlock()} }

func (l *load) note(seq uint64, stored time.Time, size int) {
	l.sequences = append(l.sequences, seq)
	l.bytes += size
	if stored.After(l.newest) {
		l.newest = stored
	}
}

// full reports whether l has reached a limit of c. It may exceed it by one batch.
func (l *load) full(c Config) bool {
	return l.block.Longest() >= c.BlockRows || len(l.sequences) >= c.BlockMessages || l.bytes+l.block.Bytes() >= c.BlockBytes
}

func (l *load) reset() {
	l.block.Reset()
	clear(l.messages) // let go of their bytes
	*l = load{block: l.block, messages: l.messages[:0], sequences: l.sequences[:0]}
}

// pipe is the running part of a session. Each method is one goroutine.
type pipe struct {
	*Ingester
	decoder  *batch.Decoder
	streams  *consume.Streams
	ledger   *ledger.Ledger
	messages jetstream.MessagesContext
	arrived  chan message
	full     chan *load // unbuffered: a block is handed over when the one before is stored
	free     chan *load
}

// read passes messages on until the iterator is closed. Whenever the server has
// made this collector the active one, what others had received comes first.
func (p *pipe) read(stop, ctx context.Context) error {
	defer close(p.arrived)
	pin := ""
	for {
		msg, err := p.messages.Next()
		switch {
		case err == nil:
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, nats.ErrTimeout):
			continue // the server is away: the connection comes back by itself
		default:
			return fmt.Errorf("receive batches: %w", err)
		}
		m, err := queued(msg)
		if err != nil { // not from a stream: nothing that could be acknowledged
			p.Log.Error("received a message without JetStream metadata", "subject", msg.Subject(), "error", err)
			continue
		}
		if now := msg.Headers().Get(pinHeader); now != pin {
			if err := p.takeOver(stop, ctx, m, pin == ""); err != nil {
				return err
			}
			pin = now
		}
		if !p.pass(ctx, m) {
			return nil
		}
	}
}

// pass reports whether fill took m.
func (p *pipe) pass(ctx context.Context, m message) bool {
	select {
	case p.arrived <- m:
		return true
	case <-ctx.Done():
		return false
	}
}

// fill appends messages to a block and hands it over when it is due and the
// one before it is stored. A block that is due but waits goes on growing up to
// its limits; then nothing more is read.
func (p *pipe) fill(stop, ctx context.Context) error {
	defer close(p.full)
	current := <-p.free
	due := time.NewTimer(0)
	<-due.C
	isDue := false
	arrived := p.arrived
	for arrived != nil || len(current.sequences) > 0 {
		isFull := current.full(p.Config)
		var full chan *load
		if len(current.sequences) > 0 && (isDue || isFull || arrived == nil) {
			full = p.full
		}
		source := arrived
		if isFull {
			source = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due.C:
			isDue = true
		case full <- current:
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
			if p.accept(ctx, current, msg) && len(current.sequences) == 1 {
				current.since = time.Now()
				due.Reset(p.Config.BlockAge)
			}
		}
	}
	return nil
}

// accept appends a message to the block and reports whether it did: not if the
// message is known already, or is refused.
func (p *pipe) accept(ctx context.Context, l *load, msg message) bool {
	switch p.ledger.Status(msg.sequence, msg.stored) {
	case ledger.New:
	case ledger.Held:
		p.Metrics.redelivered.Inc()
		return false // it is acknowledged with its block, or known when it comes again
	case ledger.Done:
		p.Metrics.redelivered.Inc()
		msg.ack() // the acknowledgement got lost; if this one does too, it comes again
		return false
	}
	b, err := p.decoder.Decode(msg.subject, msg.data, msg.stored)
	if err != nil {
		p.refuse(ctx, msg, err)
		return false
	}
	p.ledger.Hold(msg.sequence, msg.stored)
	l.block.Append(b, msg.stored)
	l.messages = append(l.messages, msg)
	l.note(msg.sequence, msg.stored, len(msg.data))
	return true
}

// refuse moves a message to the dead letters. If that fails the message stays
// where it is and comes again.
func (p *pipe) refuse(ctx context.Context, msg message, cause error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	letter := &consume.Letter{
		Subject: msg.subject, Reason: cause.Error(), Data: msg.data, MessageID: msg.id,
		Origin: msg.sequence, Stored: msg.stored,
	}
	if err := p.streams.Refuse(ctx, p.JS, letter); err != nil {
		p.Metrics.deadLetterErrors.Inc()
		if p.Metrics.mayWarn() {
			p.Log.Warn("a refused batch stays in its stream for now", "sequence", letter.Origin, "error", err)
		}
		msg.nak(10 * time.Second) // or after AckWait, if this fails
		return
	}
	reason := batch.Undecodable
	var refusal *batch.RefusedError
	if errors.As(cause, &refusal) {
		reason = refusal.Reason
	}
	p.Metrics.refused.WithLabelValues(string(reason)).Inc()
	if p.Metrics.mayWarn() {
		p.Log.Warn("batch refused, see collector dlq list", "subject", letter.Subject, "sequence", letter.Origin, "reason", cause.Error())
	}
	p.ledger.Discard(letter.Origin, letter.Stored)
	msg.term(string(reason)) // a lost one comes again and is known
}

// commit stores blocks one after the other.
func (p *pipe) commit(stop, ctx context.Context) error {
	for blocks := 0; ; blocks++ {
		var l *load
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next, ok := <-p.full:
			if !ok {
				if stop.Err() == nil || ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return p.ledger.End(ctx)
			}
			l = next
		}
		if err := p.store(ctx, l); err != nil {
			return err
		}
		l.reset()
		p.free <- l
		if p.ledger.Fragments() > 256 && blocks%16 == 0 {
			p.compact(ctx)
		}
	}
}

// store makes the insert of one block, in the order that package ledger states.
func (p *pipe) store(ctx context.Context, l *load) error {
	intent := ledger.Intent{Token: nuid.Next(), Sequences: ledger.Of(l.sequences)}
	if err := p.begin(ctx, intent); err != nil {
		return err
	}
	if err := p.Store.Write(ctx, l.block, intent.Token); err != nil {
		return err
	}
	p.ledger.Commit(l.newest)
	for _, msg := range l.messages {
		msg.ack() // a lost one comes again and is known
	}
	p.Metrics.batches.Add(float64(len(l.messages)))
	p.Metrics.bytes.Add(float64(l.bytes))
	p.Metrics.blockSeconds.Observe(time.Since(l.since).Seconds())
	return nil
}

// begin writes the intent, and repeats while NATS does not answer.
func (p *pipe) begin(ctx context.Context, intent ledger.Intent) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := p.ledger.Begin(attempt, intent)
		cancel()
		if err == nil || errors.Is(err, ledger.ErrOvertaken) || ctx.Err() != nil {
			return err
		}
		if p.Metrics.mayWarn() {
			p.Log.Warn("cannot write the ledger, repeating", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// compact lets the ledger forget the gaps below the acknowledgement floor.
func (p *pipe) compact(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := p.streams.Consumer.Info(ctx)
	if err != nil {
		if p.Metrics.mayWarn() {
			p.Log.Warn("cannot read the acknowledgement floor", "error", err)
		}
		return
	}
	p.ledger.CoverTo(info.AckFloor.Stream)
}
