package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the name of the JetStream key-value bucket in which the analyzer
// keeps marks, locks and what is to be sent.
const Bucket = "EBBWATCH_ANALYZER"

// KVMarks keeps marks in a key-value bucket, under mark.<detector>.
type KVMarks struct{ KV jetstream.KeyValue }

const kvTimeout = 5 * time.Second

// Load implements Marks.
func (m KVMarks) Load(ctx context.Context, detector string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, kvTimeout)
	defer cancel()
	entry, err := m.KV.Get(ctx, "mark."+detector)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read mark of %s: %w", detector, err)
	}
	var t time.Time
	if err := t.UnmarshalText(entry.Value()); err != nil {
		return time.Time{}, fmt.Errorf("read mark of %s: %w", detector, err)
	}
	return t.UTC(), nil
}

// Save implements Marks.
func (m KVMarks) Save(ctx context.Context, detector string, end time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, kvTimeout)
	defer cancel()
	text, err := end.UTC().MarshalText()
	if err == nil {
		_, err = m.KV.Put(ctx, "mark."+detector, text)
	}
	if err != nil {
		return fmt.Errorf("write mark of %s: %w", detector, err)
	}
	return nil
}
