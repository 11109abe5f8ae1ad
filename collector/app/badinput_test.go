package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// letters returns what the dead letters hold, with the bytes, oldest first.
func (b *bed) letters() []*consume.Letter {
	b.t.Helper()
	store, err := consume.OpenLetters(b.t.Context(), b.js)
	if err != nil {
		b.t.Fatal(err)
	}
	var all []*consume.Letter
	for l, err := range store.All(b.t.Context(), consume.Filter{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		full, err := store.Get(b.t.Context(), l.ID)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, full)
	}
	return all
}

// at returns an encoded batch of web-1 with one flow at a time, and that time in the envelope.
func (b *bed) at(flow, envelope time.Time) []byte {
	batch := b.envelope("web-1")
	batch.Time = envelope
	f := plainFlow()
	f.Start, f.End = flow, flow.Add(time.Second)
	batch.Append(&f)
	return b.encode(batch)
}

// version returns an encoded batch as one of another version: a field that comes
// again counts the last time.
func (b *bed) version(message []byte, version byte) []byte {
	raw, err := s2.Decode(nil, message)
	if err != nil {
		b.t.Fatal(err)
	}
	return s2.Encode(nil, append(raw, 1<<3, version))
}

type refusedMessage struct {
	name, subject, reason string // subject without its prefix
	message               []byte
}

// hostile returns one message of each kind that must not be stored.
func (b *bed) hostile() []refusedMessage {
	now := time.Now()
	forged := b.envelope("web-2")
	flow := plainFlow()
	forged.Append(&flow)
	good := b.at(now, now)
	large := make([]byte, 1<<20-200) // what NATS takes at most with the message's headers
	if _, err := rand.Read(large); err != nil {
		b.t.Fatal(err)
	}
	return []refusedMessage{
		{"no frame", "web-1", "undecodable", []byte("no frame \r\nEbbwatch-Reason: forged")},
		{"a bomb of 512 MiB", "web-1", "invalid", s2.Encode(nil, make([]byte, 512<<20))},
		{"a megabyte of noise", "web-1", "undecodable", large},
		{"half a batch", "web-1", "", good[:len(good)-3]},
		{"a version of the future", "web-1", "version", b.version(good, ebbwatch.Version+1)},
		{"no version", "web-1", "invalid", b.version(good, 0)},
		{"nothing", "web-1", "", nil},
		{"another agent's name", "web-1", "forged_agent", b.encode(forged)},
		{"an hour ahead", "web-1", "future", b.at(now.Add(time.Hour), now)},
		{"an envelope ahead", "web-1", "future", b.at(now, now.Add(time.Hour))},
		{"the year 2200", "web-1", "future", b.at(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), now)},
		{"a month ago", "web-1", "ancient", b.at(now.Add(-30*24*time.Hour), now)},
		{"the year 1970", "web-1", "ancient", b.at(time.Unix(1, 0), time.Unix(2, 0))},
		{"a subject without an agent", "noé", "subject", good},
	}
}

