// Package loglimit keeps a log readable and its volume bounded, whatever
// traffic, an outage or a broken disk makes the agent say.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// burst is how often one message is logged at once, and every how often it is
	// logged after that.
	burst, every = 20, 10 * time.Second
	// maxMessages bounds the messages that are told apart. The agent's are
	// constants, some dozens; what is beyond shares one limit.
	maxMessages = 500
)

// Handler passes records on, of each message at most burst at once and one every
// ten seconds after that. The record after a gap says how many were suppressed
// in it, and Suppressed counts all. Attributes do not tell messages apart.
//
// It is safe for concurrent use, and so are the handlers made from it, which
// share its limits.
type Handler struct {
	next  slog.Handler
	state *state
}

type state struct {
	suppressed atomic.Uint64

	mu       sync.Mutex
	messages map[string]*message
}

// message is a token bucket: it is full when until lies burst intervals back.
type message struct {
	until      time.Time // when the tokens that were taken are all there again
	suppressed uint64    // since the last record that was passed on
}

// New returns a handler before next.
func New(next slog.Handler) *Handler {
	return &Handler{next: next, state: &state{messages: make(map[string]*message)}}
}

// Suppressed returns how many records were not passed on.
func (h *Handler) Suppressed() uint64 { return h.state.suppressed.Load() }

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	before, pass := h.state.take(r.Message, time.Now())
	if !pass {
		return nil
	}
	if before > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", before))
	}
	return h.next.Handle(ctx, r)
}

// take reports whether a message may be logged now, and how many were not before it.
func (s *state) take(text string, now time.Time) (before uint64, pass bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[text]
	if m == nil {
		if len(s.messages) >= maxMessages {
			text = ""
		}
		if m = s.messages[text]; m == nil {
			m = &message{}
			s.messages[text] = m
		}
	}
	if m.until.Before(now) {
		m.until = now
	}
	if m.until.Sub(now) > (burst-1)*every {
		m.suppressed++
		s.suppressed.Add(1)
		return 0, false
	}
	m.until = m.until.Add(every)
	before, m.suppressed = m.suppressed, 0
	return before, true
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{next: h.next.WithAttrs(attrs), state: h.state}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{next: h.next.WithGroup(name), state: h.state}
}
