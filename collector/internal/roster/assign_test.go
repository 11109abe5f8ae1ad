package roster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type item int

func (i item) String() string { return fmt.Sprint(int(i)) }

func items(n int) []item {
	all := make([]item, n)
	for i := range all {
		all[i] = item(i)
	}
	return all
}

func TestAssignGivesEachItemToOneAndEverybodyAsMany(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		n, m := rnd.IntN(65), 1+rnd.IntN(12)
		var members []string
		for range m {
			members = append(members, fmt.Sprint(rnd.Uint64()))
		}
		owner := Assign(items(n), members)
		shuffled := slices.Clone(members)
		rnd.Shuffle(m, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again := Assign(items(n), shuffled)
		load := make(map[string]int)
		for _, i := range items(n) {
			if owner[i] == "" || owner[i] != again[i] {
				t.Fatalf("item %d of %d goes to %q and, in another order of members, to %q", i, n, owner[i], again[i])
			}
			load[owner[i]]++
		}
		for _, member := range members {
			if l := load[member]; l < n/m || l > (n+m-1)/m {
				t.Fatalf("of %d items for %d one has %d", n, m, l)
			}
		}
	}
	if len(Assign(items(3), nil)) != 0 {
		t.Error("nobody has something")
	}
}

// Without the rank, by position say, most of what could stay would move.
func TestAssignLeavesMostItemsWhereTheyAre(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const n, rounds = 24, 400
	moved, must := 0, 0
	for range rounds {
		members := []string{fmt.Sprint(rnd.Uint64()), fmt.Sprint(rnd.Uint64()), fmt.Sprint(rnd.Uint64())}
		before, after := Assign(items(n), members), Assign(items(n), append(members, fmt.Sprint(rnd.Uint64())))
		for _, i := range items(n) {
			if before[i] != after[i] {
				moved++
			}
		}
		must += n / 4
	}
	if ratio := float64(moved) / float64(must); ratio > 2 {
		t.Errorf("%.2f times as many items move as must", ratio)
	} else {
		t.Logf("%.2f times as many items move as must", ratio)
	}
}
