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
			n, err = countMap(&d.arena, &d.arena.keys4, m)
		} else {
			n, err = countMap(&d.arena, &d.arena.keys6, m)
		}
		if err != nil {
			return 0, fmt.Errorf("count flow entries: %w", err)
		}
		most = max(most, n)
	}
	return most, nil
}

func countMap[K any](a *arena, keys *[]K, m *ebpf.Map) (int, error) {
	reserve(a, keys)
	var cursor ebpf.MapBatchCursor
	for n := 0; ; {
		count, err := m.BatchLookup(&cursor, *keys, a.flows, nil)
		n += count
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("look up: %w", err)
		}
	}
}
