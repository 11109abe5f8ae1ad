package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// ReplayHeader with the value "1" marks a batch that comes from the dead letters: whoever
// stores it removes its letter.
const ReplayHeader = "Ebbwatch-Replay"

// Outcome is what became of a letter that was replayed.
type Outcome string

// The outcomes. Only the first removes the letter.
const (
	Stored       Outcome = "stored"
	RefusedAgain Outcome = "refused_again"
	Waiting      Outcome = "waiting" // in the stream of batches, no collector has judged it yet
)

// ErrIncomplete is wrapped by the error about a letter that cannot be replayed.
var ErrIncomplete = errors.New("does not hold all that came in (export and drop it)")

// Replayed is a letter on its way through the stream of batches.
type Replayed struct {
	ID       uint64
	subject  string // of the letter
	sequence uint64 // in the stream of batches
}

// Replay publishes the batch of a letter on the subject on which it came in.
// The letter stays until a collector has stored the batch, so that whatever
// breaks off may be done again: a batch is stored once, however often it is
// replayed, because its agent numbered it.
func (s *Letters) Replay(ctx context.Context, l *Letter) (*Replayed, error) {
	switch {
	case l.Truncated > 0:
		return nil, fmt.Errorf("dead letter %d %w: the first %d of %d bytes", l.ID, ErrIncomplete, l.Size, l.Truncated)
	case letterSubject(l.Subject, l.Data) != l.subject: // a subject with bytes that no header can hold
		return nil, fmt.Errorf("dead letter %d %w: its subject %q is not the one on which it came in", l.ID, ErrIncomplete, l.Subject)
	}
	msg := nats.NewMsg(l.Subject)
	msg.Header.Set(ReplayHeader, "1")
	msg.Data = l.Data
	ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(ebbwatch.FlowStream))
	if isCode(err, codeStoreFailed) {
		return nil, fmt.Errorf("replay dead letter %d: the stream of batches is full: wait until the collector has caught up (ebbwatch_collector_lag_bytes), then repeat", l.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("replay dead letter %d: %w", l.ID, err)
	}
	return &Replayed{ID: l.ID, subject: l.subject, sequence: ack.Sequence}, nil
}

// Outcome waits until a collector has judged r or ctx ends.
func (s *Letters) Outcome(ctx context.Context, r *Replayed) (Outcome, error) {
	flow, err := s.js.Stream(ctx, ebbwatch.FlowStream)
	if ctx.Err() != nil {
		return Waiting, nil
	}
	if err != nil {
		return Waiting, fmt.Errorf("open stream %s: %w", ebbwatch.FlowStream, err)
	}
	for {
		_, err := flow.GetMsg(ctx, r.sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // acknowledged: the letter has gone before, or stays
			break
		}
		if err != nil && ctx.Err() == nil {
			return Waiting, fmt.Errorf("look for replayed dead letter %d: %w", r.ID, err)
		}
		select {
		case <-ctx.Done():
			return Waiting, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	_, err = s.stream.GetLastMsgForSubject(context.WithoutCancel(ctx), r.subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Stored, nil
	case err != nil:
		return Waiting, fmt.Errorf("look for dead letter %d: %w", r.ID, err)
	}
	return RefusedAgain, nil
}
