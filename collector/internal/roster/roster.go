// Package roster tells which collectors are alive, and who of them has what.
//
// Each collector announces itself again and again in a stream that forgets an
// announcement after a time. From the same list all compute the same division of
// the work, so that nobody has to decide for the others. Where their lists differ,
// for a moment or because one is cut off, two collectors have the same work or none
// has it: that must do no harm (it does not, see package ledger), it only costs.
package roster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Stream holds an announcement of each collector that is alive.
const Stream = "EBBWATCH_ROSTER"

const prefix = "ebbwatch.roster.v1."

// Config is the same for all collectors of a stream of batches.
type Config struct {
	Terms    string // one token of a subject: only collectors of the same terms can share work
	TTL      time.Duration
	Replicas int
}

// Roster is one collector's entry and its look at the others. It is not safe for
// concurrent use.
type Roster struct {
	cfg  Config
	js   jetstream.JetStream
	self string
}

// New returns a roster that nobody has entered yet.
func New(js jetstream.JetStream, cfg Config) *Roster {
	return &Roster{cfg: cfg, js: js, self: nuid.Next()}
}

// List is who is alive, with this collector.
type List struct {
	Self   string
	Equals []string // of the same terms, sorted
	Others []string // their terms, each once
}

// Enter announces this collector and returns who is alive. It is to be called
// several times within TTL.
func (r *Roster) Enter(ctx context.Context) (List, error) {
	subject := prefix + r.cfg.Terms + "." + r.self
	_, err := r.js.Publish(ctx, subject, nil, jetstream.WithExpectStream(Stream))
	if err != nil { // nobody has made the stream yet, or somebody deleted it
		if err := r.create(ctx); err != nil {
			return List{}, err
		}
		if _, err = r.js.Publish(ctx, subject, nil, jetstream.WithExpectStream(Stream)); err != nil {
			return List{}, fmt.Errorf("announce this collector: %w", err)
		}
	}
	stream, err := r.js.Stream(ctx, Stream)
	if err != nil {
		return List{}, fmt.Errorf("list collectors: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return List{}, fmt.Errorf("list collectors: %w", err)
	}
	list := List{Self: r.self}
	for subject := range info.State.Subjects {
		terms, id, ok := strings.Cut(strings.TrimPrefix(subject, prefix), ".")
		switch {
		case !ok:
		case terms == r.cfg.Terms:
			list.Equals = append(list.Equals, id)
		case !slices.Contains(list.Others, terms):
			list.Others = append(list.Others, terms)
		}
	}
	if !slices.Contains(list.Equals, r.self) { // it took longer than TTL to come here
		return List{}, errors.New("list collectors: this one is not among them: NATS is slow, or streams.standby too short")
	}
	slices.Sort(list.Equals)
	return list, nil
}

func (r *Roster) create(ctx context.Context) error {
	_, err := natsconn.EnsureStream(ctx, r.js, jetstream.StreamConfig{
		Name: Stream, Description: "Ebbwatch: the collectors that are alive", Subjects: []string{prefix + "*.*"},
		Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, MaxAge: r.cfg.TTL, Replicas: r.cfg.Replicas, AllowDirect: true,
	})
	return err
}

// Leave takes this collector off the list, so that the others need not wait for
// the time to be over.
func (r *Roster) Leave(ctx context.Context) error {
	stream, err := r.js.Stream(ctx, Stream)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(prefix+r.cfg.Terms+"."+r.self))
	}
	if err != nil {
		return fmt.Errorf("take this collector off the list: %w", err)
	}
	return nil
}
