package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
	"github.com/ebbwatch/ebbwatch/collector/internal/roster"
)

// keeper has workers for the shards that fall to this collector.
type keeper struct {
	*Ingester
	roster  *roster.Roster
	ensured bool
	count   int // collectors at the last round
}

// emptyRounds is for how many rounds in a row nothing must be found in a shard of an
// earlier division until it is removed: together Standby, in which the news of the
// new division reaches every server of a cluster.
const emptyRounds = 4

// Run moves the batches of its share of the shards until ctx ends and what was read
// is stored, or DrainTimeout is over. It returns nil then; what was not stored stays
// in NATS.
//
// Which shards these are follows from who else is alive, and is looked at again four
// times in Standby. If two collectors take one for theirs, the consumer gives its
// batches to one of them, and the ledger lets one of them store.
func (g *Ingester) Run(ctx context.Context) error {
	k := &keeper{Ingester: g, roster: roster.New(g.JS, roster.Config{
		Terms: strconv.Itoa(g.Streams.Shards), TTL: g.Streams.Standby, Replicas: g.Streams.Replicas,
	})}
	g.mu.Lock()
	g.workers = make(map[consume.Shard]*worker)
	g.mu.Unlock()
	for {
		err := k.round(ctx)
		if ctx.Err() != nil {
			k.end(context.WithoutCancel(ctx))
			return nil
		}
		pause := g.Streams.Standby / emptyRounds
		if err != nil {
			pause = min(pause, time.Second)
			if g.Metrics.mayWarn() {
				g.Log.Warn("cannot agree with other collectors, repeating; this one goes on with what it has", "error", err)
			}
		}
		g.mu.Lock()
		g.trouble = err
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// round looks who is alive and takes or gives up shards accordingly.
func (k *keeper) round(ctx context.Context) error {
	attempt, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := k.roster.Enter(attempt)
	if err != nil {
		return err
	}
	streams, err := k.streams(attempt)
	if err != nil {
		return err
	}
	if err := k.clear(attempt, streams); err != nil {
		return err
	}
	shards, err := k.shards(attempt, streams, list)
	if err != nil {
		k.take(ctx, nil)
		return err
	}
	owner := roster.Assign(shards, list.Equals)
	mine := slices.DeleteFunc(shards, func(s consume.Shard) bool { return owner[s] != list.Self })
	if n := len(list.Equals); k.take(ctx, mine) || n != k.count {
		k.Log.Info("shards are divided among the collectors", "collectors", n, "shards", k.Streams.Shards, "of_this_one", fmt.Sprint(mine))
		k.count = n
	}
	return nil
}

// streams returns the streams, and the first time gives all that is in JetStream
// this collector's configuration.
func (k *keeper) streams(ctx context.Context) (*consume.Streams, error) {
	if k.ensured {
		return consume.Open(ctx, k.JS, k.Streams)
	}
	if _, err := ledger.Ensure(ctx, k.JS, k.Streams.Replicas); err != nil {
		return nil, err
	}
	s, err := consume.Ensure(ctx, k.JS, k.Streams)
	k.ensured = err == nil
	return s, err
}

// shards returns the shards that are to be read now: those of an earlier division
// of the stream, until they are empty, and then the present ones.
func (k *keeper) shards(ctx context.Context, s *consume.Streams, list roster.List) ([]consume.Shard, error) {
	divided, err := s.Divided()
	if err != nil {
		return nil, err
	}
	if divided != k.Streams.Shards && len(list.Others) > 0 {
		return nil, fmt.Errorf("streams.shards is %d here and %s at other collectors that run, and the stream has %d: this one waits; stop all collectors, then start them with one number",
			k.Streams.Shards, strings.Join(list.Others, ", "), divided)
	}
	old, err := s.Old(ctx)
	if err == nil && len(old) == 0 && divided != k.Streams.Shards {
		k.Log.Info("the stream is divided anew; what it holds is stored first", "shards_before", divided, "shards", k.Streams.Shards)
		if err = s.Divide(ctx); err == nil {
			old, err = s.Old(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(old) == 0 {
		return consume.Shards(k.Streams.Shards), nil
	}
	slices.SortFunc(old, func(a, b consume.Shard) int { return cmp.Or(a.Of-b.Of, a.Number-b.Number) })
	return old, nil
}

// take makes this collector have the workers of exactly these shards, or begins to.
// It reports whether anything changes.
func (k *keeper) take(ctx context.Context, shards []consume.Shard) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for shard, w := range k.workers {
		if !w.stopped && !slices.Contains(shards, shard) {
			w.stop()
			w.stopped, changed = true, true
		}
		if w.ended() {
			delete(k.workers, shard)
		}
	}
	for _, shard := range shards {
		if k.workers[shard] == nil { // else it is there, or is just being given up
			k.workers[shard] = k.start(ctx, shard)
			changed = true
		}
	}
	servers := make(map[string]bool)
	for _, w := range k.workers {
		servers[w.Server] = true
	}
	k.sharers.Store(&sharers{workers: max(1, len(k.workers)), servers: max(1, len(servers))})
	k.Metrics.shards.Set(float64(len(shards)))
	return changed
}

func (k *keeper) start(ctx context.Context, shard consume.Shard) *worker {
	w := &worker{Ingester: k.Ingester, Backend: k.Connect(shard), Log: k.Log, shard: shard, done: make(chan struct{})}
	w.line = k.lineOf(w.Server)
	if shard.Of > 1 {
		w.Log = k.Log.With("shard", shard.String())
	}
	ctx, w.stop = context.WithCancel(ctx)
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// clear stops the workers of shards of an earlier division that have been empty for
// long enough, and removes those shards.
func (k *keeper) clear(ctx context.Context, s *consume.Streams) error {
	divided, err := s.Divided()
	if err != nil {
		return err
	}
	k.mu.Lock()
	var old []*worker
	for shard, w := range k.workers {
		if shard.Of != divided && (!w.stopped || w.empty >= emptyRounds) {
			old = append(old, w)
		}
	}
	k.mu.Unlock()
	for _, w := range old {
		empty, err := s.Empty(ctx, w.shard)
		switch {
		case err != nil:
			return err
		case !empty:
			w.empty = 0
			continue
		}
		if w.empty++; w.empty < emptyRounds {
			continue
		}
		w.stop()
		w.stopped = true
		<-w.done // after DrainTimeout at the latest, and at once where there is nothing
		if err := s.Remove(ctx, w.shard); err != nil {
			return err
		}
		k.Log.Info("a shard of the earlier division is empty and removed", "shard", w.shard.String())
	}
	return nil
}

// end stops all workers and tells the others.
func (k *keeper) end(ctx context.Context) {
	for _, w := range k.workers { // nobody changes it any more
		w.stop()
	}
	for _, w := range k.workers {
		<-w.done
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := k.roster.Leave(ctx); err != nil {
		k.Log.Debug("others take over only after streams.standby", "error", err)
	}
}
