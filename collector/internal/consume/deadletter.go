package consume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Headers of a dead letter beside those of package ebbwatch.
const (
	headerSequence  = "Ebbwatch-Sequence"   // of the message in the stream of batches
	headerStored    = "Ebbwatch-Stored"     // when it was stored there, RFC 3339
	headerMessageID = "Ebbwatch-Message-Id" // the agent's own Nats-Msg-Id
	headerTruncated = "Ebbwatch-Truncated"  // the full length, if the bytes did not fit with the headers
)

// maxReason bounds the reason in a header: it may quote hostile bytes.
const maxReason = 512

// Letter is a batch that was refused.
type Letter struct {
	Sequence  uint64    // in the dead-letter stream, or 0 if it is to be published
	Time      time.Time // when it was refused
	Subject   string    // on which the batch came in
	Reason    string
	Data      []byte // as received
	MessageID string // of the agent, "" if none
	Origin    uint64 // sequence in the stream of batches
	Stored    time.Time
}

// Refuse publishes a letter and returns when the stream has it. The same
// message of the same stream is kept once, however often it is refused.
func (s *Streams) Refuse(ctx context.Context, js jetstream.JetStream, l *Letter) error {
	agent, err := ebbwatch.AgentOfSubject(l.Subject)
	if err != nil {
		agent = "invalid"
	}
	msg := nats.NewMsg(ebbwatch.DeadLetterSubjectPrefix + agent)
	msg.Header.Set(ebbwatch.DeadLetterReasonHeader, printable(l.Reason))
	msg.Header.Set(ebbwatch.DeadLetterSubjectHeader, printable(l.Subject))
	msg.Header.Set(headerSequence, strconv.FormatUint(l.Origin, 10))
	msg.Header.Set(headerStored, l.Stored.UTC().Format(time.RFC3339Nano))
	if l.MessageID != "" {
		msg.Header.Set(headerMessageID, printable(l.MessageID))
	}
	msg.Data = l.Data
	const headers = 4 << 10 // room for the above
	if limit := int(js.Conn().MaxPayload()) - headers; limit > 0 && len(msg.Data) > limit {
		msg.Header.Set(headerTruncated, strconv.Itoa(len(msg.Data)))
		msg.Data = msg.Data[:limit]
	}
	id := fmt.Sprintf("%d:%d", s.Flow.CachedInfo().Created.UnixNano(), l.Origin)
	if _, err := js.PublishMsg(ctx, msg, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return nil
}

// printable returns s as a header value: one line of printable text.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), maxReason)])
	return strings.TrimSpace(clean)
}

// Letters yields the newest dead letters, at most limit, oldest first. It needs
// no collector to run.
func Letters(ctx context.Context, js jetstream.JetStream, limit int) iter.Seq2[*Letter, error] {
	return func(yield func(*Letter, error) bool) {
		stream, err := js.Stream(ctx, ebbwatch.DeadLetterStream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			yield(nil, fmt.Errorf("stream %s does not exist: no collector has run on this NATS server yet", ebbwatch.DeadLetterStream))
			return
		}
		if err != nil {
			yield(nil, fmt.Errorf("open dead letters: %w", err))
			return
		}
		state := stream.CachedInfo().State
		first := state.FirstSeq
		if state.LastSeq >= uint64(limit) {
			first = max(first, state.LastSeq-uint64(limit)+1)
		}
		for seq := first; seq <= state.LastSeq; seq++ {
			raw, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) { // gave way to newer ones
				continue
			}
			if err != nil {
				yield(nil, fmt.Errorf("read dead letter %d: %w", seq, err))
				return
			}
			if !yield(letterOf(raw), nil) {
				return
			}
		}
	}
}

func letterOf(raw *jetstream.RawStreamMsg) *Letter {
	l := &Letter{
		Sequence: raw.Sequence, Time: raw.Time, Data: raw.Data,
		Subject:   raw.Header.Get(ebbwatch.DeadLetterSubjectHeader),
		Reason:    raw.Header.Get(ebbwatch.DeadLetterReasonHeader),
		MessageID: raw.Header.Get(headerMessageID),
	}
	// Absent or foreign headers leave zero values: listing must not fail on them.
	l.Origin, _ = strconv.ParseUint(raw.Header.Get(headerSequence), 10, 64)
	l.Stored, _ = time.Parse(time.RFC3339Nano, raw.Header.Get(headerStored))
	return l
}
