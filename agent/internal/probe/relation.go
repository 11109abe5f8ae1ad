package probe

import (
	"slices"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// maxBelow bounds what is remembered to lie below one interface, and with it what
// a question costs. More than a few happens where a bond has many ports.
const maxBelow = 64

// relations answers whether two interfaces see the same packets of a
// conversation. It never changes once made, so that drains can use it while the
// next one is made.
//
// # What is related
//
// Interfaces that hand each packet on to one another form a segment: the two ends
// of a veth pair, a bridge and its ports. Below a segment lie the interfaces that
// its members send through: the parent of a VLAN or macvlan, the ports of a bond,
// the device below a tunnel; below those, others. Two interfaces are related if
// they are in one segment; if one lies below the other; or if both have a common
// segment below, which they enter by different members: a VLAN of a container's
// interface, and the same VLAN of the bridge that it is plugged into.
//
// Not related are two VLANs of one parent and two ports of one bond: each carries
// packets of its own, even of one conversation. Nor are two interfaces between
// which the host routes: what comes in by one goes out by the other, which
// conn.Table knows by the direction.
type relations struct {
	segment map[flowbpf.Place]int32
	below   map[int32][]entrance // of each segment that has something below
}

// entrance is a segment, and the member by which one comes into it from above.
type entrance struct {
	segment int32
	via     flowbpf.Place
}

// related reports whether a and b see the same packets. It costs two or four
// look-ups in maps; what lies below an interface is mostly nothing, or one.
func (r *relations) related(a, b flowbpf.Place) bool {
	if r == nil || a == b {
		return a == b
	}
	segA, okA := r.segment[a]
	segB, okB := r.segment[b]
	if !okA || !okB {
		return false
	}
	if segA == segB {
		return true
	}
	belowA, belowB := r.below[segA], r.below[segB]
	return crosses(belowA, segB) || crosses(belowB, segA) || meet(belowA, belowB)
}

func crosses(below []entrance, segment int32) bool {
	return slices.ContainsFunc(below, func(e entrance) bool { return e.segment == segment })
}

// meet reports whether two ways down lead into one segment by different members.
func meet(a, b []entrance) bool {
	for _, x := range a {
		for _, y := range b {
			if x.segment == y.segment && x.via != y.via {
				return true
			}
		}
	}
	return false
}

// relate makes the relations of all devices of all namespaces.
func relate(list []device) *relations {
	index := make(map[flowbpf.Place]int, len(list))
	for i := range list {
		index[list[i].place] = i
	}
	g := newForest(len(list))
	lowers := make(map[int][]int) // by device
	for i := range list {
		d := &list[i]
		if p, ok := index[d.peer]; ok {
			g.join(i, p)
		}
		if l, ok := index[d.lower]; ok {
			lowers[i] = append(lowers[i], l)
		}
		if m, ok := index[d.master]; ok {
			if list[m].is(switches) {
				g.join(i, m)
			} else {
				lowers[m] = append(lowers[m], i)
			}
		}
	}
	r := &relations{segment: make(map[flowbpf.Place]int32, len(list)), below: make(map[int32][]entrance)}
	direct := make(map[int32][]entrance)
	for i := range list {
		s := int32(g.root(i))
		r.segment[list[i].place] = s
		for _, l := range lowers[i] {
			if to := int32(g.root(l)); to != s {
				direct[s] = append(direct[s], entrance{to, list[l].place})
			}
		}
	}
	for s := range direct {
		r.below[s] = descend(s, direct)
	}
	return r
}

// descend follows the ways down from segment, each at most once.
func descend(segment int32, direct map[int32][]entrance) []entrance {
	var found []entrance
	queue := []int32{segment}
	for len(queue) > 0 {
		for _, e := range direct[queue[0]] {
			if len(found) == maxBelow {
				return found
			}
			if !slices.Contains(found, e) && e.segment != segment {
				found = append(found, e)
				queue = append(queue, e.segment)
			}
		}
		queue = queue[1:]
	}
	return found
}

// forest joins numbers into sets.
type forest []int

func newForest(n int) forest {
	f := make(forest, n)
	for i := range f {
		f[i] = i
	}
	return f
}

func (f forest) root(i int) int {
	for f[i] != i {
		f[i] = f[f[i]]
		i = f[i]
	}
	return i
}

func (f forest) join(a, b int) { f[f.root(a)] = f.root(b) }
