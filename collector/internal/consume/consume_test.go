package consume

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

func small() Config {
	cfg := DefaultConfig()
	cfg.FlowMaxBytes, cfg.DeadLetterMaxBytes = 16<<20, 1<<20
	return cfg
}

func ensure(t *testing.T, js jetstream.JetStream, cfg Config) *Streams {
	t.Helper()
	s, err := Ensure(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func queue(t *testing.T, s *Streams) *Queue {
	t.Helper()
	q, err := s.Queue(t.Context(), Shards(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestStreamsAreCreatedAsTheDesignSays(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	flow := s.Flow.CachedInfo().Config
	if flow.Retention != jetstream.WorkQueuePolicy || flow.Storage != jetstream.FileStorage || flow.Discard != jetstream.DiscardNew ||
		flow.MaxBytes != 16<<20 || flow.MaxMsgs != -1 || flow.MaxAge != 0 || flow.Duplicates != 5*time.Minute {
		t.Errorf("stream of batches: %+v", flow)
	}
	letters := s.DeadLetter.CachedInfo().Config
	if letters.Retention != jetstream.LimitsPolicy || letters.Storage != jetstream.FileStorage || letters.Discard != jetstream.DiscardNew || letters.MaxBytes != 1<<20 {
		t.Errorf("dead letters: %+v", letters)
	}
	consumer := queue(t, s).Consumer.CachedInfo().Config
	if consumer.AckPolicy != jetstream.AckExplicitPolicy || consumer.MaxAckPending != 20_000 || consumer.AckWait != time.Minute || consumer.MaxDeliver != -1 {
		t.Errorf("consumer: %+v", consumer)
	}
	larger := small()
	larger.FlowMaxBytes, larger.AckWait = 32<<20, 2*time.Minute
	s = ensure(t, js, larger) // a change of configuration reaches what exists
	if s.Flow.CachedInfo().Config.MaxBytes != 32<<20 || queue(t, s).Consumer.CachedInfo().Config.AckWait != 2*time.Minute {
		t.Error("the streams are not updated")
	}
}

// Builds that knew no shards made a consumer of all subjects; it has what they had received.
// The server counts the limit of a stream that is there once more before it looks
// whether it is there: with the default limits, no second start of `ebbwatch up` read
// a batch.
func TestStreamsThatTakeMoreThanHalfOfTheStoreAreFoundAgain(t *testing.T) {
	js := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 7 << 30 }).JetStream(t)
	bucket := jetstream.KeyValueConfig{Bucket: "B", MaxBytes: 2 << 30}
	for start := range 2 {
		if _, err := Ensure(t.Context(), js, DefaultConfig()); err != nil {
			t.Errorf("start %d: %v", start, err)
		}
		if _, err := natsconn.EnsureKeyValue(t.Context(), js, bucket); err != nil {
			t.Errorf("start %d: %v", start, err)
		}
	}
	if _, err := natsconn.EnsureStream(t.Context(), js, jetstream.StreamConfig{Name: "S", MaxBytes: 2 << 30}); err == nil || !strings.Contains(err.Error(), "insufficient storage") {
		t.Errorf("for a stream without room the error is %v", err)
	}
	bucket.Bucket = "C"
	if _, err := natsconn.EnsureKeyValue(t.Context(), js, bucket); err == nil || !strings.Contains(err.Error(), "insufficient storage") {
		t.Errorf("for a bucket without room the error is %v", err)
	}
}

func TestTheConsumerOfAnOlderBuildBecomesTheOnlyShard(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	old, err := s.Flow.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: ebbwatch.FlowConsumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second, MaxDeliver: -1,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{priorityGroup}, PinnedTTL: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, agent := range []string{"a", "b", "c"} {
		if _, err := js.Publish(t.Context(), ebbwatch.FlowSubject(agent), []byte(agent)); err != nil {
			t.Fatal(err)
		}
	}
	received, err := old.Fetch(2, jetstream.FetchPriorityGroup(priorityGroup))
	if err != nil {
		t.Fatal(err)
	}
	for msg := range received.Messages() {
		if string(msg.Data()) == "a" {
			if err := msg.DoubleAck(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := queue(t, s).Consumer.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.NumAckPending != 1 || info.NumPending != 1 || info.AckFloor.Stream != 1 || info.Config.FilterSubject != ebbwatch.ShardFilter(1, 0) {
		t.Errorf("it has %d received and %d waiting from %d on, of %q", info.NumAckPending, info.NumPending, info.AckFloor.Stream, info.Config.FilterSubject)
	}
}

func TestAFullStreamRefusesAndKeepsWhatItHas(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	message := make([]byte, 512<<10)
	accepted := 0
	for range 100 {
		if _, err := js.Publish(t.Context(), ebbwatch.FlowSubject("a"), message); err != nil {
			break
		}
		accepted++
	}
	info, err := s.Flow.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if accepted == 100 || info.State.Msgs != uint64(accepted) || info.State.FirstSeq != 1 {
		t.Errorf("%d were accepted, the stream holds %d from %d on", accepted, info.State.Msgs, info.State.FirstSeq)
	}
}

func TestAReasonCannotForgeHeaders(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	l := &Letter{Subject: "ebbwatch.flows.v1.é\r\nEvil: 1", Reason: "subject: a\r\nNats-Rollup: all\x00\xff" + strings.Repeat("y", 2000), Data: []byte("x"), Origin: 9, Stored: time.Now()}
	refuse(t, s, js, l)
	raw, err := s.DeadLetter.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range raw.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(name string) bool { // which the read itself adds
		return slices.Contains([]string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"}, name)
	})
	want := []string{ebbwatch.DeadLetterReasonHeader, headerSequence, headerStored, ebbwatch.DeadLetterSubjectHeader, jetstream.ExpectedLastSubjSeqHeader, jetstream.ExpectedStreamHeader}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("headers are %v, want %v", names, want)
	}
	if reason := raw.Header.Get(ebbwatch.DeadLetterReasonHeader); len(reason) > maxReason+8 || !strings.HasPrefix(reason, "subject: a??Nats-Rollup") {
		t.Errorf("reason is %q", reason)
	}
	if agentOf(raw.Subject) != "invalid" || raw.Subject != letterSubject(l.Subject, l.Data) {
		t.Errorf("subject is %s", raw.Subject)
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"streams.flow_max_bytes":        func(c *Config) { c.FlowMaxBytes = -1 },
		"streams.dead_letter_max_bytes": func(c *Config) { c.DeadLetterMaxBytes = 0 },
		"streams.replicas":              func(c *Config) { c.Replicas = 2 },
		"streams.shards":                func(c *Config) { c.Shards = 65 },
		"streams.duplicate_window":      func(c *Config) { c.DuplicateWindow = 0 },
		"streams.ack_wait":              func(c *Config) { c.AckWait = 0 },
		"streams.max_ack_pending":       func(c *Config) { c.MaxAckPending = 1 },
		"streams.standby":               func(c *Config) { c.Standby = 0 },
		"streams.prefetch_messages":     func(c *Config) { c.PrefetchMessages = c.MaxAckPending + 1 },
		"streams.prefetch_bytes":        func(c *Config) { c.PrefetchBytes = 1 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("a wrong %s gives %v", key, err)
		}
	}
}
