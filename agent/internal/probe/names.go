package probe

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// names remembers what interfaces and namespaces are called, also after they went:
// their last packets come with a later drain. It has a lock of its own, which is
// held for nothing else: a drain asks for names while it keeps the datapath from
// attaching anything.
type names struct {
	mu     sync.Mutex
	of     map[flowbpf.Place]string
	gone   map[flowbpf.Place]int // drains since the interface went
	spaces map[uint32]string     // by number; kept while one of its interfaces is
}

func newNames() *names {
	return &names{of: make(map[flowbpf.Place]string), gone: make(map[flowbpf.Place]int), spaces: make(map[uint32]string)}
}

func (n *names) get(place flowbpf.Place) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.of[place]; ok {
		return name
	}
	return "if" + strconv.FormatUint(uint64(place.Ifindex), 10)
}

func (n *names) space(number uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spaces[number]
}

// set names an interface, and its namespace.
func (n *names) set(place flowbpf.Place, name, space string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[place] = printable(name, unix.IFNAMSIZ)
	if place.NetNS != 0 {
		n.spaces[place.NetNS] = space
	}
	delete(n.gone, place)
}

// call gives a namespace of which interfaces are known another name.
func (n *names) call(number uint32, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.spaces[number]; ok {
		n.spaces[number] = name
	}
}

// retire keeps the name for two more drains.
func (n *names) retire(place flowbpf.Place) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone[place] = 0
}

func (n *names) drained() {
	n.mu.Lock()
	defer n.mu.Unlock()
	went := false
	for place := range n.gone {
		if n.gone[place]++; n.gone[place] > 2 {
			delete(n.gone, place)
			delete(n.of, place)
			went = true
		}
	}
	if !went {
		return
	}
	used := make(map[uint32]bool)
	for place := range n.of {
		used[place.NetNS] = true
	}
	for number := range n.spaces {
		if !used[number] {
			delete(n.spaces, number)
		}
	}
}
