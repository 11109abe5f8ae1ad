// Package ledger remembers, in a JetStream key, what the collector has stored
// and what it is about to store: the record that makes every batch stored once.
//
// The protocol of one insert is
//
//  1. Begin writes the insert's token and the stream sequences of its messages
//     (the intent), and that everything before is done, in one compare-and-swap;
//  2. the insert is made under that token until it succeeds;
//  3. Commit marks the sequences done, in memory;
//  4. the messages are acknowledged, which merely frees their space.
//
// Whoever starts finds the last intent, makes its insert again under the same
// token (which ClickHouse stores once), and goes on. An acknowledgement that got
// lost does no harm: the message comes again and is known. A collector that was
// overtaken by another learns it in step 1 and gives its block up.
package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/ranges"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Bucket is the JetStream KV bucket of the ledgers.
const Bucket = "EBBWATCH_COLLECTOR"

// ErrOvertaken is wrapped by the error of a write that found the ledger changed
// by another collector.
var ErrOvertaken = errors.New("another collector has taken over")

// Intent is an insert that may or may not have happened.
type Intent struct {
	Token     string     `json:"token"`
	Sequences ranges.Set `json:"sequences"`
	// Newest is the latest time at which one of the messages was stored. A later
	// message under one of the sequences is another: a stream that lost its end in
	// a power failure gives sequences out again. Zero in what an older build wrote.
	Newest time.Time `json:"newest"`
}

// Has reports whether the message that the stream stored under sequence at
// stored is one of the insert.
func (i *Intent) Has(sequence uint64, stored time.Time) bool {
	return i.Sequences.Contains(sequence) && (i.Newest.IsZero() || !stored.After(i.Newest))
}

func (i *Intent) valid() bool {
	return i.Token != "" && i.Sequences.Valid() && i.Sequences.Count() <= maxIntent
}

// maxIntent bounds the messages of one intent; the value must fit a message of NATS.
const maxIntent = 1 << 20

// record is what the key holds.
type record struct {
	// Stream is when the stream was created: sequences of another stream mean nothing.
	Stream time.Time  `json:"stream"`
	Intent *Intent    `json:"intent,omitempty"`
	Done   ranges.Set `json:"done"`
	// Store is which one the inserts are made in; empty in what an older build wrote.
	Store string `json:"store,omitempty"`
	// DoneUntil is the newest time at which a done message was stored; for what it
	// is there, see Intent.Newest.
	DoneUntil time.Time `json:"done_until"`
}

// Status is what the ledger knows about a message.
type Status uint8

// A message's way: New, Held from Hold to Commit, then Done.
const (
	New Status = iota
	Held
	Done
)

// maxFragments bounds the ranges of Done that are written: with those of an intent
// they must fit a message of NATS. The sequences of a shard have those of the others
// between them.
const maxFragments = 10_000

// Ledger is the ledger of one shard. Its methods may be called concurrently,
// but there is one intent at a time.
type Ledger struct {
	kv  jetstream.KeyValue
	key string

	mu       sync.Mutex
	revision uint64 // of the key, 0 if it does not exist
	state    record
	held     map[uint64]time.Time // sequence to the time it was stored
	reissued time.Time            // when the stream stored a message under a sequence that it had given out before
}

// Open opens the ledger of a shard, and makes the bucket if it does not exist.
func Open(ctx context.Context, js jetstream.JetStream, shard string, replicas int) (*Ledger, error) {
	kv, err := js.KeyValue(ctx, Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = Ensure(ctx, js, replicas)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", Bucket, err)
	}
	return &Ledger{kv: kv, key: "ledger." + shard, held: make(map[uint64]time.Time)}, nil
}

// Ensure makes the bucket, or gives it as many replicas: 1 or, in a NATS cluster,
// as many as the streams have.
func Ensure(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	return natsconn.EnsureKeyValue(ctx, js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "Ebbwatch: what the collectors have stored and are about to store",
		History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
	})
}

// Load reads the ledger and forgets what was held. stream is the creation time
// of the stream that sequences refer to, store which one inserts are made in from now
// on. It returns the intent that was left, nil if there is none, and in which store,
// "" if that is not known.
func (l *Ledger) Load(ctx context.Context, stream time.Time, store string) (left *Intent, before string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.held)
	l.reissued = time.Time{}
	l.revision, l.state = 0, record{Stream: stream, Store: store}
	entry, err := l.kv.Get(ctx, l.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read ledger: %w", err)
	}
	var r record
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return nil, "", fmt.Errorf("read ledger: %w", err)
	}
	if !r.Done.Valid() || r.Intent != nil && !r.Intent.valid() {
		return nil, "", fmt.Errorf("read ledger: key %s of bucket %s is damaged", l.key, Bucket)
	}
	l.revision = entry.Revision()
	if !r.Stream.Equal(stream) { // the stream was deleted: nothing of it can come again
		return nil, "", nil
	}
	l.state = r
	l.state.Store = store
	return r.Intent, r.Store, nil
}

