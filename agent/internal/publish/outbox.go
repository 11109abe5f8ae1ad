package publish

import (
	"log/slog"
	"sync"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

const (
	// mendAfter is how long a spool that failed is left alone.
	mendAfter = 5 * time.Second
	// holdEvery is how often the outbox looks whether the spool's folder is still there.
	holdEvery = time.Second
	// restless is how long the delivery sleeps at most.
	restless = time.Hour
	// spillAtOnce is how many messages go to disk without another look at memory.
	spillAtOnce = 64
)

// outbox is everything that waits for delivery: old messages on disk, and new
// ones in memory. All of what is on disk is older than all that is in memory.
//
// It belongs to the goroutine that delivers; disk, usable and trouble are safe
// for concurrent use.
type outbox struct {
	queue *queue
	spool *spool.Spool // nil: memory only
	log   *slog.Logger

	opened bool
	held   time.Time // when it was last seen that the folder is still there
	mendAt time.Time // when a spool that failed is tried again

	mu  sync.Mutex
	err error // why the spool cannot be used
}

// tend does what is due: it opens the spool, moves messages from memory to disk
// if spill or if older ones are there, and forces them to the disk. It returns
// when it wants to be called again.
func (o *outbox) tend(spill bool) time.Duration {
	if o.spool == nil {
		return restless
	}
	o.open()
	o.hold()
	if o.opened && (spill || o.spool.Len() > 0) {
		o.spill()
	}
	switch {
	case o.opened && o.spool.Sync():
		return time.Second
	case o.mending():
		return time.Until(o.mendAt)
	}
	return holdEvery
}

func (o *outbox) mending() bool { return time.Now().Before(o.mendAt) }

func (o *outbox) open() {
	if o.opened || o.mending() {
		return
	}
	if err := o.spool.Open(); err != nil {
		o.fail(err)
		return
	}
	o.opened = true
	o.fail(nil)
}

// hold notices that somebody removed the folder, and mends it.
func (o *outbox) hold() {
	if !o.opened || o.mending() || time.Since(o.held) < holdEvery {
		return
	}
	o.held = time.Now()
	if again, err := o.spool.Hold(); again || err != nil {
		o.fail(err)
	}
}

// fail keeps the state of the spool, and logs when it changes.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	was := o.err
	o.err = err
	o.mu.Unlock()
	if err != nil {
		o.mendAt = time.Now().Add(mendAfter)
	}
	switch {
	case err != nil && was == nil:
		o.log.Warn("the spool cannot be used, batches wait in memory", "error", err)
	case err == nil && was != nil:
		o.log.Info("the spool can be used again")
	}
}

// spill moves messages from memory to disk, all of them unless that fails.
func (o *outbox) spill() {
	for o.opened && !o.mending() {
		messages := o.queue.take(spillAtOnce, windowBytes)
		if len(messages) == 0 {
			return
		}
		o.queue.putBack(o.write(messages))
	}
}

// write appends messages to the spool and returns those that it could not.
func (o *outbox) write(messages []Message) []Message {
	if !o.opened || o.mending() {
		return messages
	}
	records := make([]spool.Record, len(messages))
	for i, m := range messages {
		records[i] = spool.Record{ID: m.ID, Data: m.Data, Flows: m.Flows, Sent: m.sent}
	}
	n, err := o.spool.Append(records...)
	if n > 0 || err != nil {
		o.fail(err)
	}
	return messages[n:]
}

// take returns the oldest messages, at most a window of them. Each must go to
// resolve before the next call of anything.
func (o *outbox) take() []Message {
	if o.opened && o.spool.Len() > 0 {
		var messages []Message
		for _, r := range o.spool.Take(window, windowBytes) {
			messages = append(messages, Message{ID: r.ID, Data: r.Data, Flows: r.Flows, sent: r.Sent, record: &r})
		}
		if len(messages) > 0 {
			return messages
		}
	}
	return o.queue.take(window, windowBytes)
}

// resolve forgets messages that are settled, and keeps those that are unsent
// for the next try: on disk if it can.
func (o *outbox) resolve(settled, unsent []Message) {
	var memory []Message
	for _, m := range unsent {
		if m.record == nil {
			memory = append(memory, m)
			continue
		}
		m.record.Sent = m.sent
		o.spool.PutBack(*m.record)
	}
	for _, m := range settled {
		if m.record != nil {
			o.spool.Done(*m.record)
		}
	}
	o.queue.putBack(o.write(memory))
}

// safe reports whether nothing waits in memory.
func (o *outbox) safe() bool {
	n, _, _ := o.queue.size()
	return n == 0
}

// empty reports whether nothing waits.
func (o *outbox) empty() bool { return o.safe() && (!o.opened || o.spool.Len() == 0) }

// disk returns the figures of the spool.
func (o *outbox) disk() spool.Stats {
	if o.spool == nil {
		return spool.Stats{}
	}
	st := o.spool.Stats()
	st.Usable = o.usable()
	return st
}

// usable reports whether messages can go to disk.
func (o *outbox) usable() bool { return o.spool != nil && o.trouble() == nil }

// trouble returns why the spool cannot be used, nil if it can or there is none.
func (o *outbox) trouble() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outbox) close() error {
	if !o.opened {
		return nil
	}
	o.opened = false
	return o.spool.Close()
}