func deadLetters(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Streams.Shards = 3 // whose subjects no letter has
	stop := b.run()
	messages := b.hostile()
	for round := range 2 { // each twice, under different numbers: one letter, two rows
		for i, m := range messages {
			b.publish(ebbwatch.FlowSubjectPrefix+m.subject, m.message, fmt.Sprintf("bad-%d-%d", i, round))
			b.send(1, 3) // the rest comes through, between them
		}
	}
	b.rows["refused_batches"] = 2 * len(messages)
	b.wantExact()
	stop()
	letters := b.letters()
	if len(letters) != len(messages) {
		t.Fatalf("%d dead letters, want %d", len(letters), len(messages))
	}
	for i, want := range messages {
		at := slices.IndexFunc(letters, func(l *consume.Letter) bool { return l.MessageID == fmt.Sprintf("bad-%d-0", i) })
		if at < 0 { // the shards are refused side by side
			t.Errorf("%s: there is no letter", want.name)
			continue
		}
		l := letters[at]
		if !strings.HasPrefix(l.Reason, want.reason) || l.Subject != ebbwatch.FlowSubjectPrefix+want.subject ||
			!bytes.HasPrefix(want.message, l.Data) || len(l.Data) != len(want.message) && l.Truncated != len(want.message) {
			t.Errorf("%s: the letter says %q about %d bytes on %s with id %s, want %s, %d bytes", want.name, l.Reason, len(l.Data), l.Subject, l.MessageID, want.reason, len(want.message))
		}
		row := ch.Query(t, fmt.Sprintf("SELECT agent, reason, concat(reason, ': ', detail) = '%s' OR detail != '', bytes, sequence, abs(time - now64(3)) < 600 FROM %s.refused_batches WHERE message_id = '%s'",
			strings.ReplaceAll(l.Reason, "'", "\\'"), b.db, l.MessageID))
		agent := want.subject
		if want.reason == "subject" {
			agent = ""
		}
		if wantRow := fmt.Sprintf("%s\t%s\t1\t%d\t%d\t1", agent, l.ReasonWord(), len(want.message), l.Origin); row != wantRow {
			t.Errorf("%s: the row is %q, want %q", want.name, row, wantRow)
		}
	}
	// The times of what was refused made no partition.
	if days := ch.Query(t, "SELECT max(toDate(max_time)) <= today() + 1, min(toDate(min_time)) >= today() - 2 FROM system.parts WHERE database = '"+b.db+"' AND table IN ('flows', 'coverage') AND active"); days != "1\t1" {
		t.Errorf("there are parts of other days: %s", days)
	}
}

// What is larger than the contract allows is kept whole if NATS takes it, and
// refused by the stream beyond that, so that its agent counts it.
func tooLarge(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.nats = natstest.Start(t, func(o *server.Options) { o.MaxPayload = 2 << 20 }) // as in deploy/nats
	b.js, b.cfg.NATS.URL = b.nats.JetStream(t), b.nats.URL
	stop := b.run()
	b.send(1, 3)
	over := make([]byte, ebbwatch.MaxBatchEncoded+1)
	if _, err := rand.Read(over); err != nil {
		t.Fatal(err)
	}
	b.publish(ebbwatch.FlowSubject("web-1"), over, "over")
	_, err := b.js.Publish(t.Context(), ebbwatch.FlowSubject("web-1"), make([]byte, ebbwatch.MaxBatchEncoded+4096+1))
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != 10054 {
		t.Errorf("the stream answers %v to a message beyond its limit", err)
	}
	b.send(1, 3)
	b.rows["refused_batches"] = 1
	b.wantExact()
	stop()
	letters := b.letters()
	if len(letters) != 1 || letters[0].ReasonWord() != "invalid" || letters[0].Truncated != 0 || !bytes.Equal(letters[0].Data, over) {
		t.Errorf("the letters are %d: %+v", len(letters), letters)
	}
}

