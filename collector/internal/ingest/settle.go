package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
)

// askTimeout bounds a few requests to JetStream. A server of a cluster that dies takes
// the answer along: then they are made again.
const askTimeout = 10 * time.Second

// open makes sure that everything in JetStream exists, reads the ledger, and
// settles what the last session left.
func (p *pipe) open(ctx context.Context) error {
	attempt, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var err error
	if p.streams, err = consume.Open(attempt, p.JS, p.Streams); err != nil {
		return err
	}
	if p.queue, err = p.streams.Queue(attempt, p.shard); err != nil {
		return err
	}
	if p.ledger, err = ledger.Open(attempt, p.JS, p.shard.String(), p.Streams.Replicas); err != nil {
		return err
	}
	return p.load(ctx)
}

// load reads the ledger and makes the insert again that was left.
func (p *pipe) load(ctx context.Context) error {
	here, err := insist(ctx, p, func() (string, error) { return p.Store.Identity(ctx) })
	if err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	left, before, err := p.ledger.Load(attempt, p.streams.Flow.CachedInfo().Created, here)
	if err != nil {
		return err
	}
	if before != "" && before != here {
		if left != nil {
			return fmt.Errorf("an insert was left unfinished in another ClickHouse (%s) than this one (%s), where repeating it might store its batches a second time: "+
				"let a collector with that one as clickhouse.address finish it; if that one is gone, remove key %s of bucket %s in NATS, and its batches are stored here",
				before, here, p.ledger.Key(), ledger.Bucket)
		}
		p.Log.Warn("batches are stored in another clickhouse than before; those that agents send again are not recognized unless this one has them", "before", before, "now", here)
	}
	if left == nil {
		return nil
	}
	if err := p.settle(ctx, left); err != nil {
		return fmt.Errorf("repeat the insert that was left: %w", err)
	}
	return nil
}

// settle makes the insert of an intent again, from the messages that are still
// in the stream. A message that is not there any more was acknowledged, so the
// insert had succeeded, and the token keeps the rest from being stored twice.
func (p *pipe) settle(ctx context.Context, intent *ledger.Intent) error {
	place := p.line.join(p.worker) // what was left is as large as other blocks, in memory too
	defer place.leave()
	place.getReady()
	select {
	case <-place.begins():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l := place.large
	if l == nil {
		l = newLoad(p.Enricher)
	}
	for _, r := range intent.Sequences {
		for seq := r[0]; seq <= r[1]; seq++ {
			raw, err := p.streams.Get(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read message %d: %w", seq, err)
			}
			if !intent.Has(seq, raw.Time) { // it comes by the queue
				continue
			}
			msg := found(raw)
			b, err := p.decoder.Decode(msg.subject, msg.data, msg.stored)
			if err != nil { // as before, or this build is older
				if err := p.refuse(ctx, l, msg, err); err != nil {
					return err
				}
				continue
			}
			l.append(b, msg)
		}
	}
	p.Log.Info("repeating the insert that was left under its token", "token", intent.Token,
		"messages", intent.Sequences.Count(), "still_unacknowledged", len(l.sequences), "flows", l.block.Rows())
	if len(l.sequences) > 0 {
		if err := p.Store.Write(ctx, l.block, intent.Token); err != nil {
			return err
		}
	}
	p.Metrics.settled.Inc()
	p.ledger.Commit()
	p.settleLetters(ctx, l.messages)
	p.acknowledge(ctx, l.messages...)
	return nil
}
