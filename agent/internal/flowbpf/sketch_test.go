package flowbpf

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// addHash is ebb_sketch_add of bpf/lib/source.h.
func addHash(registers *[sketchSize]uint8, hash uint64) {
	r := &registers[hash%sketchSize]
	*r = max(*r, uint8(1+bits.TrailingZeros64(hash/sketchSize|1<<56)))
}

// sip13 is SipHash-1-3 as ebb_contact_hash does it: without the length that the
// full definition puts into the last word, for the number of words is fixed.
func sip13(key [2]uint64, words ...uint64) uint64 {
	v0, v1, v2, v3 := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d, key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	for _, w := range words {
		v3 ^= w
		round()
		v0 ^= w
	}
	v2 ^= 0xff
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}

// The hash is SipHash-1-3: the first of its published test vectors, for the key
// 00 01 … 0f and the empty message, whose only word is its length, 0.
func TestReferenceHashIsSipHash(t *testing.T) {
	var key [2]uint64
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(i)
	}
	key[0], key[1] = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if got, want := sip13(key, 0), uint64(0xabac0158050fc4dc); got != want {
		t.Errorf("hash of nothing is %#x, want %#x", got, want)
	}
}

func TestSketchOfFewTargetsIsNearlyExact(t *testing.T) {
	if got := estimate(&[sketchSize]uint8{}); got != 0 {
		t.Errorf("an empty sketch tells of %v targets", got)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for trial := range 100 {
		var registers [sketchSize]uint8
		for n := 1; n <= 16; n++ {
			addHash(&registers, random.Uint64())
			// Two that share a register look like one: at most a few among 16.
			if got := estimate(&registers); math.Abs(got-float64(n)) > 3 {
				t.Errorf("trial %d: %v for %d targets", trial, got, n)
			}
		}
	}
}

// For each number of targets many sketches: their mean must be right and their
// error no larger than promised, within three standard errors of each. The seeds
// are fixed, so that the test either always passes or always fails.
func TestSketchKeepsItsPromiseFromOneToAMillion(t *testing.T) {
	for _, n := range []int{1, 3, 10, 30, 100, 200, 500, 1000, 3000, 10_000, 20_000, 100_000, 1_000_000} {
		trials := 400
		if n > 10_000 {
			trials = max(20, 4_000_000/n)
		}
		random := rand.New(rand.NewPCG(uint64(n), 7))
		var sum, squares, worst float64
		for range trials {
			var registers [sketchSize]uint8
			for range n {
				addHash(&registers, random.Uint64())
			}
			e := estimate(&registers)/float64(n) - 1
			sum += e
			squares += e * e
			worst = max(worst, math.Abs(e))
		}
		k := float64(trials)
		mean, rms := sum/k, math.Sqrt(squares/k)
		// The standard error of a mean is σ/√k, that of a deviation about σ/√(2k).
		if limit := 3 * SketchError / math.Sqrt(k); math.Abs(mean) > limit {
			t.Errorf("%d targets: the mean is off by %+.4f, at most %.4f", n, mean, limit)
		}
		if limit := SketchError * (1 + 3/math.Sqrt(2*k)); rms > limit {
			t.Errorf("%d targets: standard error %.4f, at most %.4f", n, rms, limit)
		}
		if worst > max(4.5*SketchError, 1.1/float64(n)) {
			t.Errorf("%d targets: worst of %d is off by %.3f", n, trials, worst)
		}
		t.Logf("%d targets: mean %+.4f, standard error %.4f, worst %.4f", n, mean, rms, worst)
	}
}

// Whatever stands in the registers, the estimate is a number.
func FuzzEstimate(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{57, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var registers [sketchSize]uint8
		for i := range registers {
			if len(data) > 0 {
				registers[i] = data[i%len(data)]
			}
		}
		if got := estimate(&registers); math.IsNaN(got) || got < 0 {
			t.Errorf("estimate is %v", got)
		}
	})
}

func BenchmarkEstimate(b *testing.B) {
	var registers [sketchSize]uint8
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		addHash(&registers, random.Uint64())
	}
	for b.Loop() {
		estimate(&registers)
	}
}