// Key returns the key that holds the ledger.
func (l *Ledger) Key() string { return l.key }

// Status returns what the ledger knows of the message that the stream stored
// under sequence at stored.
//
// A message under a sequence that an earlier one had is new, and shows that the stream
// lost its end in a power failure. What is done is forgotten then: more sequences of
// it may come again as those of others, and by the time that a later message is done
// nothing would tell them apart. Whoever asks the database finds what is stored.
func (l *Ledger) Status(sequence uint64, stored time.Time) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, held := l.held[sequence]
	done := l.state.Done.Contains(sequence)
	switch {
	case held && !stored.After(at):
		return Held
	case !held && done && !stored.After(l.state.DoneUntil):
		return Done
	case held || done:
		l.state.Done, l.reissued = nil, stored
	}
	return New
}

// Hold notes that the message will be part of an insert.
func (l *Ledger) Hold(sequence uint64, stored time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[sequence] = stored
}

// Discard marks a message done that is not to be stored.
func (l *Ledger) Discard(sequence uint64, stored time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, sequence)
	l.done(sequence, sequence, stored)
}

func (l *Ledger) done(first, last uint64, stored time.Time) {
	if stored.Before(l.reissued) {
		return
	}
	l.state.Done = l.state.Done.Add(first, last)
	if n := len(l.state.Done); n > maxFragments { // the oldest are hardly delivered again; if so, the database knows their batches
		l.state.Done = slices.Delete(l.state.Done, 0, n-maxFragments)
	}
	if stored.After(l.state.DoneUntil) {
		l.state.DoneUntil = stored
	}
}

// Begin writes the intent. ErrOvertaken means that the block must be given up.
// After any other error it is unknown whether the intent stands: call again with
// the same intent.
func (l *Ledger) Begin(ctx context.Context, intent Intent) error {
	return l.write(ctx, &intent)
}

// Commit marks the messages of the intent done.
func (l *Ledger) Commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Intent == nil {
		return
	}
	for _, r := range l.state.Intent.Sequences {
		l.done(r[0], r[1], l.state.Intent.Newest)
		for s := r[0]; s <= r[1]; s++ {
			if !l.held[s].After(l.state.Intent.Newest) { // else of another message
				delete(l.held, s)
			}
		}
	}
	l.state.Intent = nil
}

// CoverTo marks everything up to sequence done: the consumer's acknowledgement
// floor, below which nothing is delivered. It keeps the set small.
func (l *Ledger) CoverTo(sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence > 0 {
		l.state.Done = l.state.Done.Add(1, sequence)
	}
}

// Fragments returns how many ranges the done messages form.
func (l *Ledger) Fragments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.state.Done)
}

// End writes the ledger without an intent, so that the next start has nothing
// to repeat.
func (l *Ledger) End(ctx context.Context) error { return l.write(ctx, nil) }

func (l *Ledger) write(ctx context.Context, intent *Intent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.state
	next.Intent = intent
	value, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	revision, err := l.swap(ctx, value)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		revision, err = l.mine(ctx, value, intent)
	}
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	l.revision, l.state = revision, next
	return nil
}

func (l *Ledger) swap(ctx context.Context, value []byte) (uint64, error) {
	if l.revision == 0 {
		return l.kv.Create(ctx, l.key, value) // also over the marker of a key that somebody deleted
	}
	return l.kv.Update(ctx, l.key, value, l.revision)
}

// mine returns the key's revision if an earlier write of the same, whose answer got
// lost, made it. Tokens are unique, so nobody else wrote that intent; what is done
// may have changed since.
func (l *Ledger) mine(ctx context.Context, value []byte, intent *Intent) (uint64, error) {
	entry, err := l.kv.Get(ctx, l.key)
	if err != nil {
		return 0, err
	}
	var there record
	same := bytes.Equal(entry.Value(), value)
	if !same && intent != nil && json.Unmarshal(entry.Value(), &there) == nil {
		same = there.Intent != nil && there.Intent.Token == intent.Token
	}
	if !same {
		return 0, fmt.Errorf("%w: revision %d, expected %d", ErrOvertaken, entry.Revision(), l.revision)
	}
	return entry.Revision(), nil
}
