package natsconn

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// EnsureStream makes a stream, or updates the one of that name to cfg. Several
// services may do so at once: CreateOrUpdateStream must not, because a cluster
// (measured with 2.15) does not answer an update of what is just being created.
func EnsureStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // it is another than cfg
		s, err = js.UpdateStream(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", cfg.Name, err)
	}
	return s, nil
}

// EnsureKeyValue is EnsureStream for a bucket of keys. If cfg leaves Replicas 0, the
// bucket has as many as the stream of batches: a NATS cluster that may lose a server
// may lose it for all services.
func EnsureKeyValue(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	if cfg.Replicas == 0 {
		flows, err := js.Stream(ctx, ebbwatch.FlowStream)
		switch {
		case err == nil:
			cfg.Replicas = flows.CachedInfo().Config.Replicas
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, fmt.Errorf("create bucket %s: %w", cfg.Bucket, err)
		}
	}
	kv, err := js.CreateKeyValue(ctx, cfg)
	if errors.Is(err, jetstream.ErrBucketExists) {
		kv, err = js.UpdateKeyValue(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("create bucket %s: %w", cfg.Bucket, err)
	}
	return kv, nil
}
