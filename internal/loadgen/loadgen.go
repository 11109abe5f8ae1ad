// Package loadgen plays a fleet of agents against NATS: seeded traffic in the
// batches, subjects, message ids and sequences of real agents, each drained once
// an interval, at the pace of the clock.
package loadgen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

const (
	// MaxAgents is how many agents have names and addresses of their own.
	MaxAgents = 10_000
	// ahead is how many batches are made before they are due.
	ahead = 512
	// pending is how many messages may wait for their acknowledgement, ackTimeout how long.
	pending, ackTimeout = 4096, 5 * time.Second
)

// Config says what is played.
type Config struct {
	NATS     natsconn.Config
	Agents   int
	Flows    int           // of each agent in each interval
	Interval time.Duration // between two drains of an agent
	Duration time.Duration
	Seed     uint64 // the same seed makes the same traffic, moved in time
}

// DefaultConfig returns a small fleet of ordinary hosts.
func DefaultConfig() Config {
	return Config{NATS: natsconn.DefaultConfig(), Agents: 100, Flows: 100, Interval: 5 * time.Second, Duration: time.Minute, Seed: 1}
}

// Validate names the first value that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Agents < 1 || c.Agents > MaxAgents:
		return fmt.Errorf("agents: want 1 to %d", MaxAgents)
	case c.Flows < 1 || c.Flows > 5000: // more do not fit one message
		return errors.New("flows: want 1 to 5000")
	case c.Interval < 100*time.Millisecond || c.Interval > time.Hour:
		return errors.New("interval: want 100ms to 1h")
	case c.Duration < 0:
		return errors.New("duration: must not be negative")
	}
	if err := c.NATS.Validate(); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

// Result is what was sent.
type Result struct {
	Agents    int     `json:"agents"`
	Batches   uint64  `json:"batches"`
	Flows     uint64  `json:"flows"`
	Bytes     uint64  `json:"bytes"`       // of the messages
	FlowBytes uint64  `json:"flow_bytes"`  // that the flows tell of, both ways
	Resent    uint64  `json:"resent"`      // messages that were not acknowledged at first
	LateMS    int64   `json:"late_ms"`     // how far the slowest batch was behind its time
	Seconds   float64 `json:"seconds"`     // from the first batch to the last acknowledgement
	Rate      float64 `json:"flows_per_s"` // while batches were due
}

// Progress is how much has been sent so far. It may be read concurrently.
type Progress struct{ Flows, Batches atomic.Uint64 }

// message is a batch that waits for its time.
type message struct {
	msg              *nats.Msg
	due              time.Duration
	flows, flowBytes uint64
}

// Run sends what cfg says and returns when everything is acknowledged, or ctx
// ends. A message that JetStream does not acknowledge is sent again, under the
// same id. When batches cannot be made or sent in time, the rest comes later
// and none is left out; LateMS tells.
func Run(ctx context.Context, cfg Config, log *slog.Logger, progress *Progress) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	conn, err := natsconn.Connect("loadgen", cfg.NATS, log)
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(pending), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	made := make(chan message, ahead)
	start := time.Now()
	go func() {
		defer close(made)
		if err := generate(ctx, cfg, start, made); err != nil {
			cancel(err)
		}
	}()
	result := Result{Agents: cfg.Agents}
	sender := sender{js: js, futures: make(chan jetstream.PubAckFuture, pending)}
	for m := range made {
		if wait := time.Until(start.Add(m.due)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		} else {
			result.LateMS = max(result.LateMS, -wait.Milliseconds())
		}
		if err := sender.send(ctx, m.msg); err != nil {
			return result, err
		}
		result.Batches++
		result.Flows += m.flows
		result.FlowBytes += m.flowBytes
		result.Bytes += uint64(len(m.msg.Data))
		progress.Flows.Store(result.Flows)
		progress.Batches.Store(result.Batches)
	}
	result.Rate = float64(result.Flows) / max(time.Since(start), cfg.Duration).Seconds()
	err = sender.settle(ctx, 0)
	result.Resent, result.Seconds = sender.resent, time.Since(start).Seconds()
	if cause := context.Cause(ctx); cause != nil {
		return result, cause
	}
	return result, err
}

// generate makes the batches of all agents in the order in which they are due.
func generate(ctx context.Context, cfg Config, start time.Time, made chan<- message) error {
	fleet := flowgen.New(cfg.Seed, cfg.Agents, start, cfg.Interval)
	step := cfg.Interval / time.Duration(cfg.Agents)
	var encoder ebbwatch.Encoder
	var b ebbwatch.Batch
	for due := step; due <= cfg.Duration; due += step {
		fleet.Next(&b, cfg.Flows)
		data, err := encoder.Encode(nil, &b)
		if err != nil {
			return err
		}
		m := message{
			msg: &nats.Msg{Subject: ebbwatch.FlowSubject(b.Agent), Data: data, Header: nats.Header{nats.MsgIdHdr: []string{b.MessageID()}}},
			due: due, flows: uint64(b.Len()),
		}
		for i := range b.Len() {
			m.flowBytes += b.SrcBytes[i] + b.DstBytes[i]
		}
		select {
		case made <- m:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// sender publishes messages and sends those again that are not acknowledged.
type sender struct {
	js      jetstream.JetStream
	futures chan jetstream.PubAckFuture // in the order of publishing
	waiting int
	resent  uint64
}

func (s *sender) send(ctx context.Context, msg *nats.Msg) error {
	if err := s.settle(ctx, pending-1); err != nil {
		return err
	}
	return s.publish(ctx, msg)
}

// publish hands a message over, and repeats while the connection is away.
func (s *sender) publish(ctx context.Context, msg *nats.Msg) error {
	for {
		future, err := s.js.PublishMsgAsync(msg)
		if err == nil {
			s.futures <- future
			s.waiting++
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// settle waits until at most most messages wait for their acknowledgement.
func (s *sender) settle(ctx context.Context, most int) error {
	for s.waiting > most {
		future := <-s.futures
		s.waiting--
		select {
		case <-future.Ok():
		case <-future.Err(): //nolint:errcheck // whatever it is, the batch is sent again
			s.resent++
			time.Sleep(time.Millisecond) // the stream may be away, or not be there yet
			if err := s.publish(ctx, future.Msg()); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
