package consume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Letters is the dead-letter stream as tools see it. It needs no collector to run.
type Letters struct {
	stream jetstream.Stream
	js     jetstream.JetStream
}

// Filter selects letters. The zero value selects all.
type Filter struct {
	IDs    []uint64
	Agent  string    // which the subject claims
	Reason string    // first word of the reason
	Since  time.Time // refused at that time or later
}

func (f *Filter) has(l *Letter) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, l.ID)) && (f.Reason == "" || l.ReasonWord() == f.Reason)
}

// ErrNoLetter is wrapped by the error about a letter that is not there.
var ErrNoLetter = errors.New("no such dead letter")

// OpenLetters opens the stream, which the first collector creates.
func OpenLetters(ctx context.Context, js jetstream.JetStream) (*Letters, error) {
	stream, err := js.Stream(ctx, ebbwatch.DeadLetterStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s does not exist: no collector has run on this NATS server yet", ebbwatch.DeadLetterStream)
	}
	if err != nil {
		return nil, fmt.Errorf("open dead letters: %w", err)
	}
	return &Letters{stream: stream, js: js}, nil
}

// Usage returns how many letters there are, their bytes, and the limit of these.
func (s *Letters) Usage() (letters, bytes, limit uint64) {
	info := s.stream.CachedInfo()
	return info.State.Msgs, info.State.Bytes, uint64(max(0, info.Config.MaxBytes))
}

// All yields what is in the stream now and passes f, oldest first, without Data.
func (s *Letters) All(ctx context.Context, f Filter) iter.Seq2[*Letter, error] {
	return func(yield func(*Letter, error) bool) {
		cfg := jetstream.OrderedConsumerConfig{HeadersOnly: true, DeliverPolicy: jetstream.DeliverAllPolicy}
		if f.Agent != "" {
			cfg.FilterSubjects = []string{ebbwatch.DeadLetterSubjectPrefix + f.Agent + ".>"}
		}
		if !f.Since.IsZero() {
			cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
		}
		err := eachHeader(ctx, s.stream, cfg, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) bool {
			l := letterOf(meta.Sequence.Stream, meta.Timestamp, msg.Subject(), msg.Headers(), nil)
			return !f.has(l) || yield(l, nil)
		})
		if err != nil {
			yield(nil, fmt.Errorf("list dead letters: %w", err))
		}
	}
}

// eachHeader visits the messages that the stream has now, until visit returns false.
func eachHeader(ctx context.Context, stream jetstream.Stream, cfg jetstream.OrderedConsumerConfig, visit func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	consumer, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	left := info.NumPending
	if left == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for left > 0 {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		left = meta.NumPending
		if !visit(msg, meta) {
			return nil
		}
	}
	return nil
}

// Get returns one letter with its data.
func (s *Letters) Get(ctx context.Context, id uint64) (*Letter, error) {
	raw, err := s.stream.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %d (it was stored, dropped, or gave way to others: see `dlq list`)", ErrNoLetter, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	return letterOf(raw.Sequence, raw.Time, raw.Subject, raw.Header, raw.Data), nil
}

// Drop removes one letter for good.
func (s *Letters) Drop(ctx context.Context, id uint64) error {
	err := s.stream.DeleteMsg(ctx, id)
	if err == nil || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("drop dead letter %d: %w", id, err)
}
