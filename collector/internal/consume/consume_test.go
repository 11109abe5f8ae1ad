package consume

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
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

func TestStreamsAreCreatedAsTheDesignSays(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	flow := s.Flow.CachedInfo().Config
	if flow.Retention != jetstream.WorkQueuePolicy || flow.Storage != jetstream.FileStorage || flow.Discard != jetstream.DiscardNew ||
		flow.MaxBytes != 16<<20 || flow.MaxMsgs != -1 || flow.MaxAge != 0 || flow.Duplicates != 5*time.Minute {
		t.Errorf("stream of batches: %+v", flow)
	}
	letters := s.DeadLetter.CachedInfo().Config
	if letters.Retention != jetstream.LimitsPolicy || letters.Storage != jetstream.FileStorage || letters.Discard != jetstream.DiscardOld || letters.MaxBytes != 1<<20 {
		t.Errorf("dead letters: %+v", letters)
	}
	consumer := s.Consumer.CachedInfo().Config
	if consumer.AckPolicy != jetstream.AckExplicitPolicy || consumer.MaxAckPending != 20_000 || consumer.AckWait != time.Minute || consumer.MaxDeliver != -1 {
		t.Errorf("consumer: %+v", consumer)
	}
	larger := small()
	larger.FlowMaxBytes, larger.AckWait = 32<<20, 2*time.Minute
	s = ensure(t, js, larger) // a change of configuration reaches what exists
	if s.Flow.CachedInfo().Config.MaxBytes != 32<<20 || s.Consumer.CachedInfo().Config.AckWait != 2*time.Minute {
		t.Error("the streams are not updated")
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

func TestDeadLetters(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream(t)
	for _, err := range Letters(t.Context(), js, 10) {
		if err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("without a stream the list gives %v", err)
		}
	}
	s := ensure(t, js, small())
	stored := time.Now().UTC().Truncate(time.Nanosecond)
	letters := []*Letter{
		{Subject: "ebbwatch.flows.v1.web-1", Reason: "undecodable: x", Data: []byte{0, 1, 2}, MessageID: "id-1", Origin: 1, Stored: stored},
		{Subject: "ebbwatch.flows.v1.a b\r\nEvil: 1", Reason: "subject: \"a\r\nNats-Rollup: all\x00\xff" + strings.Repeat("y", 2000), Data: nil, Origin: 2, Stored: stored},
		{Subject: "ebbwatch.flows.v1.web-1", Reason: "invalid: large", Data: bytes.Repeat([]byte{7}, 1<<20), Origin: 3, Stored: stored},
	}
	for range 2 { // refused twice, kept once
		for _, l := range letters {
			if err := s.Refuse(t.Context(), js, l); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []*Letter
	for l, err := range Letters(t.Context(), js, 10) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	// The large letter pushed the others out of the 1 MiB that the stream may hold, or not: the newest stays.
	if len(got) == 0 || got[len(got)-1].Origin != 3 {
		t.Fatalf("the list holds %d letters", len(got))
	}
	last := got[len(got)-1]
	if len(last.Data) >= 1<<20 || !bytes.Equal(last.Data, letters[2].Data[:len(last.Data)]) {
		t.Errorf("the large letter has %d bytes", len(last.Data))
	}
	raw, err := s.DeadLetter.GetMsg(t.Context(), last.Sequence)
	if err != nil || raw.Header.Get(headerTruncated) != "1048576" {
		t.Errorf("the cut is not noted: %v, %v", raw.Header, err)
	}
}

func TestAReasonCannotForgeHeaders(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small())
	l := &Letter{Subject: "ebbwatch.flows.v1.é\r\nEvil: 1", Reason: "subject: a\r\nNats-Rollup: all\x00\xff" + strings.Repeat("y", 2000), Data: []byte("x"), Origin: 9, Stored: time.Now()}
	if err := s.Refuse(t.Context(), js, l); err != nil {
		t.Fatal(err)
	}
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
	want := []string{ebbwatch.DeadLetterReasonHeader, headerSequence, headerStored, ebbwatch.DeadLetterSubjectHeader, nats.MsgIdHdr}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("headers are %v, want %v", names, want)
	}
	if reason := raw.Header.Get(ebbwatch.DeadLetterReasonHeader); len(reason) > maxReason+8 || !strings.HasPrefix(reason, "subject: a??Nats-Rollup") {
		t.Errorf("reason is %q", reason)
	}
	if raw.Subject != ebbwatch.DeadLetterSubjectPrefix+"invalid" {
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
