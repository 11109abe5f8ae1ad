package consume

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Shard is one part of the stream: the batches of those agents that fall to it.
type Shard struct{ Of, Number int }

// Shards returns all shards of a stream that is divided into so many.
func Shards(of int) []Shard {
	all := make([]Shard, of)
	for i := range all {
		all[i] = Shard{of, i}
	}
	return all
}

// String returns the shard's name: "3-of-6", or "0" for all of the stream.
func (s Shard) String() string {
	if s.Of == 1 {
		return "0"
	}
	return fmt.Sprintf("%d-of-%d", s.Number, s.Of)
}

func (s Shard) filter() string { return ebbwatch.ShardFilter(s.Of, s.Number) }

func (s Shard) consumer() string {
	if s.Of == 1 {
		return ebbwatch.FlowConsumer
	}
	return ebbwatch.FlowConsumer + "-" + s.String()
}

// shardOf returns the shard whose consumer has the name, false if none has.
func shardOf(consumer string) (Shard, bool) {
	if consumer == ebbwatch.FlowConsumer {
		return Shard{Of: 1}, true
	}
	name, ok := strings.CutPrefix(consumer, ebbwatch.FlowConsumer+"-")
	number, of, both := strings.Cut(name, "-of-")
	n, err1 := strconv.Atoi(number)
	o, err2 := strconv.Atoi(of)
	s := Shard{o, n}
	return s, ok && both && errors.Join(err1, err2) == nil && s.consumer() == consumer
}

// Divided returns into how many shards the stream divides the batches that come.
func (s *Streams) Divided() (int, error) {
	destination := ""
	if t := s.Flow.CachedInfo().Config.SubjectTransform; t != nil {
		destination = t.Destination
	}
	shards, ok := ebbwatch.ShardsOfTransform(destination)
	if !ok {
		return 0, fmt.Errorf("stream %s has a subject transform to %q that is none of the collector's: remove it", ebbwatch.FlowStream, destination)
	}
	return shards, nil
}

// Divide makes the stream divide the batches that come from now on into
// Config.Shards. Those that are there stay in the shards of before, which must be
// emptied before anybody reads the new ones, and before the next division: an
// agent's batches would be in two shards otherwise, under two collectors, neither of
// which could tell what the other stores.
func (s *Streams) Divide(ctx context.Context) error {
	before, err := s.Divided()
	if err != nil {
		return err
	}
	for _, shard := range Shards(before) { // so that what is there has readers, and these take nothing that is new
		if _, err := s.Queue(ctx, shard); err != nil {
			return err
		}
	}
	cfg := s.Flow.CachedInfo().Config
	cfg.SubjectTransform = transform(s.cfg.Shards)
	if s.Flow, err = s.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("divide stream %s into %d shards: %w", ebbwatch.FlowStream, s.cfg.Shards, err)
	}
	return nil
}

// Old returns the shards of the division before the present one that still exist.
func (s *Streams) Old(ctx context.Context) ([]Shard, error) {
	present, err := s.Divided()
	if err != nil {
		return nil, err
	}
	var old []Shard
	names := s.Flow.ConsumerNames(ctx)
	for name := range names.Name() {
		if shard, ok := shardOf(name); ok && shard.Of != present {
			old = append(old, shard)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	return old, nil
}

// Empty reports whether no message of a shard of an earlier division is left.
func (s *Streams) Empty(ctx context.Context, shard Shard) (bool, error) {
	consumer, err := s.Flow.Consumer(ctx, shard.consumer())
	if errors.Is(err, jetstream.ErrConsumerNotFound) { // somebody else removed it
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read consumer %s: %w", shard.consumer(), err)
	}
	info := consumer.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}

// Remove removes a shard of an earlier division that is empty.
func (s *Streams) Remove(ctx context.Context, shard Shard) error {
	err := s.Flow.DeleteConsumer(ctx, shard.consumer())
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove consumer %s: %w", shard.consumer(), err)
	}
	return nil
}

// priorityGroup is a consumer's only group. Its policy lets one collector
// have the messages while others stand by.
const priorityGroup = "flows"

// Queue is the batches of one shard.
type Queue struct {
	Shard
	Consumer jetstream.Consumer
	streams  *Streams
}

// notMade is JetStream's error code of a consumer that it cannot make or change, as
// where it cannot read what is left of its state.
const notMade = jetstream.ErrorCode(10012)

// Queue creates the consumer of a shard, or updates it to the configuration.
//
// A NATS server that does not sync each write can find the files of a consumer empty
// after a power cut (2.15: those of the last 30 s or so on ext4), and then refuses to
// make it for ever. In memory it can: after each start of the server it has to be made
// again then, and gets what is in the stream, which the ledger knows how to take.
func (s *Streams) Queue(ctx context.Context, shard Shard) (*Queue, error) {
	cfg := jetstream.ConsumerConfig{
		Durable: shard.consumer(), Description: "Ebbwatch: the collectors", FilterSubject: shard.filter(),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.cfg.AckWait, MaxAckPending: s.cfg.MaxAckPending, MaxDeliver: -1,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{priorityGroup}, PinnedTTL: s.cfg.Standby,
	}
	consumer, err := s.Flow.CreateOrUpdateConsumer(ctx, cfg)
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == notMade {
		cfg.MemoryStorage = true
		var again error
		if consumer, again = s.Flow.CreateOrUpdateConsumer(ctx, cfg); again == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create consumer %s: %w", shard.consumer(), err)
	}
	return &Queue{shard, consumer, s}, nil
}

// Prefetch returns how many batches at most wait in an iterator of Messages.
func (q *Queue) Prefetch() int { return max(1, q.streams.cfg.PrefetchMessages/q.Of) }

// Messages asks for batches until the returned iterator is stopped. While
// another collector is active it yields none.
func (q *Queue) Messages() (jetstream.MessagesContext, error) {
	cfg := q.streams.cfg
	it, err := q.Consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(q.Prefetch(), max(2*ebbwatch.MaxBatchEncoded, cfg.PrefetchBytes/q.Of)),
		jetstream.PullExpiry(max(time.Second, cfg.Standby/4)), // each request renews the claim to be the active one
		jetstream.PullPriorityGroup(priorityGroup))
	if err != nil {
		return nil, fmt.Errorf("ask for batches: %w", err)
	}
	return it, nil
}

// Gone returns an error if the server says that the consumer or its stream is not
// there any more: somebody removed it, or the server lost it in a power cut. Nothing
// else tells those who wait for messages.
func (q *Queue) Gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := q.Consumer.Info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("consumer %s is gone: %w", q.consumer(), err)
	}
	return nil // there, or the server is away
}

// Next returns the first message of the shard in the stream from sequence on.
func (q *Queue) Next(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	return q.streams.Flow.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(q.filter()))
}

// Release lets another collector have the messages at once. Only the active one may call it.
func (q *Queue) Release(ctx context.Context) error {
	if err := q.streams.Flow.UnpinConsumer(ctx, q.consumer(), priorityGroup); err != nil {
		return fmt.Errorf("release consumer %s: %w", q.consumer(), err)
	}
	return nil
}
