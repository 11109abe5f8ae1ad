package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/failpoint"
)

// pinHeader names the choice of the server that made this collector the active
// one. Every message of one choice has the same.
const pinHeader = "Nats-Pin-Id"

// pinOf returns the choice by which the server delivered msg. It puts its header behind
// those of whoever published the message, who may have written one of that name.
func pinOf(msg jetstream.Msg) string {
	pins := msg.Headers()[pinHeader]
	if len(pins) == 0 {
		return ""
	}
	return pins[len(pins)-1]
}

// message is one batch, from the queue or taken back.
type message struct {
	subject, id string // on which it was published, and the agent's own Nats-Msg-Id
	data        []byte
	sequence    uint64
	stored      time.Time
	deliveries  uint64
	asked       bool // the database was asked whether it has the batch
	replayed    bool // from the dead letters
	// delivery is nil for a message that was taken back: it was delivered to
	// somebody else.
	delivery   jetstream.Msg
	reconnects uint64 // of the connection when it came, or fewer
}

func (p *pipe) reconnects() uint64 { return p.JS.Conn().Stats().Reconnects }

func queued(msg jetstream.Msg) (message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return message{}, err
	}
	return message{
		subject: ebbwatch.PublishedSubject(msg.Subject()), id: msg.Headers().Get(nats.MsgIdHdr), data: msg.Data(),
		sequence: meta.Sequence.Stream, stored: meta.Timestamp, deliveries: meta.NumDelivered, delivery: msg,
		replayed: msg.Headers().Get(consume.ReplayHeader) != "",
	}, nil
}

// found returns a message as it lies in the stream.
func found(raw *jetstream.RawStreamMsg) message {
	return message{
		subject: ebbwatch.PublishedSubject(raw.Subject), id: raw.Header.Get(nats.MsgIdHdr), data: raw.Data, sequence: raw.Sequence, stored: raw.Time,
		replayed: raw.Header.Get(consume.ReplayHeader) != "",
	}
}

// The answers to a delivery may all get lost: then the message comes again.

// acknowledge makes room in the stream where messages are stored. There is no delivery
// to acknowledge of those that were taken back: they are removed. Left to be delivered
// again after AckWait, they would count as lag until then. So are those that came before
// the connection broke off: a server that started again after a power cut may have given
// the sequence to another message, which would be acknowledged in its place.
func (p *pipe) acknowledge(ctx context.Context, messages ...message) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(16)
	for i, m := range messages {
		if m.delivery != nil && m.reconnects == p.reconnects() {
			_ = m.delivery.Ack()
		} else {
			group.Go(func() error { return p.streams.Delete(ctx, m.sequence, m.stored) })
		}
		if i == len(messages)/2 {
			failpoint.Here("amid acknowledgements")
		}
	}
	if err := group.Wait(); err != nil {
		p.Log.Debug("batches that are stored stay in the stream until streams.ack_wait is over", "error", err)
	}
}

func (m *message) nak(pause time.Duration) {
	if m.delivery != nil {
		_ = m.delivery.NakWithDelay(pause)
	}
}

// takeOver passes on what was delivered before first, the first message since
// this collector is the active one, and was not acknowledged. Whoever had it is
// dead or was cut off, and the server would deliver it again only after AckWait,
// while newer batches are stored: the analyzer would look at their windows
// without it. Should the other be alive after all, the ledger lets one of the
// two write.
//
// If this collector stood by until now (fresh), the ledger is read again: its
// predecessor wrote it since.
func (p *pipe) takeOver(stop, ctx context.Context, first message, fresh bool) error {
	if fresh {
		if err := p.load(ctx); err != nil {
			return err
		}
	}
	last := first.sequence - 1 // new messages are delivered in the order of the stream
	if first.deliveries > 1 {  // old ones are not
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		info, err := p.queue.Consumer.Info(attempt)
		cancel()
		if err != nil {
			return fmt.Errorf("take over: read consumer: %w", err)
		}
		last = info.Delivered.Stream
	}
	taken := 0
	for sequence := uint64(1); sequence <= last && stop.Err() == nil; sequence++ {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		raw, err := p.queue.Next(attempt, sequence)
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return fmt.Errorf("take over: read message %d: %w", sequence, err)
		}
		if sequence = raw.Sequence; sequence > last {
			break
		}
		if sequence == first.sequence {
			continue
		}
		taken++
		if !p.pass(ctx, found(raw)) {
			return nil
		}
	}
	if taken > 0 {
		p.Metrics.takenBack.Add(float64(taken))
		p.Log.Info("took back what another session had received and not acknowledged", "batches", taken)
	}
	return nil
}
