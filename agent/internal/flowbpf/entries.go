package flowbpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Entries returns how many entries the fuller one of the active flow maps
// holds. It reads them all: some milliseconds for a hundred thousand.
func (d *Datapath) Entries() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := 0
	for family, m := range d.inner[d.generation] {
		var n int
		var err error
		if family == family4 {
			n, err = countMap(m, &d.arena.keys4, &d.arena.flows)
		} else {
			n, err = countMap(m, &d.arena.keys6, &d.arena.flows)
		}
		if err != nil {
			return 0, fmt.Errorf("count flow entries: %w", err)
		}
		most = max(most, n)
	}
	return most, nil
}

// countMap overwrites the first drainBatch elements of keys and flows.
func countMap[K any](m *ebpf.Map, keys *[]K, flows *[]flow) (int, error) {
	if len(*keys) < drainBatch {
		*keys = make([]K, drainBatch)
	}
	if len(*flows) < drainBatch {
		*flows = make([]flow, drainBatch)
	}
	var cursor ebpf.MapBatchCursor
	for n := 0; ; {
		count, err := m.BatchLookup(&cursor, (*keys)[:drainBatch], (*flows)[:drainBatch], nil)
		n += count
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("look up: %w", err)
		}
	}
}
