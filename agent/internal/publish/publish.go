// Package publish encodes batches and delivers them to JetStream, for ever, in
// bounded memory and, while JetStream does not take them, on a bounded disk.
package publish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

const (
	// window and windowBytes bound the messages that may wait for their
	// acknowledgement at a time.
	window, windowBytes = 16, 4 << 20
	// ackTimeout is how long an acknowledgement may take.
	ackTimeout = 5 * time.Second
	// The pause after a failure doubles between these.
	minPause, maxPause = 250 * time.Millisecond, 2 * time.Second
	// staleAfter is how long nothing may go out before Health complains: a server
	// that starts again is back before that.
	staleAfter = 3 * time.Second
	// lookAfter is how often the connection is looked at while nothing waits.
	lookAfter = time.Second
)

// Config is what a publisher needs.
type Config struct {
	Agent, Version string
	// QueueMaxBytes bounds the messages that wait in memory. The oldest are
	// dropped, and counted, beyond it.
	QueueMaxBytes int64
	// Spool is where messages wait that JetStream does not take. Without a folder,
	// or while it cannot be used, they wait in memory.
	Spool spool.Config
	// FlushTimeout is how long Run goes on delivering after its context ended.
	FlushTimeout time.Duration
}

// Publisher owns one run's batches from the encoder to the acknowledgement.
// NextSequence, Encode, Enqueue and Losses are for one goroutine; the rest is
// safe for concurrent use.
type Publisher struct {
	cfg     Config
	boot    string
	conn    *nats.Conn
	log     *slog.Logger
	queue   *queue
	outbox  *outbox
	encoder ebbwatch.Encoder
	metrics *metrics

	sequence     uint64
	encodeFailed uint64
	refused      atomic.Uint64 // batches
	unasked      int           // questions to the stream in a row that failed

	mu        sync.Mutex
	err       error     // of the last attempt, nil if it succeeded
	failingAt time.Time // when the row of failures began
}

// New returns a publisher that is connected through conn, which it does not
// own. It registers its metrics with reg.
func New(cfg Config, conn *nats.Conn, reg prometheus.Registerer, log *slog.Logger) (*Publisher, error) {
	p := &Publisher{cfg: cfg, boot: newBoot(), conn: conn, log: log, queue: newQueue(cfg.QueueMaxBytes)}
	p.outbox = &outbox{queue: p.queue, log: log}
	if cfg.Spool.Dir != "" {
		p.outbox.spool = spool.New(cfg.Spool, log)
	}
	p.metrics = newMetrics(reg, p.queue, p.outbox.disk, cfg.Spool)
	return p, nil
}

// newBoot returns a random UUID (RFC 9562, version 4).
func newBoot() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Boot returns the identity of this run of the agent.
func (p *Publisher) Boot() string { return p.boot }

// NextSequence returns a new batch's number in this run.
func (p *Publisher) NextSequence() uint64 {
	p.sequence++
	return p.sequence
}

// Encode fills in who sends b and turns it into a message. b.Sequence must be
// one of NextSequence. A batch that cannot be encoded is lost and counted; its
// number stays missing downstream.
func (p *Publisher) Encode(b *ebbwatch.Batch) (Message, error) {
	b.Agent, b.AgentVersion, b.Boot = p.cfg.Agent, p.cfg.Version, p.boot
	data, err := p.encoder.Encode(nil, b)
	if err == nil && len(data) > ebbwatch.MaxBatchEncoded {
		err = fmt.Errorf("%w: %d bytes encoded, at most %d", ebbwatch.ErrInvalid, len(data), ebbwatch.MaxBatchEncoded)
	}
	if err != nil {
		p.encodeFailed++
		p.metrics.encodeFailed.Inc()
		return Message{}, err
	}
	p.metrics.encodedBytes.Add(float64(len(data)))
	p.metrics.encodedFlows.Add(float64(b.Len()))
	return Message{ID: b.MessageID(), Data: data, Flows: b.Len()}, nil
}

// Enqueue hands messages over for delivery. It never blocks, and touches no
// disk: what does not fit into the queue pushes out the oldest.
func (p *Publisher) Enqueue(messages ...Message) { p.queue.push(messages...) }

