package flowbpf

import (
	"fmt"
	"math/bits"
	"os"
	"strings"
)

// Probes is EBB_PROBES of bpf/lib/maps.h: how many slots may hold an interface.
const probes = 8

// point is where an interface's totals stand.
type point struct {
	place Place
	// retired: detached, but the totals of the last interval are not drained yet.
	retired bool
}

// pointTable mirrors ebb_points: a hash table with open addressing of which
// lookups always look at all probes, so that a slot can be freed at any time.
// Slot 0 is for packets of interfaces that are not in the table.
type pointTable struct {
	mask  uint32
	table []point // free where the interface's index is 0
}

func newPointTable(maxInterfaces uint32) pointTable {
	size := uint32(1) << bits.Len32(2*maxInterfaces-1)
	return pointTable{mask: size - 1, table: make([]point, 1+size+probes-1)}
}

func (t *pointTable) slots() uint32 { return uint32(len(t.table)) }

// first is the slot that ebb_find_slot of bpf/lib/count.h looks at first.
// Namespaces have the same few indices each, so they lie apart.
func (t *pointTable) first(place Place) uint32 { return 1 + (place.Ifindex+place.NetNS*probes)&t.mask }

// has reports whether the interface has a slot.
func (t *pointTable) has(place Place) bool {
	first := t.first(place)
	for slot := first; slot < first+probes; slot++ {
		if t.table[slot].place == place {
			return true
		}
	}
	return false
}

// add returns the slot of the interface, a new one if it has none.
func (t *pointTable) add(place Place) (slot uint32, err error) {
	first := t.first(place)
	for slot := first; slot < first+probes; slot++ {
		if t.table[slot].place == place {
			t.table[slot].retired = false
			return slot, nil
		}
	}
	for slot := first; slot < first+probes; slot++ {
		if t.table[slot].place.Ifindex == 0 {
			t.table[slot] = point{place: place}
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%w: no slot for interface %d", ErrTooMany, place.Ifindex)
}

// retire marks the interface's slot to be freed after the next drain.
func (t *pointTable) retire(place Place) {
	first := t.first(place)
	for slot := first; slot < first+probes; slot++ {
		if t.table[slot].place == place {
			t.table[slot].retired = true
		}
	}
}

// preemptRT reports whether the kernel can preempt a BPF program by another run
// of it on the same CPU.
func preemptRT() bool {
	b, err := os.ReadFile("/sys/kernel/realtime")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
