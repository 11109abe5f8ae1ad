package stored

import (
	"context"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
)

// connections of a Pool: a small ClickHouse takes 50 in all, and a collector may read
// 64 shards.
const connections = 4

// Pool asks the database for all shards of a collector, over a few connections. It may
// be used concurrently.
type Pool struct{ idle chan *Table }

// NewPool returns a pool that has not connected yet.
func NewPool(conn chconn.Config) *Pool {
	p := &Pool{make(chan *Table, connections)}
	for range connections {
		p.idle <- NewTable(conn)
	}
	return p
}

// Last is Table.Last, once a connection is free.
func (p *Pool) Last(ctx context.Context, runs []Run) (map[Run]uint64, error) {
	return with(ctx, p, func(t *Table) (map[Run]uint64, error) { return t.Last(ctx, runs) })
}

// Contains is Table.Contains, once a connection is free.
func (p *Pool) Contains(ctx context.Context, batches []Batch) ([]Batch, error) {
	return with(ctx, p, func(t *Table) ([]Batch, error) { return t.Contains(ctx, batches) })
}

func with[T any](ctx context.Context, p *Pool, question func(*Table) (T, error)) (answer T, err error) {
	select {
	case t := <-p.idle:
		defer func() { p.idle <- t }()
		return question(t)
	case <-ctx.Done():
		return answer, context.Cause(ctx)
	}
}

// Close closes the connections once nobody asks any more; the next question opens a new one.
func (p *Pool) Close() {
	for range connections {
		t := <-p.idle
		t.Close()
		p.idle <- t
	}
}
