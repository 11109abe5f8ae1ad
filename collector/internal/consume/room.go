package consume

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Dropped is what gave way to newer letters.
type Dropped struct {
	Letters, Bytes uint64
	Agent          string // whose letters they were, "" if of all
}

// letterOverhead is what a letter takes on disk beside its data: headers,
// subject and the record's own head.
const letterOverhead = 400

// makeRoom frees an eighth of the full stream, and at least need bytes: the
// oldest letters of the agent that has the most bytes, so that one agent's
// flood cannot push out what others left. Only if no agent stands out, the
// oldest of all go. It reads the headers of all letters, which is why it frees
// so much at once.
func (s *Streams) makeRoom(ctx context.Context, need int64) (Dropped, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	goal := uint64(max(s.cfg.DeadLetterMaxBytes/8, need))
	bytes := make(map[string]uint64)
	largest := ""
	err := eachHeader(ctx, s.DeadLetter, jetstream.OrderedConsumerConfig{HeadersOnly: true}, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) bool {
		agent := agentOf(msg.Subject())
		bytes[agent] += letterSize(msg)
		if bytes[agent] > bytes[largest] {
			largest = agent
		}
		return true
	})
	if err != nil {
		return Dropped{}, fmt.Errorf("add up the letters: %w", err)
	}
	var dropped Dropped
	cfg := jetstream.OrderedConsumerConfig{HeadersOnly: true}
	var purge []jetstream.StreamPurgeOpt
	if bytes[largest] >= goal {
		dropped.Agent = largest
		subject := ebbwatch.DeadLetterSubjectPrefix + largest + ".>"
		cfg.FilterSubjects = []string{subject}
		purge = append(purge, jetstream.WithPurgeSubject(subject))
	}
	last := uint64(0)
	err = eachHeader(ctx, s.DeadLetter, cfg, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		dropped.Letters++
		dropped.Bytes += letterSize(msg)
		last = meta.Sequence.Stream
		return dropped.Bytes < goal
	})
	if err != nil {
		return Dropped{}, fmt.Errorf("find the oldest letters: %w", err)
	}
	if err := s.DeadLetter.Purge(ctx, append(purge, jetstream.WithPurgeSequence(last+1))...); err != nil {
		return Dropped{}, fmt.Errorf("remove the oldest letters: %w", err)
	}
	return dropped, nil
}

func letterSize(msg jetstream.Msg) uint64 {
	return uint64(letterOf(0, time.Time{}, "", msg.Headers(), nil).Size + letterOverhead)
}
