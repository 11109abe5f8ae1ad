package ingest

import (
	"slices"
	"sync"

	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// line is where the blocks of all shards wait that go to the same ClickHouse server.
// Few inserts are made at a time there, and while they last the block that waits
// first may grow: a few large parts cost ClickHouse less than many small ones, which
// its merges have to make large. The memory of large blocks belongs to the line and
// goes from shard to shard. Its methods may be called concurrently.
type line struct {
	inserts  int // at a time
	enricher sink.Enricher

	mu       sync.Mutex
	waiting  []*place // in the order in which they came
	inserted []*place // that have their turn
	loads    int      // large ones that exist: one for each insert, and one that is filled
	spare    []*load  // of them
}

// place is a block's place in a line. All its methods may be called of nil, which is
// in no line.
type place struct {
	line  *line
	shard *worker
	ready bool
	large *load         // from when it may grow until it leaves
	first chan struct{} // closed once no other waits before it and it has large
	turn  chan struct{} // closed once its insert may begin
}

// join lets a block wait.
func (l *line) join(shard *worker) *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &place{line: l, shard: shard, first: make(chan struct{}), turn: make(chan struct{})}
	l.waiting = append(l.waiting, p)
	l.move()
	return p
}

// move gives turns to those that are ready, one of each shard, and tells who is first.
func (l *line) move() {
	for i := 0; i < len(l.waiting) && len(l.inserted) < l.inserts; {
		p := l.waiting[i]
		if !p.ready || slices.ContainsFunc(l.inserted, func(other *place) bool { return other.shard == p.shard }) {
			i++
			continue
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.inserted = append(l.inserted, p)
		close(p.turn)
	}
	if len(l.waiting) == 0 || l.waiting[0].isFirst() {
		return
	}
	if p := l.waiting[0]; l.take(p) {
		close(p.first)
	}
}

// take gives p a large load, if there is one.
func (l *line) take(p *place) bool {
	switch n := len(l.spare); {
	case n > 0:
		p.large, l.spare = l.spare[n-1], l.spare[:n-1]
	case l.loads <= l.inserts:
		l.loads++
		p.large = newLoad(l.enricher)
	default: // the acknowledgements of an insert take a moment longer than its turn
		return false
	}
	return true
}

// isFirst reports whether the block may grow.
func (p *place) isFirst() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.first:
		return true
	default:
		return false
	}
}

// begins returns the channel that is closed when the insert may begin.
func (p *place) begins() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.turn
}

// grows returns the channel that is closed when the block may grow, nil if that is so
// already.
func (p *place) grows() <-chan struct{} {
	if p == nil || p.isFirst() {
		return nil
	}
	return p.first
}

// getReady lets the insert begin as soon as it is the block's turn. Until then
// others go before it.
func (p *place) getReady() {
	if p == nil {
		return
	}
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	if !p.ready {
		p.ready = true
		p.line.move()
	}
}

// stepBack lets others go before it until it is ready again. It reports false if the
// insert may begin already.
func (p *place) stepBack() bool {
	if p == nil {
		return true
	}
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	p.ready = false
	select {
	case <-p.turn:
		return false
	default:
		return true
	}
}

// end ends the turn, or the waiting for it. It may be called again.
func (p *place) end() {
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	is := func(other *place) bool { return other == p }
	p.line.waiting = slices.DeleteFunc(p.line.waiting, is)
	p.line.inserted = slices.DeleteFunc(p.line.inserted, is)
	p.line.move()
}

// leave is end once nobody uses its load any more. It may be called again.
func (p *place) leave() {
	if p == nil {
		return
	}
	p.end()
	if p.large == nil { // and nobody gives it one any more
		return
	}
	p.large.reset()
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	p.line.spare = append(p.line.spare, p.large)
	p.large = nil
	p.line.move()
}