// Losses returns what was given up since the start, for the envelope.
func (p *Publisher) Losses() []ebbwatch.Loss {
	_, _, lost := p.queue.size()
	disk := p.outbox.disk()
	return []ebbwatch.Loss{
		{Name: "queue_dropped_batches", Count: lost.Batches},
		{Name: "queue_dropped_flows", Count: lost.Flows},
		{Name: "queue_dropped_bytes", Count: lost.Bytes},
		{Name: "spool_dropped_batches", Count: disk.Dropped.Batches},
		{Name: "spool_dropped_flows", Count: disk.Dropped.Flows},
		{Name: "spool_dropped_bytes", Count: disk.Dropped.Bytes},
		{Name: "spool_damaged_batches", Count: disk.Damaged.Batches},
		{Name: "spool_damaged_flows", Count: disk.Damaged.Flows},
		{Name: "spool_damaged_bytes", Count: disk.Damaged.Bytes},
		{Name: "refused_batches", Count: p.refused.Load()},
		{Name: "encode_failed_batches", Count: p.encodeFailed},
	}
}

// Health returns since when and why batches do not go out, and where they wait,
// or nil. It is tolerable, as ops has it, if only the spool cannot be used.
func (p *Publisher) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	spool := p.outbox.trouble()
	if p.err == nil || time.Since(p.failingAt) < staleAfter {
		if spool != nil {
			return ops.Tolerable(fmt.Errorf("the spool cannot be used, batches would wait in memory: %w", spool))
		}
		return nil
	}
	n, bytes, lost := p.queue.size()
	disk := p.outbox.disk()
	err := fmt.Errorf("nothing delivered since %s (%s): %w; waiting batches: %d (%d bytes) in the spool, %d (%d bytes) in memory",
		p.failingAt.UTC().Format(time.RFC3339), time.Since(p.failingAt).Round(time.Second), explain(p.err), disk.Waiting.Batches, disk.Waiting.Bytes, n, bytes)
	if given := lost.Batches + disk.Dropped.Batches; given > 0 {
		err = fmt.Errorf("%w; %d batches were dropped since the agent's start", err, given)
	}
	if spool != nil {
		err = fmt.Errorf("%w; the spool cannot be used: %w", err, spool)
	}
	return err
}

// Run delivers until ctx ends, and then what is left for at most FlushTimeout,
// or until all of it is on disk, for the next start. What stays in memory is
// lost then, logged and counted.
func (p *Publisher) Run(ctx context.Context) error {
	js, err := jetstream.New(p.conn, jetstream.WithPublishAsyncMaxPending(window), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer js.CleanupPublisher()
	p.deliver(ctx, js, false)

	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.FlushTimeout)
	defer cancel()
	p.deliver(flush, js, true)
	p.outbox.spill()
	if n, bytes, _ := p.queue.size(); n > 0 {
		flows := 0
		for _, m := range p.queue.take(n, int(bytes)) {
			flows += m.Flows
		}
		p.metrics.unsent.Add(float64(n))
		p.log.Error("batches could not be delivered before the end and are lost", "batches", n, "flows", flows, "bytes", bytes, "error", p.lastError())
	}
	if w := p.outbox.disk().Waiting; w.Batches > 0 {
		p.log.Warn("batches wait on disk for the next start", "batches", w.Batches, "flows", w.Flows, "bytes", w.Bytes, "error", p.lastError())
	}
	return p.outbox.close()
}

// note keeps the state that Health tells, and logs when it changes.
func (p *Publisher) note(delivered int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return
	}
	was := p.err
	p.err = err
	n, bytes, lost := p.queue.size()
	disk := p.outbox.disk()
	switch {
	case err == nil && was != nil:
		p.log.Info("publishing again", "after", time.Since(p.failingAt).Round(time.Millisecond), "waiting_batches", uint64(n)+disk.Waiting.Batches, "dropped_batches", lost.Batches+disk.Dropped.Batches)
	case err != nil && was == nil && p.outbox.usable():
		p.log.Warn("publishing fails, keeping batches on disk", "error", explain(err), "waiting_batches", uint64(n)+disk.Waiting.Batches)
	case err != nil && was == nil:
		p.log.Warn("publishing fails, keeping batches in memory", "error", explain(err), "waiting_batches", n, "waiting_bytes", bytes)
	}
	if err != nil {
		p.metrics.failed.WithLabelValues(reason(err)).Inc()
	}
	if err != nil && (was == nil || delivered > 0) {
		p.failingAt = time.Now()
	}
}

// look notes that the connection is gone or back while there is nothing to send
// that would tell.
func (p *Publisher) look() {
	away, last := natsconn.Connected(p.conn), p.lastError()
	noted := errors.Is(last, natsconn.ErrDisconnected)
	switch {
	case away != nil && (last == nil || noted && last.Error() != away.Error()):
		p.note(0, away)
	case away == nil && noted:
		p.note(0, nil)
	}
}

func (p *Publisher) lastError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
