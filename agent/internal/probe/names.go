package probe

import (
	"strconv"
	"sync"
)

// names remembers what interfaces are called, also after they went: their last
// packets come with a later drain. It has a lock of its own, which is held for
// nothing else: a drain asks for names while it keeps the datapath from
// attaching anything.
type names struct {
	mu   sync.Mutex
	of   map[uint32]string
	gone map[uint32]int // drains since the interface went
}

func newNames() *names { return &names{of: make(map[uint32]string), gone: make(map[uint32]int)} }

func (n *names) get(index uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.of[index]; ok {
		return name
	}
	return "if" + strconv.FormatUint(uint64(index), 10)
}

func (n *names) set(index int, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[uint32(index)] = name
	delete(n.gone, uint32(index))
}

// retire keeps the name for two more drains.
func (n *names) retire(index int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone[uint32(index)] = 0
}

func (n *names) drained() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for index := range n.gone {
		if n.gone[index]++; n.gone[index] > 2 {
			delete(n.gone, index)
			delete(n.of, index)
		}
	}
}