// A batch may spread over as many days as max_age allows, and blocks of old and
// new batches over more: ClickHouse refuses an insert into more than 100
// partitions unless it is told otherwise, and would refuse it for ever.
func manyDays(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	b.cfg.Ingest.MaxAge, b.cfg.Ingest.MaxAhead = 89*24*time.Hour, 24*time.Hour
	b.cfg.Store.RetentionDays.Flows, b.cfg.Store.RetentionDays.Coverage = 90, 90
	b.run()
	now := time.Now()
	batch := b.envelope("web-1")
	flow := plainFlow()
	for day := range 89 {
		flow.Start = now.Add(-time.Duration(day) * 24 * time.Hour)
		flow.End = flow.Start
		batch.Append(&flow)
	}
	b.publish(ebbwatch.FlowSubject("web-1"), b.encode(batch), "days")
	b.sent = sums{89, 178, 17800, 89, 8900, 89}
	eventually(t, 40*time.Second, "its coverage is stored", func() error {
		_, err := ch.QueryAs(chtest.Collector, "SELECT throwIf(count() = 0) FROM "+b.db+".coverage")
		return err
	})
	b.send(3, 10)
	eventually(t, 20*time.Second, "what comes after it is stored", func() error {
		_, err := ch.QueryAs(chtest.Collector, "SELECT throwIf(uniqExact(agent, boot, sequence) < 7) FROM "+b.db+".coverage")
		return err
	})
	if n := len(b.letters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func manyNames(t *testing.T, ch *chtest.Server)         { names(t, ch, 1, 256<<20) }
func manyNamesInShards(t *testing.T, ch *chtest.Server) { names(t, ch, 6, 400<<20) }

// names sends a million flows, each with names that no other has, of many agents,
// and holds the heap's growth against a limit.
func names(t *testing.T, ch *chtest.Server, shards int, limit int64) {
	const batches, flows = 50, 20_000
	b := newBed(t, ch)
	b.cfg.Ingest.BlockBytes = 16 << 20
	b.cfg.Streams.Shards, b.cfg.Streams.PrefetchBytes = shards, max(4, 2*shards)<<20
	b.cfg.Streams.FlowMaxBytes = 256 << 20
	messages := make([][]byte, batches)
	batch := &ebbwatch.Batch{}
	flow := plainFlow()
	for i := range messages {
		batch.Reset()
		batch.Envelope = b.envelope(fmt.Sprint("web-", i)).Envelope
		for j := range flows {
			n := i*flows + j
			flow.SrcPort = uint16(n)
			flow.Hint.ServerName, flow.SrcOwner.Process = fmt.Sprintf("h%07d.example", n), fmt.Sprintf("p%07d", n)
			batch.Append(&flow)
		}
		messages[i] = b.encode(batch)
	}
	for _, m := range messages[:1] {
		if len(m) > ebbwatch.MaxBatchEncoded-1000 {
			t.Fatalf("a message of %d bytes does not fit into NATS", len(m))
		}
	}
	*batch = ebbwatch.Batch{}
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before := stats.HeapAlloc
	var peak atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		var stats runtime.MemStats
		for ctx.Err() == nil {
			runtime.ReadMemStats(&stats)
			peak.Store(max(peak.Load(), stats.HeapAlloc))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	b.run()
	for i, m := range messages {
		b.publish(ebbwatch.FlowSubject(fmt.Sprint("web-", i)), m, fmt.Sprint("names-", i))
	}
	eventually(t, 120*time.Second, "a million flows are stored", func() error {
		_, err := ch.QueryAs(chtest.Collector, fmt.Sprintf("SELECT throwIf(count() < %d) FROM %s.flows", batches*flows, b.db))
		return err
	})
	cancel()
	if got := ch.Query(t, "SELECT count(), uniqExact(server_name), uniqExact(src_process) FROM "+b.db+".flows"); got != "1000000\t1000000\t1000000" {
		t.Errorf("flows, server names and processes are %s", got)
	}
	// Two blocks of each shard, of which a batch may exceed the limit, the queue, the
	// decoders, the inserts' buffers, and what the garbage collector has not found yet:
	// twice as much.
	if used := int64(peak.Load() - before); used > limit {
		t.Errorf("the heap grew by %d MiB", used>>20)
	} else {
		t.Logf("the heap grew by %d MiB", used>>20)
	}
}

// lettersAway takes the dead letters away while batches are refused.
func lettersAway(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	stop := b.run()
	b.send(1, 10)
	b.wantExact()
	if err := b.js.DeleteStream(t.Context(), ebbwatch.DeadLetterStream); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		b.publish(ebbwatch.FlowSubject("web-1"), []byte(fmt.Sprint("poison", i)), fmt.Sprint("bad-", i))
		b.send(1, 10)
	}
	eventually(t, 15*time.Second, "all but the poison is stored", func() error {
		raw, err := b.sums("flows", "count()", "countIf(age_ms = 0)")
		if err == nil && raw != b.sent {
			err = fmt.Errorf("stored is %+v of %+v", raw, b.sent)
		}
		return err
	})
	stop()
	b.run() // makes the stream again
	b.rows["refused_batches"] = 50
	b.wantExact()
	if n := len(b.letters()); n != 50 {
		t.Errorf("%d dead letters, want 50", n)
	}
}
