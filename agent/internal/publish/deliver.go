package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// deliver sends until ctx ends or, if once, until nothing is left in memory that
// could go anywhere.
//
// What waits for another try waits on disk, and so does whatever comes meanwhile:
// memory holds new messages only, which have nothing before them.
func (p *Publisher) deliver(ctx context.Context, js jetstream.JetStream, once bool) {
	pause := minPause
	var retryAt time.Time
	for ctx.Err() == nil {
		rest := p.outbox.tend(!retryAt.IsZero())
		if wait := time.Until(retryAt); wait > 0 {
			if once && p.outbox.safe() {
				return
			}
			p.idle(ctx, min(wait, rest))
			continue
		}
		if p.outbox.empty() {
			if once {
				return
			}
			p.look()
			p.idle(ctx, min(rest, lookAfter))
			continue
		}
		settled, err := p.attempt(ctx, js)
		p.note(settled, err)
		if err == nil {
			pause, retryAt = minPause, time.Time{}
			continue
		}
		retryAt = time.Now().Add(pause)
		pause = min(2*pause, maxPause)
	}
}

// attempt sends the oldest messages. It returns how many are settled, and why
// the others are not.
func (p *Publisher) attempt(ctx context.Context, js jetstream.JetStream) (int, error) {
	if err := natsconn.Connected(p.conn); err != nil {
		return 0, err // clearer than what the first message would meet
	}
	group := p.outbox.take()
	stored, rest, err := p.withoutStored(ctx, js, group)
	if err != nil && p.unasked < maxUnasked {
		if p.reaches(ctx, js, &group[0]) {
			p.unasked++
		}
		p.outbox.resolve(nil, group)
		return 0, err
	}
	settled, unsent, err := p.send(ctx, js, rest)
	settled = append(settled, stored...)
	p.outbox.resolve(settled, unsent)
	return len(settled), err
}

// idle waits until a message comes, ctx ends, or d is over.
func (p *Publisher) idle(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-p.queue.wake:
	case <-timer.C:
	}
}

// send publishes the group and waits for its acknowledgements. It returns what
// is settled and what was not acknowledged, both in order, and the first reason.
// The stream knows by the message id what it has stored already when such a
// message comes again, as long as its duplicate window has not passed.
func (p *Publisher) send(ctx context.Context, js jetstream.JetStream, group []Message) (settled, unsent []Message, first error) {
	futures := make([]jetstream.PubAckFuture, len(group))
	failed := make([]error, len(group))
	for i := range group {
		futures[i], failed[i] = js.PublishMsgAsync(group[i].natsMsg(), jetstream.WithRetryAttempts(0))
		if failed[i] != nil && !hopeless(failed[i]) {
			for j := i + 1; j < len(group); j++ {
				failed[j] = failed[i]
			}
			break
		}
	}
	for i, future := range futures {
		err := failed[i]
		if future != nil {
			err = p.await(ctx, future)
		}
		switch m := group[i]; {
		case err == nil:
			settled = append(settled, m)
		case hopeless(err):
			p.refuse(&m, err)
			settled = append(settled, m)
		default:
			m.sent = m.sent || future != nil && uncertain(err)
			unsent = append(unsent, m)
			if first == nil {
				first = err
			}
		}
	}
	return settled, unsent, first
}

// await returns nil when the message is stored.
func (p *Publisher) await(ctx context.Context, future jetstream.PubAckFuture) error {
	select {
	case ack := <-future.Ok():
		p.metrics.published.Inc()
		if ack.Duplicate {
			p.metrics.duplicates.Inc()
		}
		return nil
	case err := <-future.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refuse gives up a message that can never be delivered.
func (p *Publisher) refuse(m *Message, err error) {
	p.refused.Add(1)
	p.metrics.refused.Inc()
	p.log.Error("batch is refused for good and is lost", "id", m.ID, "bytes", len(m.Data), "flows", m.Flows, "error", err)
}

// natsMsg returns the message as it is published.
func (m *Message) natsMsg() *nats.Msg {
	header := nats.Header{nats.MsgIdHdr: []string{m.ID}}
	if m.sent {
		header.Set(ebbwatch.ResentHeader, "1")
	}
	return &nats.Msg{Subject: ebbwatch.FlowSubject(m.agent()), Header: header, Data: m.Data}
}

// streamFull is JetStream's error code when a stream with DiscardNew is full.
const streamFull = jetstream.ErrorCode(10077)

// messageTooLarge is JetStream's error code for a message above the stream's max_msg_size.
const messageTooLarge = jetstream.ErrorCode(10054)

// hopeless reports whether a message that met err meets it whenever it comes: it
// must not hold up those behind it.
func hopeless(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &api) && api.ErrorCode == messageTooLarge
}

// uncertain reports whether a published message that met err may be stored all
// the same.
func uncertain(err error) bool {
	return !errors.As(err, new(*jetstream.APIError)) && !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrNoResponders)
}

// reason names the class of a publishing error.
func reason(err error) string {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return "no_stream"
	case errors.As(err, &api) && api.ErrorCode == streamFull:
		return "stream_full"
	case errors.As(err, &api):
		return "refused"
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "disconnected"
}

// explain adds to an error what JetStream's own words leave open.
func explain(err error) error {
	if reason(err) == "no_stream" {
		return fmt.Errorf("stream %s does not exist yet, the collector makes it: %w", ebbwatch.FlowStream, err)
	}
	return err
}
