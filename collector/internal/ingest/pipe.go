package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/failpoint"
	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
	"github.com/ebbwatch/ebbwatch/collector/internal/ranges"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

// load is a block with the messages that it came from.
type load struct {
	block     *sink.Block
	messages  []message
	sequences []uint64
	newest    time.Time // when the newest message was stored
	bytes     int
	since     time.Time // when its first message was appended
	place     *place    // its turn, from when it is handed over
}

func newLoad(enricher sink.Enricher) *load {
	l := &load{block: sink.NewBlock()}
	l.block.Enrich(enricher)
	return l
}

// append adds a batch and the message that it came in.
func (l *load) append(b *ebbwatch.Batch, msg message) {
	l.block.Append(b, msg.stored)
	l.note(msg)
}

func (l *load) note(msg message) {
	l.messages = append(l.messages, msg)
	l.sequences = append(l.sequences, msg.sequence)
	l.bytes += len(msg.data)
	if msg.stored.After(l.newest) {
		l.newest = msg.stored
	}
}

// refuse adds a row that tells of a refused batch, and the message that it came in.
func (l *load) refuse(msg message, cause error) {
	l.block.Refuse(&sink.Refusal{
		Stored: msg.stored, Subject: consume.Printable(msg.subject), Reason: string(reasonOf(cause)), Detail: consume.Printable(cause.Error()),
		MessageID: consume.Printable(msg.id), Bytes: len(msg.data), Sequence: msg.sequence,
	})
	msg.replayed = false // its letter stays
	l.note(msg)
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
	*worker
	decoder  *batch.Decoder
	streams  *consume.Streams
	queue    *consume.Queue
	pin      string // of read: the server's choice of this session, "" as long as there is none
	ledger   *ledger.Ledger
	messages jetstream.MessagesContext
	began    uint64 // reconnects of the connection when messages began
	arrived  chan message
	full     chan *load // unbuffered: a block is handed over when it is its turn
	free     chan *load // two that are the shard's own, for blocks that do not grow
	known    stored.Set // of fill
	doubts   doubts     // of fill
	letters  breaker    // of fill, and of settle before it
}

// read passes messages on until the iterator is closed. Whenever the server has
// made this collector the active one, what others had received comes first.
func (p *pipe) read(stop, ctx context.Context) error {
	defer close(p.arrived)
	reconnects, waited := p.began, 0 // of the connection, and how many messages may still come that waited here when it broke off last
	for {
		msg, err := p.messages.Next()
		switch {
		case err == nil:
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, nats.ErrTimeout):
			if err := p.queue.Gone(ctx); err != nil {
				return err
			}
			continue // the server is away: the connection comes back by itself
		default:
			return fmt.Errorf("receive batches: %w", err)
		}
		m, err := queued(msg)
		if err != nil { // not from a stream: nothing that could be acknowledged
			p.Log.Error("received a message without JetStream metadata", "subject", msg.Subject(), "error", err)
			continue
		}
		if now := p.reconnects(); now != reconnects {
			reconnects, waited = now, p.queue.Prefetch()+1 // and the one in hand
		}
		if m.reconnects = reconnects; waited > 0 {
			m.reconnects-- // it may have come before
			waited--
		}
		if now := pinOf(msg); now != p.pin {
			if err := p.takeOver(stop, ctx, m, p.pin == ""); err != nil {
				return err
			}
			p.pin = now
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

// commit stores blocks one after the other.
func (p *pipe) commit(stop, ctx context.Context) error {
	for {
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
		if l == nil { // fill only asks whether the block before is stored
			continue
		}
		place := l.place
		isOwn, err := l != place.large, p.store(ctx, l)
		place.leave() // with a large load
		if err != nil {
			return err
		}
		if isOwn {
			l.reset()
			p.free <- l
		}
		if p.ledger.Fragments() > 256 {
			p.compact(ctx)
		}
	}
}

// store makes the insert of one block, in the order that package ledger states.
func (p *pipe) store(ctx context.Context, l *load) error {
	intent := ledger.Intent{Token: nuid.Next(), Sequences: ranges.Of(l.sequences), Newest: l.newest}
	failpoint.Here("before intent")
	if err := p.begin(ctx, intent); err != nil {
		return err
	}
	failpoint.Here("before insert")
	if err := p.Store.Write(ctx, l.block, intent.Token); err != nil {
		return err
	}
	l.place.end()
	failpoint.Here("before acknowledgement")
	p.ledger.Commit()
	p.settleLetters(ctx, l.messages)
	p.acknowledge(ctx, l.messages...) // what gets lost comes again and is known
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
	info, err := p.queue.Consumer.Info(ctx)
	if err != nil {
		if p.Metrics.mayWarn() {
			p.Log.Warn("cannot read the acknowledgement floor", "error", err)
		}
		return
	}
	p.ledger.CoverTo(info.AckFloor.Stream)
}
