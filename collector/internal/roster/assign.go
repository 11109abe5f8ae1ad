package roster

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Assign returns who has which item. Nobody has more than one item more than another,
// and most items stay where they are when a member comes or goes: each goes to the
// member that it ranks highest of those that still have room (rendezvous hashing,
// Thaler and Ravishankar 1998, with bounded loads). The order of members does not
// matter, that of items does.
func Assign[T interface {
	comparable
	String() string
}](items []T, members []string) map[T]string {
	owner := make(map[T]string, len(items))
	if len(members) == 0 {
		return owner
	}
	least, more := len(items)/len(members), len(items)%len(members)
	load := make(map[string]int, len(members))
	for _, item := range items {
		ranked := slices.SortedFunc(slices.Values(members), func(a, b string) int {
			return cmp.Or(cmp.Compare(rank(item.String(), b), rank(item.String(), a)), cmp.Compare(a, b))
		})
		for _, m := range ranked {
			if load[m] < least || load[m] == least && more > 0 {
				if load[m] == least {
					more--
				}
				load[m]++
				owner[item] = m
				break
			}
		}
	}
	return owner
}

func rank(item, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(item + "\x00" + member)) // never fails
	// The last bytes of its input move only the low bits of FNV: mix them (splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
