package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Bucket is the key-value bucket that holds the outbox: one key for each
// (report, endpoint), kept after the delivery so that nothing is sent twice.
const Bucket = "EBBWATCH_OUTBOX"

const (
	keepFor      = 14 * 24 * time.Hour // above the three days of the schedule
	disabledKind = "disabled."         // key prefix of endpoints that answered 410
	entryKind    = "report."
)

// entry is one report on its way to one endpoint.
type entry struct {
	Report     string    `json:"report"`
	Endpoint   string    `json:"endpoint"`
	State      string    `json:"state"` // of store.Delivery
	Attempts   int       `json:"attempts"`
	HTTPStatus int       `json:"http_status,omitempty"`
	Error      string    `json:"error,omitempty"`
	Created    time.Time `json:"created"`
	Next       time.Time `json:"next"`
	Updated    time.Time `json:"updated"`
	Body       []byte    `json:"body,omitempty"` // dropped when nothing is left to send

	revision uint64
}

func (e *entry) key() string { return entryKind + e.Endpoint + "." + e.Report }

func (e *entry) clone() *entry {
	c := *e
	return &c
}

func (e *entry) open() bool {
	return e.State == store.DeliveryPending || e.State == store.DeliveryRetrying
}

func (e *entry) row() store.Delivery {
	d := store.Delivery{
		Report: e.Report, Endpoint: e.Endpoint, State: e.State, Attempts: uint32(e.Attempts),
		HTTPStatus: uint16(e.HTTPStatus), Error: e.Error, Updated: e.Updated,
	}
	if e.open() {
		d.NextAttempt = e.Next
	}
	return d
}

// disabled marks an endpoint that answered 410 Gone. Another URL enables it again.
type disabled struct {
	URLHash string    `json:"url_hash"`
	At      time.Time `json:"at"`
}

func openBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := natsconn.EnsureKeyValue(ctx, js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "Reports on their way to webhooks", TTL: keepFor, MaxValueSize: 64 << 10, MaxBytes: 64 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	return kv, nil
}

// errConflict says that another process changed the entry meanwhile.
var errConflict = errors.New("the entry was changed by another process")

// save writes e if nobody changed it since it was read.
func save(ctx context.Context, kv jetstream.KeyValue, e *entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write outbox: %w", err)
	}
	revision, err := kv.Update(ctx, e.key(), data, e.revision)
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return errConflict
	case err != nil:
		return fmt.Errorf("write outbox: %w", err)
	}
	e.revision = revision
	return nil
}

// decode reads an entry of the bucket. The bucket may have been written by
// anybody who may write to it, so the key must be that of the content.
func decode(kve jetstream.KeyValueEntry) (*entry, error) {
	var e entry
	if err := json.Unmarshal(kve.Value(), &e); err != nil {
		return nil, errors.New("not an entry")
	}
	if e.key() != kve.Key() || strings.ContainsAny(e.Report, "\r\n") || e.Report == "" {
		return nil, errors.New("the key is not that of the entry")
	}
	e.revision = kve.Revision()
	return &e, nil
}
