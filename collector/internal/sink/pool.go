package sink

import (
	"context"
	"sync"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
)

// Pool inserts into one server for several shards, over as many connections as
// inserts are made at a time: each keeps a buffer as large as its largest insert. It
// may be used concurrently.
type Pool struct {
	sibling *Writer // of those in idle; it makes no insert itself

	mu   sync.Mutex
	idle []*Writer
}

// Pool returns a pool of writers to where conn says, that count into the same metrics
// as w and share its Health.
func (w *Writer) Pool(conn chconn.Config) *Pool { return &Pool{sibling: w.sibling(conn)} }

// Write is Writer.Write, over a connection that nobody else uses meanwhile.
func (p *Pool) Write(ctx context.Context, b *Block, token string) error {
	w := p.take()
	defer p.put(w)
	return w.Write(ctx, b, token)
}

// Identity is Writer.Identity.
func (p *Pool) Identity(ctx context.Context) (string, error) { return p.sibling.Identity(ctx) }

func (p *Pool) take() *Writer {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return p.sibling.sibling(p.sibling.conn)
	}
	w := p.idle[last]
	p.idle = p.idle[:last]
	return w
}

func (p *Pool) put(w *Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, w)
}

// Close closes the connections once nobody writes any more.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.idle {
		w.Close()
	}
	p.idle = nil
}
