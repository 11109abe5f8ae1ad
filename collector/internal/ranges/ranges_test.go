package ranges

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestRanges(t *testing.T) {
	for name, test := range map[string]struct {
		start       Set
		first, last uint64
		want        Set
	}{
		"into the empty set":             {nil, 3, 5, Set{{3, 5}}},
		"before everything":              {Set{{10, 12}}, 3, 5, Set{{3, 5}, {10, 12}}},
		"after everything":               {Set{{1, 2}}, 4, 5, Set{{1, 2}, {4, 5}}},
		"touching from below joins":      {Set{{6, 8}}, 3, 5, Set{{3, 8}}},
		"touching from above joins":      {Set{{1, 2}}, 3, 5, Set{{1, 5}}},
		"a gap that is filled vanishes":  {Set{{1, 2}, {4, 5}}, 3, 3, Set{{1, 5}}},
		"what is inside changes nothing": {Set{{1, 9}}, 3, 5, Set{{1, 9}}},
		"a large range swallows":         {Set{{2, 3}, {5, 6}, {20, 21}}, 1, 10, Set{{1, 10}, {20, 21}}},
		"an empty range is ignored":      {Set{{2, 3}}, 5, 4, Set{{2, 3}}},
		"the largest number":             {Set{{1, 2}}, 1<<64 - 1, 1<<64 - 1, Set{{1, 2}, {1<<64 - 1, 1<<64 - 1}}},
		"the largest number again":       {Set{{1, 2}, {1<<64 - 1, 1<<64 - 1}}, 1<<64 - 1, 1<<64 - 1, Set{{1, 2}, {1<<64 - 1, 1<<64 - 1}}},
		"below the largest number":       {Set{{1<<64 - 1, 1<<64 - 1}}, 0, 1<<64 - 2, Set{{0, 1<<64 - 1}}},
		"at the end of the numbers":      {Set{{1, 2}}, 1<<63 - 1, 1<<63 - 1, Set{{1, 2}, {1<<63 - 1, 1<<63 - 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := slices.Clone(test.start).Add(test.first, test.last); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v plus [%d %d] is %v, want %v", test.start, test.first, test.last, got, test.want)
			}
		})
	}
}

func TestRangesAgreeWithASet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var r Set
		set := make(map[uint64]bool)
		for range 40 {
			first := 1 + rnd.Uint64N(200)
			last := first + rnd.Uint64N(6)
			r = r.Add(first, last)
			for s := first; s <= last; s++ {
				set[s] = true
			}
			if !r.Valid() {
				t.Fatalf("not ascending and disjoint: %v", r)
			}
		}
		var all []uint64
		for s := range uint64(220) {
			if r.Contains(s) != set[s] {
				t.Fatalf("Contains(%d) is %v in %v", s, r.Contains(s), r)
			}
			if set[s] {
				all = append(all, s)
			}
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if of := Of(all); !reflect.DeepEqual(of, r) || of.Count() != uint64(len(set)) {
			t.Fatalf("Of gives %v (%d), Add gave %v (%d)", of, of.Count(), r, len(set))
		}
	}
}
