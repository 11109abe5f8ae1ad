package ingest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestBlocksAreInsertedInTurnAndOnlyTheFirstGrows(t *testing.T) {
	a, b, c := new(worker), new(worker), new(worker)
	l := &line{inserts: 1}
	one, two, three := l.join(a), l.join(b), l.join(c)
	if !one.isFirst() || two.isFirst() || three.isFirst() {
		t.Error("not only the first may grow")
	}
	three.getReady()
	if !closed(three.begins()) {
		t.Error("one that is ready waits for others that are not")
	}
	one.getReady()
	two.getReady()
	if closed(one.begins()) || closed(two.begins()) {
		t.Error("two inserts at a time")
	}
	three.end()
	if !closed(one.begins()) || closed(two.begins()) || !two.isFirst() {
		t.Error("the second in the line is not the next")
	}
	if first, second := one.large, two.large; first == nil || second == nil || first == second {
		t.Error("the one that is inserted and the one that grows have no loads of their own")
	}
	again := l.join(a)
	if !two.stepBack() {
		t.Error("one that waits cannot step back")
	}
	one.end()
	if closed(two.begins()) {
		t.Error("one that stepped back has the turn")
	}
	again.getReady()
	if !closed(again.begins()) || again.stepBack() {
		t.Error("another does not go before it")
	}
	if again.large != nil || l.loads != 2 {
		t.Errorf("a third large load is made while two are used (%d)", l.loads)
	}
	load := one.large
	one.leave()
	one.leave()
	if len(l.spare) != 1 || l.spare[0] != load {
		t.Errorf("one that left gives back %d loads", len(l.spare))
	}
	two.leave()
	again.leave()
	three.leave()
	if len(l.waiting)+len(l.inserted) != 0 || len(l.spare) != 2 {
		t.Errorf("%d wait, %d are inserted, %d loads are left after all have left", len(l.waiting), len(l.inserted), len(l.spare))
	}
	var none *place
	none.getReady()
	none.leave()
	if none.isFirst() || none.begins() != nil || none.grows() != nil || !none.stepBack() {
		t.Error("who is in no line has a turn")
	}
}

func TestAShardMakesOneInsertAtATime(t *testing.T) {
	a, b := new(worker), new(worker)
	l := &line{inserts: 2}
	one, again, other := l.join(a), l.join(a), l.join(b)
	for _, p := range []*place{one, again, other} {
		p.getReady()
	}
	if !closed(one.begins()) || closed(again.begins()) || !closed(other.begins()) {
		t.Error("of two inserts at a time both are of one shard")
	}
	one.leave()
	if !closed(again.begins()) {
		t.Error("the second of a shard does not follow its first")
	}
}

func TestAllBlocksTogetherHoldTwiceTheLimits(t *testing.T) {
	g := &Ingester{Config: DefaultConfig()}
	if _, first := g.limits(); first.BlockRows != g.Config.BlockRows || first.BlockBytes != g.Config.BlockBytes {
		t.Errorf("a single shard has blocks of %d rows and %d bytes", first.BlockRows, first.BlockBytes)
	}
	for servers := 1; servers <= 64; servers++ {
		for workers := servers; workers <= 64; workers++ {
			for _, g.Config.Inserts = range []int{1, 2, 3, 64} {
				g.sharers.Store(&sharers{workers, servers})
				waiting, first := g.limits()
				inserts := min(g.Config.Inserts, (workers+servers-1)/servers)
				for name, n := range map[string][3]int{
					"rows": {g.Config.BlockRows, waiting.BlockRows, first.BlockRows}, "messages": {g.Config.BlockMessages, waiting.BlockMessages, first.BlockMessages},
					"bytes": {g.Config.BlockBytes, waiting.BlockBytes, first.BlockBytes},
				} {
					total := servers * (inserts + 1) * n[2]
					if workers > servers {
						total += 2 * workers * n[1]
					}
					if total > 2*n[0] || n[1] < 1 || n[2] < n[1] {
						t.Fatalf("%d shards on %d servers, %d inserts at a time: %d %s in all, more than %d (%d, first %d)", workers, servers, g.Config.Inserts, total, name, 2*n[0], n[1], n[2])
					}
				}
			}
		}
	}
}

// slowStore takes its time and notes what it gets.
type slowStore struct {
	mu      sync.Mutex
	now     int
	most    int
	batches []int
}

func (s *slowStore) Write(ctx context.Context, b *sink.Block, _ string) error {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.batches = append(s.batches, b.Longest())
	s.mu.Unlock()
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	return ctx.Err()
}

func (*slowStore) Identity(context.Context) (string, error) { return "slow", nil }

func (*slowStore) Last(context.Context, []stored.Run) (map[stored.Run]uint64, error) {
	return map[stored.Run]uint64{}, nil
}

func (*slowStore) Contains(context.Context, []stored.Batch) ([]stored.Batch, error) { return nil, nil }

// Divided among the shards, each block would have a sixth of the rows.
func TestABacklogOfSixShardsIsInsertedInLargeBlocks(t *testing.T) {
	const batches, flows, blockRows = 3000, 20, 6000
	server := natstest.Start(t)
	js := server.JetStream(t)
	streams := consume.DefaultConfig()
	streams.FlowMaxBytes, streams.DeadLetterMaxBytes, streams.Shards = 64<<20, 16<<20, 6
	if _, err := consume.Ensure(t.Context(), js, streams); err != nil {
		t.Fatal(err)
	}
	f := newTraffic(t, js)
	for range batches {
		f.send(1)
	}
	store := new(slowStore)
	cfg := DefaultConfig()
	cfg.BlockRows, cfg.BlockAge = blockRows, 50*time.Millisecond
	g := &Ingester{
		Config: cfg, Streams: streams, JS: js, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Connect: func(consume.Shard) Backend { return Backend{Store: store, Record: store} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	select {
	case <-empty(t, js):
	case <-time.After(60 * time.Second):
		t.Error("after 60 s not every batch is stored")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	rows, waiting, first := 0, 0, 0
	g.sharers.Store(&sharers{workers: 6, servers: 1})
	small, large := g.limits()
	for _, n := range store.batches {
		rows += n
		switch {
		case n > large.BlockRows+flows:
			t.Errorf("a block has %d rows, more than %d", n, large.BlockRows)
		case n > small.BlockRows+flows:
			first++
		default:
			waiting++
		}
	}
	t.Logf("%d rows in %d inserts: %v", rows, len(store.batches), store.batches)
	if rows != int(f.flows) || store.most != 1 {
		t.Errorf("%d of %d rows are written, %d inserts at a time", rows, f.flows, store.most)
	}
	if mean := rows / len(store.batches); mean < blockRows/3 {
		t.Errorf("a block has %d rows in the mean, of %d", mean, blockRows)
	}
}
