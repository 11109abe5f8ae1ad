// Package publish encodes batches and delivers them to JetStream, for ever and
// in bounded memory.
package publish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
)

const (
	// window is how many messages may wait for their acknowledgement at a time.
	window = 16
	// ackTimeout is how long an acknowledgement may take.
	ackTimeout = 5 * time.Second
	// The pause after a failure doubles between these.
	minPause, maxPause = 250 * time.Millisecond, 2 * time.Second
	// staleAfter is how long messages may wait before Health complains.
	staleAfter = 30 * time.Second
)

// Config is what a publisher needs.
type Config struct {
	Agent, Version string
	// QueueMaxBytes bounds the messages that wait for delivery. The oldest are
	// dropped, and counted, beyond it.
	QueueMaxBytes int64
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
	encoder *ebbwatch.Encoder
	metrics *metrics

	sequence     uint64
	encodeFailed uint64

	mu        sync.Mutex
	err       error     // of the last attempt, nil if it succeeded
	failingAt time.Time // when the row of failures began
}

// New returns a publisher that is connected through conn, which it does not
// own. It registers its metrics with reg.
func New(cfg Config, conn *nats.Conn, reg prometheus.Registerer, log *slog.Logger) (*Publisher, error) {
	encoder, err := ebbwatch.NewEncoder()
	if err != nil {
		return nil, err
	}
	p := &Publisher{cfg: cfg, boot: newBoot(), conn: conn, log: log, queue: newQueue(cfg.QueueMaxBytes), encoder: encoder}
	p.metrics = newMetrics(reg, p.queue)
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

// Enqueue hands messages over for delivery. It never blocks: what does not fit
// into the queue pushes out the oldest.
func (p *Publisher) Enqueue(messages ...Message) { p.queue.push(messages...) }

// Losses returns what was given up since the start, for the envelope.
func (p *Publisher) Losses() []ebbwatch.Loss {
	_, _, lost := p.queue.size()
	return []ebbwatch.Loss{
		{Name: "queue_dropped_batches", Count: lost.Batches},
		{Name: "queue_dropped_flows", Count: lost.Flows},
		{Name: "encode_failed_batches", Count: p.encodeFailed},
	}
}

// Health returns why batches have not been going out for a while, or nil.
func (p *Publisher) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil || time.Since(p.failingAt) < staleAfter {
		return nil
	}
	n, bytes, _ := p.queue.size()
	return fmt.Errorf("nothing delivered for %s, %d batches (%d bytes) wait in memory: %w", time.Since(p.failingAt).Round(time.Second), n, bytes, p.err)
}

// Run delivers until ctx ends, and then what is left for at most FlushTimeout.
// What it cannot deliver until then is lost, logged and counted.
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
	if n, bytes, _ := p.queue.size(); n > 0 {
		flows := 0
		for _, m := range p.queue.take(n) {
			flows += m.Flows
		}
		p.metrics.unsent.Add(float64(n))
		p.log.Error("batches could not be delivered before the end and are lost", "batches", n, "flows", flows, "bytes", bytes, "error", p.lastError())
	}
	return nil
}

// deliver sends until ctx ends or, if once, until the queue is empty.
func (p *Publisher) deliver(ctx context.Context, js jetstream.JetStream, once bool) {
	pause := minPause
	for ctx.Err() == nil {
		group := p.queue.take(window)
		if len(group) == 0 {
			if once {
				return
			}
			select {
			case <-ctx.Done():
			case <-p.queue.wake:
			}
			continue
		}
		unsent, err := p.send(ctx, js, group)
		p.queue.putBack(unsent)
		p.note(len(group)-len(unsent), err)
		if err == nil {
			pause = minPause
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// send publishes the group and waits for its acknowledgements. It returns what
// was not acknowledged, in order, and the first reason. The stream knows by the
// message id what it has stored already when such a message comes again.
func (p *Publisher) send(ctx context.Context, js jetstream.JetStream, group []Message) (unsent []Message, first error) {
	if !p.conn.IsConnected() {
		return group, errDisconnected // clearer than what the first message would meet
	}
	futures := make([]jetstream.PubAckFuture, 0, len(group))
	for _, m := range group {
		future, err := js.PublishMsgAsync(&nats.Msg{
			Subject: ebbwatch.FlowSubject(p.cfg.Agent),
			Header:  nats.Header{nats.MsgIdHdr: []string{m.ID}},
			Data:    m.Data,
		}, jetstream.WithRetryAttempts(0))
		if err != nil {
			first = err
			break
		}
		futures = append(futures, future)
	}
	for i, future := range futures {
		var err error
		select {
		case ack := <-future.Ok():
			p.metrics.published.Inc()
			if ack.Duplicate {
				p.metrics.duplicates.Inc()
			}
			continue
		case err = <-future.Err():
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		unsent = append(unsent, group[i])
		if first == nil {
			first = err
		}
	}
	return append(unsent, group[len(futures):]...), first
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
	switch {
	case err == nil && was != nil:
		p.log.Info("publishing again", "after", time.Since(p.failingAt).Round(time.Millisecond), "waiting_batches", n, "dropped_batches", lost.Batches)
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

func (p *Publisher) lastError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

var errDisconnected = errors.New("not connected to NATS")

// streamFull is JetStream's error code when a stream with DiscardNew is full.
const streamFull = jetstream.ErrorCode(10077)

// reason names the class of a publishing error.
func reason(err error) string {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return "no_stream"
	case errors.As(err, &api) && api.ErrorCode == streamFull:
		return "stream_full"
	case errors.As(err, &api):
		return "refused"
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "disconnected"
}

// explain adds to an error what JetStream's own words leave open.
func explain(err error) error {
	if reason(err) == "no_stream" {
		return fmt.Errorf("stream %s does not exist yet, the collector makes it: %w", ebbwatch.FlowStream, err)
	}
	return err
}
