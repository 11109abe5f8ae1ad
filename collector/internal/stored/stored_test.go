package stored

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestASetAgreesWithTheTableAndWhatWasAdded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		// What the database has before the session, and what the session adds.
		table, added := make(map[uint64]bool), make(map[uint64]bool)
		var last uint64
		for range rnd.IntN(20) {
			n := rnd.Uint64N(30)
			table[n], last = true, max(last, n)
		}
		var s Set
		r := Run{"web-1", "boot"}
		if s.Status(r, 1) != Unknown {
			t.Fatal("a run that nobody told of is known")
		}
		s.Learn(r, last)
		for range 60 {
			n := rnd.Uint64N(60)
			switch status := s.Status(r, n); {
			case status == Stored && !table[n] && !added[n]:
				t.Fatalf("%d is stored, but is not", n)
			case status == New && (table[n] || added[n]):
				t.Fatalf("%d is new, but is stored", n)
			case status == Unknown && n > last:
				t.Fatalf("%d is unknown, but above %d", n, last)
			case status == Stored:
				continue
			}
			s.Add(r, n)
			added[n] = true
			if s.Status(r, n) != Stored {
				t.Fatalf("%d was added and is not stored", n)
			}
		}
	}
}

func TestASetIsFullBeforeItTakesMuchMemory(t *testing.T) {
	for name, add := range map[string]func(*Set, int){
		"many runs": func(s *Set, i int) { s.Learn(Run{"web-1", fmt.Sprint(i)}, 0) },
		"many gaps": func(s *Set, i int) { s.Learn(Run{"web-1", "a"}, 0); s.Add(Run{"web-1", "a"}, uint64(2*i)) },
	} {
		t.Run(name, func(t *testing.T) {
			var s Set
			n := 0
			for ; !s.Full(); n++ {
				if add(&s, n); n > 5_000_000 {
					t.Fatal("it never is")
				}
			}
			if n < 200_000 {
				t.Errorf("full after %d", n)
			}
			s.Reset()
			if s.Full() || s.Knows(Run{"web-1", "0"}) {
				t.Error("not empty after Reset")
			}
		})
	}
}
