// Package consume is the collector's side of JetStream: the streams and the
// consumer, which the collector creates, and the dead letters.
package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Config describes the streams and the consumer.
type Config struct {
	// FlowMaxBytes bounds the stream of batches on disk. A full stream refuses
	// new batches, and the agents keep them.
	FlowMaxBytes int64 `yaml:"flow_max_bytes"`
	// DeadLetterMaxBytes bounds the stream of refused batches. When it is full, the
	// oldest letters of the agent that has the most bytes in it give way.
	DeadLetterMaxBytes int64 `yaml:"dead_letter_max_bytes"`
	// Replicas of both streams, for a NATS cluster: 1, 3 or 5.
	Replicas int `yaml:"replicas"`
	// DuplicateWindow is how long NATS remembers message ids: an agent may
	// publish a batch again within it.
	DuplicateWindow time.Duration `yaml:"duplicate_window"`
	// AckWait is after how long NATS delivers a batch again that is not
	// acknowledged. It should exceed the time of an insert.
	AckWait time.Duration `yaml:"ack_wait"`
	// MaxAckPending bounds the batches that are delivered and not acknowledged.
	MaxAckPending int `yaml:"max_ack_pending"`
	// Standby is after how long another collector takes over from one that
	// stopped asking for batches.
	Standby time.Duration `yaml:"standby"`
	// PrefetchMessages and PrefetchBytes bound what waits in memory, undecoded.
	PrefetchMessages int `yaml:"prefetch_messages"`
	PrefetchBytes    int `yaml:"prefetch_bytes"`
}

// DefaultConfig returns what one NATS server with a few GiB of disk can hold.
func DefaultConfig() Config {
	return Config{
		FlowMaxBytes: 4 << 30, DeadLetterMaxBytes: 256 << 20, Replicas: 1, DuplicateWindow: 5 * time.Minute,
		AckWait: time.Minute, MaxAckPending: 20_000, Standby: 20 * time.Second,
		PrefetchMessages: 1000, PrefetchBytes: 16 << 20,
	}
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	switch {
	case c.FlowMaxBytes < 16<<20:
		return errors.New("streams.flow_max_bytes: must be at least 16 MiB")
	case c.DeadLetterMaxBytes < 1<<20:
		return errors.New("streams.dead_letter_max_bytes: must be at least 1 MiB")
	case c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5:
		return errors.New("streams.replicas: must be 1, 3 or 5")
	case c.DuplicateWindow < time.Second:
		return errors.New("streams.duplicate_window: must be at least 1s")
	case c.AckWait < time.Second:
		return errors.New("streams.ack_wait: must be at least 1s")
	case c.MaxAckPending < 100:
		return errors.New("streams.max_ack_pending: must be at least 100")
	case c.Standby < time.Second:
		return errors.New("streams.standby: must be at least 1s")
	case c.PrefetchMessages < 1 || c.PrefetchMessages > c.MaxAckPending:
		return errors.New("streams.prefetch_messages: must be from 1 to max_ack_pending")
	case c.PrefetchBytes < 2*ebbwatch.MaxBatchEncoded:
		return errors.New("streams.prefetch_bytes: must be at least 2 MiB, two of the largest messages")
	}
	return nil
}

// priorityGroup is the consumer's only group. Its policy lets one collector
// have the messages while the others stand by.
const priorityGroup = "flows"

// Streams are the collector's streams, created.
type Streams struct {
	Flow, DeadLetter jetstream.Stream
	Consumer         jetstream.Consumer
	cfg              Config
}

// Ensure creates the streams and the consumer, or updates them to cfg.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg Config) (*Streams, error) {
	s := &Streams{cfg: cfg}
	var err error
	// No MaxMsgs: together with DiscardNew and max_bytes messages vanish silently (nats-server #4771).
	s.Flow, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: ebbwatch.FlowStream, Description: "Ebbwatch: batches of flow records that no collector has stored yet",
		Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxBytes: cfg.FlowMaxBytes, MaxMsgSize: ebbwatch.MaxBatchEncoded + 4096,
		Replicas: cfg.Replicas, Duplicates: cfg.DuplicateWindow, AllowDirect: true,
	})
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", ebbwatch.FlowStream, err)
	}
	s.DeadLetter, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: ebbwatch.DeadLetterStream, Description: "Ebbwatch: batches that the collector refused, byte for byte, with the reason in a header",
		Subjects: []string{ebbwatch.DeadLetterSubjectPrefix + ">"}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxBytes: cfg.DeadLetterMaxBytes, // the collector makes room itself, see makeRoom
		Replicas: cfg.Replicas, AllowDirect: true,
	})
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", ebbwatch.DeadLetterStream, err)
	}
	s.Consumer, err = s.Flow.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: ebbwatch.FlowConsumer, Description: "Ebbwatch: the collectors",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: cfg.AckWait, MaxAckPending: cfg.MaxAckPending, MaxDeliver: -1,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{priorityGroup}, PinnedTTL: cfg.Standby,
	})
	if err != nil {
		return nil, fmt.Errorf("create consumer %s: %w", ebbwatch.FlowConsumer, err)
	}
	return s, nil
}

// Messages asks for batches until the returned iterator is stopped. While
// another collector is active it yields none.
func (s *Streams) Messages() (jetstream.MessagesContext, error) {
	it, err := s.Consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(s.cfg.PrefetchMessages, s.cfg.PrefetchBytes),
		jetstream.PullExpiry(max(time.Second, s.cfg.Standby/4)), // each request renews the claim to be the active one
		jetstream.PullPriorityGroup(priorityGroup))
	if err != nil {
		return nil, fmt.Errorf("ask for batches: %w", err)
	}
	return it, nil
}
