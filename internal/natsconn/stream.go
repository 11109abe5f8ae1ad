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
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || noRoom(err) { // it is another than cfg, or this one
		var updateErr error
		if s, updateErr = js.UpdateStream(ctx, cfg); !errors.Is(updateErr, jetstream.ErrStreamNotFound) {
			err = updateErr
		}
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
	if errors.Is(err, jetstream.ErrBucketExists) || noRoom(err) {
		var updateErr error
		if kv, updateErr = js.UpdateKeyValue(ctx, cfg); !errors.Is(updateErr, jetstream.ErrBucketNotFound) {
			err = updateErr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create bucket %s: %w", cfg.Bucket, err)
	}
	return kv, nil
}

// noRoom reports whether the server has no room for a stream that is to be created.
// It says so of one that is there already, too, where its limit does not fit in a
// second time: it counts before it looks (nats-server 2.15).
func noRoom(err error) bool {
	const memory, storage = 10028, 10047
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == memory || api.ErrorCode == storage)
}
