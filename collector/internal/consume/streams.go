// Package consume is the collector's side of JetStream: the streams and the
// consumer, which the collector creates, and the dead letters.
package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Config describes the streams and the consumer.
type Config struct {
	// FlowMaxBytes bounds the stream of batches on disk. A full stream refuses
	// new batches, and the agents keep them.
	FlowMaxBytes int64 `yaml:"flow_max_bytes"`
	// DeadLetterMaxBytes bounds the stream of refused batches. When it is full, the
	// oldest letters of the agent that has the most bytes in it give way.
	DeadLetterMaxBytes int64 `yaml:"dead_letter_max_bytes"`
	// Replicas of the streams and keys, for a NATS cluster: 1, 3 or 5.
	Replicas int `yaml:"replicas"`
	// Shards is into how many parts the stream is divided, by agent, for so many
	// collectors at most: each part is read by one of them. All collectors of a
	// stream have the same number.
	Shards int `yaml:"shards"`
	// DuplicateWindow is how long NATS remembers message ids: an agent may
	// publish a batch again within it.
	DuplicateWindow time.Duration `yaml:"duplicate_window"`
	// AckWait is after how long NATS delivers a batch again that is not
	// acknowledged. It should exceed the time of an insert.
	AckWait time.Duration `yaml:"ack_wait"`
	// MaxAckPending bounds the batches of a shard that are delivered and not acknowledged.
	MaxAckPending int `yaml:"max_ack_pending"`
	// Standby is after how long another collector takes over from one that
	// was not heard of.
	Standby time.Duration `yaml:"standby"`
	// PrefetchMessages and PrefetchBytes bound what waits in memory, undecoded, of
	// all shards together.
	PrefetchMessages int `yaml:"prefetch_messages"`
	PrefetchBytes    int `yaml:"prefetch_bytes"`
}

// DefaultConfig returns what one NATS server with a few GiB of disk can hold.
func DefaultConfig() Config {
	return Config{
		FlowMaxBytes: 4 << 30, DeadLetterMaxBytes: 256 << 20, Replicas: 1, Shards: 1, DuplicateWindow: 5 * time.Minute,
		AckWait: time.Minute, MaxAckPending: 20_000, Standby: 20 * time.Second,
		PrefetchMessages: 1000, PrefetchBytes: 16 << 20,
	}
}

// Validate names the keys that are wrong.
func (c Config) Validate() error {
	return config.All(
		config.Wrong(c.FlowMaxBytes < 16<<20, "streams.flow_max_bytes: must be at least 16 MiB"),
		config.Wrong(c.DeadLetterMaxBytes < 1<<20, "streams.dead_letter_max_bytes: must be at least 1 MiB"),
		config.Wrong(c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5, "streams.replicas: must be 1, 3 or 5"),
		config.Wrong(c.Shards < 1 || c.Shards > 64, "streams.shards: must be from 1 to 64"),
		config.Wrong(c.DuplicateWindow < time.Second, "streams.duplicate_window: must be at least 1s"),
		config.Wrong(c.AckWait < time.Second, "streams.ack_wait: must be at least 1s"),
		config.Wrong(c.MaxAckPending < 100, "streams.max_ack_pending: must be at least 100"),
		config.Wrong(c.Standby < time.Second, "streams.standby: must be at least 1s"),
		config.Wrong(c.PrefetchMessages < c.Shards || c.PrefetchMessages > c.MaxAckPending, "streams.prefetch_messages: must be from streams.shards to max_ack_pending"),
		config.Wrong(c.PrefetchBytes/max(1, c.Shards) < 2*ebbwatch.MaxBatchEncoded, "streams.prefetch_bytes: must be at least 2 MiB for each of streams.shards, two of the largest messages"),
	)
}

// Streams are the collector's streams, created.
type Streams struct {
	Flow, DeadLetter jetstream.Stream
	js               jetstream.JetStream
	cfg              Config
}

// Open returns the streams, and creates them if they are not there.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Streams, error) {
	s := &Streams{js: js, cfg: cfg}
	for name, stream := range map[string]*jetstream.Stream{ebbwatch.FlowStream: &s.Flow, ebbwatch.DeadLetterStream: &s.DeadLetter} {
		var err error
		*stream, err = js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return Ensure(ctx, js, cfg)
		}
		if err != nil {
			return nil, fmt.Errorf("open stream %s: %w", name, err)
		}
	}
	return s, nil
}

// Ensure creates the streams, or updates them to cfg except for the number of
// shards, which only Divide changes.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg Config) (*Streams, error) {
	s := &Streams{js: js, cfg: cfg}
	// No MaxMsgs: together with DiscardNew and max_bytes messages vanish silently (nats-server #4771).
	flow := jetstream.StreamConfig{
		Name: ebbwatch.FlowStream, Description: "Ebbwatch: batches of flow records that no collector has stored yet",
		Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxBytes: cfg.FlowMaxBytes, MaxMsgSize: ebbwatch.MaxBatchEncoded + 4096,
		Replicas: cfg.Replicas, Duplicates: cfg.DuplicateWindow, AllowDirect: true, SubjectTransform: transform(cfg.Shards),
	}
	there, err := js.Stream(ctx, ebbwatch.FlowStream)
	if err == nil {
		flow.SubjectTransform = there.CachedInfo().Config.SubjectTransform
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("open stream %s: %w", ebbwatch.FlowStream, err)
	}
	if s.Flow, err = natsconn.EnsureStream(ctx, js, flow); err != nil {
		return nil, err
	}
	s.DeadLetter, err = natsconn.EnsureStream(ctx, js, jetstream.StreamConfig{
		Name: ebbwatch.DeadLetterStream, Description: "Ebbwatch: batches that the collector refused, byte for byte, with the reason in a header",
		Subjects: []string{ebbwatch.DeadLetterSubjectPrefix + ">"}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxBytes: cfg.DeadLetterMaxBytes, // the collector makes room itself, see makeRoom
		Replicas: cfg.Replicas, AllowDirect: true,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func transform(shards int) *jetstream.SubjectTransformConfig {
	if shards == 1 {
		return nil
	}
	source, destination := ebbwatch.ShardTransform(shards)
	return &jetstream.SubjectTransformConfig{Source: source, Destination: destination}
}

// Delete removes a message from the stream of batches, if under sequence there still is
// the one that was stored at the given time: a stream that lost its end in a power
// failure gives sequences out again. To its consumer it is acknowledged then.
func (s *Streams) Delete(ctx context.Context, sequence uint64, stored time.Time) error {
	raw, err := s.Get(ctx, sequence)
	if err == nil && raw.Time.Equal(stored) {
		err = s.Flow.DeleteMsg(ctx, sequence)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("remove message %d: %w", sequence, err)
	}
	return nil
}

// Get returns a message of the stream of batches, as the stream's leader has it.
// Other servers of a cluster, which may answer Flow.GetMsg, can be behind: they would
// not have a message yet, as if it were acknowledged.
func (s *Streams) Get(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	leader, err := s.js.Conn().JetStream()
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	raw, err := leader.GetMsg(ebbwatch.FlowStream, sequence, nats.Context(ctx))
	if errors.Is(err, nats.ErrMsgNotFound) {
		return nil, jetstream.ErrMsgNotFound
	}
	if err != nil {
		return nil, err
	}
	return &jetstream.RawStreamMsg{Subject: raw.Subject, Sequence: raw.Sequence, Header: raw.Header, Data: raw.Data, Time: raw.Time}, nil
}
