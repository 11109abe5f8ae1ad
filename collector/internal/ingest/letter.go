package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
)

// letterTimeout bounds an attempt to write a dead letter, letterPause the time
// until the next attempt after one that failed: where the dead letters cannot
// be written, refused batches wait and hold the others up for a tenth of the
// time at most.
const (
	letterTimeout = time.Second
	letterPause   = 10 * time.Second
)

// breaker remembers that dead letters cannot be written.
type breaker struct {
	until time.Time
	err   error
}

// refuse keeps a message in the dead letters and adds a row to the block that
// tells of it. After an error the message is to stay where it is.
func (p *pipe) refuse(ctx context.Context, l *load, msg message, cause error) error {
	if time.Now().Before(p.letters.until) {
		return p.letters.err
	}
	letter := &consume.Letter{
		Subject: msg.subject, Reason: cause.Error(), Data: msg.data, MessageID: msg.id,
		Origin: msg.sequence, Stored: msg.stored,
	}
	attempt, cancel := context.WithTimeout(ctx, letterTimeout)
	defer cancel()
	dropped, err := p.streams.Refuse(attempt, p.JS, letter)
	if dropped.Letters > 0 {
		p.Metrics.lettersDropped.Add(float64(dropped.Letters))
		p.Log.Warn("dead letters were full: the oldest gave way; replay or drop letters, or raise streams.dead_letter_max_bytes",
			"letters", dropped.Letters, "bytes", dropped.Bytes, "of_agent", dropped.Agent)
	}
	if err != nil {
		p.Metrics.deadLetterErrors.Inc()
		p.letters = breaker{until: time.Now().Add(letterPause), err: fmt.Errorf("refuse a batch: %w", err)}
		p.Log.Warn("refused batches stay in their stream for now: dead letters cannot be written", "sequence", msg.sequence, "error", err)
		return p.letters.err
	}
	p.Metrics.refused.WithLabelValues(string(reasonOf(cause))).Inc()
	if p.Metrics.mayWarn() {
		p.Log.Warn("batch refused, see collector dlq list", "subject", msg.subject, "sequence", msg.sequence, "reason", cause.Error())
	}
	l.refuse(msg, cause)
	return nil
}

// reasonOf returns the reason why a batch is refused.
func reasonOf(cause error) batch.Reason {
	var refusal *batch.RefusedError
	if errors.As(cause, &refusal) {
		return refusal.Reason
	}
	return batch.Undecodable
}

// settleLetters removes the letters about batches that came from the dead
// letters and are stored now. One that stays, because this fails, may be
// replayed again and is known then.
func (p *pipe) settleLetters(ctx context.Context, messages []message) {
	for i := range messages {
		if !messages[i].replayed {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := p.streams.Settle(attempt, messages[i].subject, messages[i].data)
		cancel()
		if err != nil {
			p.Log.Warn("the letter of a batch that is stored now stays; replay it again, it will not be stored twice", "subject", messages[i].subject, "error", err)
			continue
		}
		p.Metrics.lettersStored.Inc()
	}
}
