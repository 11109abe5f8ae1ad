// Package batch turns a message into a batch that may be stored, or says why
// it may not.
package batch

import (
	"errors"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// Reason is why a message is refused: the label of a metric, and the first
// word of the dead letter's reason.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	Subject     Reason = "subject"      // the subject names no agent
	Undecodable Reason = "undecodable"  // not what an agent compresses, within the limits
	Version     Reason = "version"      // from a newer agent
	Invalid     Reason = "invalid"      // decodes, and breaks the contract
	ForgedAgent Reason = "forged_agent" // the envelope names another agent than the subject
	Future      Reason = "future"       // a time too far ahead of ours
	Ancient     Reason = "ancient"      // a time before what is kept
)

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{Subject, Undecodable, Version, Invalid, ForgedAgent, Future, Ancient}
}

// Advice returns what to do about a batch that was refused for the reason, "" if it is
// none of Reasons.
func (r Reason) Advice() string {
	return map[Reason]string{
		Subject:     "no agent sends on such a subject: find the sender, then drop it",
		Undecodable: "no agent sends such bytes: find the sender by the subject, then drop it",
		Version:     "the agent is newer than the collector: update the collector, then replay it",
		Invalid:     "the agent or the collector is too old, or somebody else sends: update the older one and replay it, or drop it",
		ForgedAgent: "somebody uses another's credentials, or two configurations are mixed up: repair that, then drop it",
		Future:      "set the clock of the agent's host; once that time has passed, replay it",
		Ancient:     "set the clock of the agent's host, or raise ingest.max_age and store.retention_days, then replay it",
	}[r]
}

// RefusedError is the error about a message that must not be stored, ever.
type RefusedError struct {
	Reason Reason
	Err    error
}

func (r *RefusedError) Error() string { return fmt.Sprintf("%s: %v", r.Reason, r.Err) }

// Unwrap returns the error behind the refusal.
func (r *RefusedError) Unwrap() error { return r.Err }

// Limits bound the times of a batch around the time at which NATS stored it.
// Against that time, and not against the present, a batch is judged the same
// however late it is read.
type Limits struct {
	MaxAhead time.Duration // later times are refused
	MaxAge   time.Duration // earlier times are refused
}

// Decoder decodes messages. It is not safe for concurrent use.
type Decoder struct {
	decoder ebbwatch.Decoder
	limits  Limits
	batch   ebbwatch.Batch
	opened  bool // batch holds what the last message says
}

// NewDecoder returns a decoder that holds times to limits.
func NewDecoder(limits Limits) *Decoder {
	return &Decoder{decoder: ebbwatch.Decoder{InPlace: true}, limits: limits}
}

// Decode returns the batch that came in on subject and was stored by NATS at
// stored. It is valid until the next call, and so are the strings of its dictionary;
// its plain columns are packed (ebbwatch.Decoder.InPlace). Every error is a
// *RefusedError.
func (d *Decoder) Decode(subject string, message []byte, stored time.Time) (*ebbwatch.Batch, error) {
	d.opened = false
	agent, err := ebbwatch.AgentOfSubject(subject)
	if err != nil {
		return nil, &RefusedError{Subject, err}
	}
	b := &d.batch
	if err := d.decoder.Decode(message, b); err != nil {
		switch {
		case errors.Is(err, ebbwatch.ErrVersion):
			return nil, &RefusedError{Version, err}
		case errors.Is(err, ebbwatch.ErrInvalid):
			return nil, &RefusedError{Invalid, err}
		}
		return nil, &RefusedError{Undecodable, err}
	}
	d.opened = true
	if b.Agent != agent {
		return nil, &RefusedError{ForgedAgent, fmt.Errorf("the envelope says %s, the subject %s", b.Agent, agent)}
	}
	if err := d.limits.check(b, stored); err != nil {
		return nil, err
	}
	return b, nil
}

// Opened returns what the last message says, even if it is refused for what it
// says: nil if it cannot be read. It is valid until the next call of Decode.
func (d *Decoder) Opened() *ebbwatch.Batch {
	if !d.opened {
		return nil
	}
	return &d.batch
}

func (l Limits) check(b *ebbwatch.Batch, stored time.Time) error {
	first, last := b.Time.UnixMicro(), b.Time.UnixMicro()
	lowest, highest := stored.Add(-l.MaxAge).UnixMicro(), stored.Add(l.MaxAhead).UnixMicro()
	for i, start := range b.Start {
		first = min(first, start)
		last = max(last, start+int64(b.Duration[i]))
	}
	switch {
	case last > highest:
		return &RefusedError{Future, fmt.Errorf("a time is %s, more than %s after the batch was stored (check the clock of %s)",
			micros(last), l.MaxAhead, b.Agent)}
	case first < lowest:
		return &RefusedError{Ancient, fmt.Errorf("a time is %s, more than %s before the batch was stored", micros(first), l.MaxAge)}
	}
	return nil
}

func micros(us int64) string { return time.UnixMicro(us).UTC().Format(time.RFC3339Nano) }
