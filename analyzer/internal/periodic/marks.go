package periodic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Bucket is the key-value bucket of the marks: one key for each schedule and window end.
const Bucket = "EBBWATCH_SCHEDULE"

// keep is how long marks last: longer than the year between two moments.
const keep = 400 * 24 * time.Hour

// KV keeps marks in JetStream. It is safe for concurrent use.
type KV struct{ js jetstream.JetStream }

// NewKV returns marks that need JetStream only when they are used.
func NewKV(js jetstream.JetStream) *KV { return &KV{js} }

func (k *KV) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := natsconn.EnsureKeyValue(ctx, k.js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "Periodic reports that are done", TTL: keep, MaxValueSize: 1024, MaxBytes: 4 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("open marks of schedules: %w", err)
	}
	return kv, nil
}

func keyOf(schedule string, end time.Time) string {
	return schedule + "." + end.UTC().Format("20060102T150405Z")
}

// Seen implements Marks.
func (k *KV) Seen(ctx context.Context, schedule string, end time.Time) (done, ever bool, err error) {
	kv, err := k.bucket(ctx)
	if err != nil {
		return false, false, err
	}
	for i, key := range []string{keyOf(schedule, end), schedule + ".any"} {
		switch _, err := kv.Get(ctx, key); {
		case err == nil && i == 0:
			return true, true, nil
		case err == nil:
			return false, true, nil
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return false, false, fmt.Errorf("read mark of schedule %s: %w", schedule, err)
		}
	}
	return false, false, nil
}

// Done implements Marks.
func (k *KV) Done(ctx context.Context, schedule string, end time.Time) error {
	kv, err := k.bucket(ctx)
	if err != nil {
		return err
	}
	for _, key := range []string{schedule + ".any", keyOf(schedule, end)} {
		if _, err := kv.PutString(ctx, key, "done"); err != nil {
			return fmt.Errorf("write mark of schedule %s: %w", schedule, err)
		}
	}
	return nil
}
