package ledger

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestRanges(t *testing.T) {
	for name, test := range map[string]struct {
		start       Ranges
		first, last uint64
		want        Ranges
	}{
		"into the empty set":             {nil, 3, 5, Ranges{{3, 5}}},
		"before everything":              {Ranges{{10, 12}}, 3, 5, Ranges{{3, 5}, {10, 12}}},
		"after everything":               {Ranges{{1, 2}}, 4, 5, Ranges{{1, 2}, {4, 5}}},
		"touching from below joins":      {Ranges{{6, 8}}, 3, 5, Ranges{{3, 8}}},
		"touching from above joins":      {Ranges{{1, 2}}, 3, 5, Ranges{{1, 5}}},
		"a gap that is filled vanishes":  {Ranges{{1, 2}, {4, 5}}, 3, 3, Ranges{{1, 5}}},
		"what is inside changes nothing": {Ranges{{1, 9}}, 3, 5, Ranges{{1, 9}}},
		"a large range swallows":         {Ranges{{2, 3}, {5, 6}, {20, 21}}, 1, 10, Ranges{{1, 10}, {20, 21}}},
		"an empty range is ignored":      {Ranges{{2, 3}}, 5, 4, Ranges{{2, 3}}},
		"at the end of the numbers":      {Ranges{{1, 2}}, 1<<63 - 1, 1<<63 - 1, Ranges{{1, 2}, {1<<63 - 1, 1<<63 - 1}}},
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
		var r Ranges
		set := make(map[uint64]bool)
		for range 40 {
			first := 1 + rnd.Uint64N(200)
			last := first + rnd.Uint64N(6)
			r = r.Add(first, last)
			for s := first; s <= last; s++ {
				set[s] = true
			}
			if !r.valid() {
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
