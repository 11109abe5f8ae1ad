package publish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

const (
	// askTimeout bounds each request of the question whether the stream has what is
	// in doubt: some twenty of them where it holds a million batches.
	askTimeout = 2 * time.Second
	// maxUnasked is how often the question may fail in a row, although the stream is
	// there, before the answer is done without.
	maxUnasked = 5
)

// withoutStored asks the stream for the messages of group that are in doubt: a
// message is published a second time safely only while the stream's duplicate
// window lasts, and an outage lasts longer. It returns those that the stream
// holds and the rest, both in order, or an error if it could not ask.
//
// What a collector has stored and removed meanwhile cannot be asked for, and an
// agent may lack the permission to ask: such messages stay in doubt, and are
// published with ebbwatch.ResentHeader.
func (p *Publisher) withoutStored(ctx context.Context, js jetstream.JetStream, group []Message) (stored, rest []Message, err error) {
	var doubtful []Message
	for _, m := range group {
		if m.sent {
			doubtful = append(doubtful, m)
		}
	}
	if len(doubtful) == 0 {
		return nil, group, nil
	}
	there, err := find(ctx, js, doubtful)
	if err != nil {
		if errors.Is(p.conn.LastError(), nats.ErrPermissionViolation) { // the request itself only gets no answer
			p.unasked = maxUnasked
		}
		return nil, group, fmt.Errorf("ask which batches the stream has: %w", err)
	}
	p.unasked = 0
	for _, m := range group {
		if m.sent && there[m.ID] {
			stored = append(stored, m)
			continue
		}
		rest = append(rest, m)
	}
	p.metrics.known.Add(float64(len(stored)))
	return stored, rest, nil
}

// reaches reports whether the stream can be reached on the subject of m: it refuses a
// message for another stream. Behind a leaf node whose hub is away an agent is
// connected, and neither a question nor a batch gets anywhere.
func (p *Publisher) reaches(ctx context.Context, js jetstream.JetStream, m *Message) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := js.Publish(ctx, ebbwatch.FlowSubject(m.agent()), nil, jetstream.WithExpectStream("none"), jetstream.WithRetryAttempts(0))
	return errors.As(err, new(*jetstream.APIError))
}

// find returns the ids of those messages that the stream holds, and of others
// near them. An agent's batches stand in the stream in the
// order of their sequences, but for some that were late by less than a window,
// so that the first is found by halving.
func find(ctx context.Context, js jetstream.JetStream, messages []Message) (map[string]bool, error) {
	look, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := js.Stream(look, ebbwatch.FlowStream)
	if err != nil {
		return nil, fmt.Errorf("look up stream: %w", err)
	}
	first := messages[0]
	next := func(seq uint64) (*jetstream.RawStreamMsg, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(ebbwatch.StoredSubjectFilter(first.agent())))
	}
	state := stream.CachedInfo().State
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		msg, err := next(middle)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && !before(msg, &first):
			high = middle
		case err != nil:
			return nil, fmt.Errorf("look up batch: %w", err)
		default:
			low = msg.Sequence + 1
		}
	}
	there := make(map[string]bool)
	for range 2 * window {
		msg, err := next(low)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return there, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look up batch: %w", err)
		}
		there[msg.Header.Get(nats.MsgIdHdr)] = true
		low = msg.Sequence + 1
	}
	return there, nil
}

// before reports whether the stored message was published before m was: in an
// earlier run of the agent, or earlier in the same.
func before(stored *jetstream.RawStreamMsg, m *Message) bool {
	run, sequence := splitID(stored.Header.Get(nats.MsgIdHdr))
	ofM, atM := splitID(m.ID)
	return run != ofM || sequence < atM
}

// splitID returns what stands before the sequence in a message id, and the sequence.
func splitID(id string) (run string, sequence uint64) {
	i := strings.LastIndexByte(id, ':')
	n, err := strconv.ParseUint(id[i+1:], 10, 64)
	if err != nil || i < 0 {
		return "", 0
	}
	return id[:i], n
}
