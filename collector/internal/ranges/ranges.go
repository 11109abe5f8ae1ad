// Package ranges holds sets of numbers that come nearly in a row.
package ranges

import (
	"slices"
	"sort"
)

// Set is a set of numbers: disjoint, ascending, inclusive ranges
// that do not touch. The zero value is the empty set.
type Set [][2]uint64

// Of returns the set of the given numbers, which it sorts.
func Of(numbers []uint64) Set {
	slices.Sort(numbers)
	var r Set
	for _, s := range numbers {
		if n := len(r); n > 0 && s-r[n-1][1] <= 1 {
			r[n-1][1] = max(r[n-1][1], s)
			continue
		}
		r = append(r, [2]uint64{s, s})
	}
	return r
}

// Contains reports whether s is in the set.
func (r Set) Contains(s uint64) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i][1] >= s })
	return i < len(r) && r[i][0] <= s
}

// Count returns how many numbers are in the set.
func (r Set) Count() uint64 {
	var n uint64
	for _, x := range r {
		n += x[1] - x[0] + 1
	}
	return n
}

// Add returns the set with first to last added. It may reuse r's memory.
func (r Set) Add(first, last uint64) Set {
	if first > last {
		return r
	}
	// i is the first range that reaches first-1, j the first that begins after
	// last+1; the numbers may be the largest there are.
	i := sort.Search(len(r), func(i int) bool { return r[i][1] >= first || first-r[i][1] == 1 })
	j := sort.Search(len(r), func(j int) bool { return r[j][0] > last && r[j][0]-last > 1 })
	if i < j {
		first, last = min(first, r[i][0]), max(last, r[j-1][1])
	}
	return slices.Replace(r, i, j, [2]uint64{first, last})
}

// AddAll returns the union of r and other. It may reuse r's memory.
func (r Set) AddAll(other Set) Set {
	for _, x := range other {
		r = r.Add(x[0], x[1])
	}
	return r
}

// Valid reports whether r keeps the invariants of the type: it may come from
// a file that something else wrote.
func (r Set) Valid() bool {
	for i, x := range r {
		if x[0] == 0 || x[1] < x[0] || i > 0 && x[0] <= r[i-1][1] {
			return false
		}
	}
	return true
}
