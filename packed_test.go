package ebbwatch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every width, every length around the loops' 8 values, with and without values
// that are patched in.
func TestPackedColumnsComeBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for width := range 65 {
		for n := range 35 {
			for _, wide := range []int{0, 1, 5} {
				col := make([]uint64, n)
				for i := range col {
					col[i] = rnd.Uint64() >> (64 - width)
				}
				for range min(wide, n) {
					col[rnd.IntN(n)] = rnd.Uint64()
				}
				comesBack(t, fmt.Sprintf("%d values of %d bits, %d wide", n, width, wide), col)
				comesBack(t, fmt.Sprintf("%d values of %d of 32 bits", n, width), narrow[uint32](col))
				comesBack(t, fmt.Sprintf("%d values of %d of 16 bits", n, width), narrow[uint16](col))
				comesBack(t, fmt.Sprintf("%d values of %d of 8 bits", n, width), narrow[uint8](col))
			}
		}
	}
}

func narrow[T integer](col []uint64) []T {
	to := make([]T, len(col))
	for i, v := range col {
		to[i] = T(v)
	}
	return to
}

func comesBack[T integer](t *testing.T, name string, col []T) {
	t.Helper()
	packed := appendPacked(nil, col)
	for _, capacity := range []int{0, unpackAhead} { // with and without bytes behind it
		got, err := unpack([]T{99}, append(make([]byte, 0, len(packed)+capacity), packed...), len(col))
		if err != nil || !slices.Equal(got, col) {
			t.Fatalf("%s: %v reads as %v: %v", name, col, got, err)
		}
	}
}

func TestPackingIsNotMuchLongerThanVarints(t *testing.T) {
	for name, col := range map[string][]uint64{
		"zeros but one":     append(make([]uint64, 99), 1<<40),
		"few bits":          {1, 0, 3, 2, 1, 1, 0, 2, 3, 1, 2, 0, 1, 1, 2, 3},
		"one among a byte":  append(slices.Repeat([]uint64{200, 100, 30}, 33), 1<<60),
		"numbers of 6 bits": slices.Repeat([]uint64{33, 63, 62}, 33),
	} {
		varints := 0
		for _, v := range col {
			for varints++; v >= 0x80; v >>= 7 {
				varints++
			}
		}
		if got := len(appendPacked(nil, col)); got > varints {
			t.Errorf("%s: %d bytes, varints take %d", name, got, varints)
		}
	}
}
