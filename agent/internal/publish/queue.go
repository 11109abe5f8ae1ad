package publish

import (
	"strings"
	"sync"

	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

// Message is one encoded batch on its way out.
type Message struct {
	ID    string // value of the Nats-Msg-Id header
	Data  []byte
	Flows int // records in it

	sent   bool          // it may be stored already: an attempt ended without an answer
	record *spool.Record // where it lies on disk, nil if it is in memory only
}

// agent returns who made the batch: not this agent where a spool was left by
// one of another name.
func (m *Message) agent() string {
	name, _, _ := strings.Cut(m.ID, ":")
	return name
}

// overhead is what a queued message costs beside its data, about: the id, the
// slot, and the allocator's rounding.
const overhead = 256

// Lost counts what a queue had to give up.
type Lost struct{ Batches, Flows, Bytes uint64 }

// queue holds messages in order within maxBytes. A message that does not fit
// pushes out the oldest. It is safe for concurrent use.
//
// take hands messages to the sender, putBack returns what it could not deliver.
type queue struct {
	maxBytes int64

	mu       sync.Mutex
	messages []Message // oldest first
	bytes    int64
	lost     Lost
	wake     chan struct{} // holds one token while something may be in messages
}

func newQueue(maxBytes int64) *queue {
	return &queue{maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// push appends messages and drops the oldest beyond the limit.
func (q *queue) push(messages ...Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range messages {
		q.messages = append(q.messages, m)
		q.bytes += int64(len(m.Data)) + overhead
	}
	q.trim()
	q.signal()
}

// take removes and returns the oldest messages: at most limit, and no more once
// they hold maxBytes; none if it is empty.
func (q *queue) take(limit, maxBytes int) []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for bytes := 0; n < min(limit, len(q.messages)) && bytes < maxBytes; n++ {
		bytes += len(q.messages[n].Data) + overhead
	}
	taken := append([]Message(nil), q.messages[:n]...)
	clear(q.messages[:n]) // the backing array must not keep the data
	q.messages = q.messages[n:]
	for _, m := range taken {
		q.bytes -= int64(len(m.Data)) + overhead
	}
	return taken
}

// putBack returns messages that take gave out to the front, in their order.
func (q *queue) putBack(messages []Message) {
	if len(messages) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = append(append(make([]Message, 0, len(messages)+len(q.messages)), messages...), q.messages...)
	for _, m := range messages {
		q.bytes += int64(len(m.Data)) + overhead
	}
	q.trim()
	q.signal()
}

func (q *queue) trim() {
	for q.bytes > q.maxBytes && len(q.messages) > 0 {
		m := q.messages[0]
		q.messages[0] = Message{}
		q.messages = q.messages[1:]
		q.bytes -= int64(len(m.Data)) + overhead
		q.lost.Batches++
		q.lost.Flows += uint64(m.Flows)
		q.lost.Bytes += uint64(len(m.Data))
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// size returns how many messages and bytes wait, and what was lost so far.
func (q *queue) size() (messages int, bytes int64, lost Lost) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages), q.bytes, q.lost
}
