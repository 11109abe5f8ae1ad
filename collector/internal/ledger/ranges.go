package ledger

import (
	"slices"
	"sort"
)

// Ranges is a set of stream sequences: disjoint, ascending, inclusive ranges
// that do not touch. The zero value is the empty set.
type Ranges [][2]uint64

// Of returns the set of the given sequences, which it sorts.
func Of(sequences []uint64) Ranges {
	slices.Sort(sequences)
	var r Ranges
	for _, s := range sequences {
		if n := len(r); n > 0 && s <= r[n-1][1]+1 {
			r[n-1][1] = max(r[n-1][1], s)
			continue
		}
		r = append(r, [2]uint64{s, s})
	}
	return r
}

// Contains reports whether s is in the set.
func (r Ranges) Contains(s uint64) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i][1] >= s })
	return i < len(r) && r[i][0] <= s
}

// Count returns the number of sequences in the set.
func (r Ranges) Count() uint64 {
	var n uint64
	for _, x := range r {
		n += x[1] - x[0] + 1
	}
	return n
}

// Add returns the set with first to last added. It may reuse r's memory.
func (r Ranges) Add(first, last uint64) Ranges {
	if first > last {
		return r
	}
	// i is the first range that reaches first-1, j the first that begins after last+1.
	i := sort.Search(len(r), func(i int) bool { return r[i][1]+1 >= first })
	j := sort.Search(len(r), func(j int) bool { return r[j][0] > last+1 })
	if i < j {
		first, last = min(first, r[i][0]), max(last, r[j-1][1])
	}
	return slices.Replace(r, i, j, [2]uint64{first, last})
}

// AddAll returns the union of r and other. It may reuse r's memory.
func (r Ranges) AddAll(other Ranges) Ranges {
	for _, x := range other {
		r = r.Add(x[0], x[1])
	}
	return r
}

// valid reports whether r keeps the invariants of the type: it may come from
// a file that something else wrote.
func (r Ranges) valid() bool {
	for i, x := range r {
		if x[0] == 0 || x[1] < x[0] || i > 0 && x[0] <= r[i-1][1] {
			return false
		}
	}
	return true
}
