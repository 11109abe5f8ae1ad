package flowbpf

import "math"

// sketchSize is EBB_SKETCH of bpf/lib/warning_maps.h, m in the papers.
const sketchSize = 256

// SketchError is the relative standard error of Source.Targets: 1.04/√m
// (Flajolet et al., HyperLogLog, 2007). Few targets are told more exactly.
const SketchError = 1.04 / 16

// maxRank is the largest value of a register: 56 bits of the hash remain for it.
const maxRank = 57

// estimate returns how many distinct hashes the sketch was given: the estimator
// of Ertl (New cardinality estimation algorithms for HyperLogLog sketches, 2017,
// section 4), which needs neither a table of corrections nor another formula for
// small numbers. A register beyond maxRank counts as that.
func estimate(registers *[sketchSize]uint8) float64 {
	var count [maxRank + 1]float64 // registers, by value
	for _, r := range registers {
		count[min(r, maxRank)]++
	}
	const m = sketchSize
	z := m * tau(1-count[maxRank]/m)
	for k := maxRank - 1; k >= 1; k-- {
		z = (z + count[k]) / 2
	}
	z += m * sigma(count[0]/m)
	return m * m / (2 * math.Ln2 * z)
}

// sigma is x + Σ x^(2^k)·2^(k−1) over k ≥ 1, for 0 ≤ x ≤ 1.
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1) // nothing was counted
	}
	sum, weight := x, 1.0
	for {
		x *= x
		before := sum
		sum += x * weight
		weight *= 2
		if sum == before {
			return sum
		}
	}
}

// tau is (1 − x − Σ (1 − x^(2^−k))²·2^(−k) over k ≥ 1) / 3, for 0 ≤ x ≤ 1.
func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	sum, weight := 1-x, 1.0
	for {
		x = math.Sqrt(x)
		before := sum
		weight /= 2
		sum -= (1 - x) * (1 - x) * weight
		if sum == before {
			return sum / 3
		}
	}
}
