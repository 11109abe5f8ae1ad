// Package stat holds the statistics that the detectors share.
package stat

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// MADScale makes the median absolute deviation of normal data equal to its
// standard deviation (Rousseeuw & Croux 1993).
const MADScale = 1.4826

// Median returns the median of xs, which it sorts; NaN for none.
func Median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	slices.Sort(xs)
	return Quantile(xs, 0.5)
}

// MedianMAD returns the median of xs and the median of the absolute deviations
// from it, unscaled. It changes xs. Both are NaN for none.
func MedianMAD(xs []float64) (median, mad float64) {
	median = Median(xs)
	for i, x := range xs {
		xs[i] = math.Abs(x - median)
	}
	return median, Median(xs)
}

// Quantile returns the q-quantile of the sorted xs, which must not be empty, with
// linear interpolation (Hyndman & Fan type 7).
func Quantile(xs []float64, q float64) float64 {
	at := q * float64(len(xs)-1)
	i := int(at)
	if i+1 >= len(xs) {
		return xs[len(xs)-1]
	}
	return xs[i] + (at-float64(i))*(xs[i+1]-xs[i])
}

// BinomialTail returns P(X ≥ k) for X binomial with n trials of probability p.
func BinomialTail(k, n uint64, p float64) float64 {
	switch {
	case k == 0:
		return 1
	case k > n:
		return 0
	}
	return mathext.RegIncBeta(float64(k), float64(n-k)+1, p)
}

// NormalTail returns P(Z ≥ z) for a standard normal Z.
func NormalTail(z float64) float64 { return distuv.UnitNormal.Survival(z) }

// Benjamini returns the largest p-value that is still a discovery when tests
// hypotheses were tested in all and the false discovery rate is to be at most
// rate, 0 if none is (Benjamini & Hochberg 1995). ps are the p-values of any of
// the tests; those left out count as 1. ps is not changed.
func Benjamini(ps []float64, tests int, rate float64) float64 {
	tests = max(tests, len(ps))
	sorted := slices.SortedFunc(slices.Values(ps), cmp.Compare[float64])
	for i, p := range slices.Backward(sorted) {
		if p <= rate*float64(i+1)/float64(tests) {
			return p
		}
	}
	return 0
}

// Saturate maps x ≥ 0 to 0…1: half at x = half, and ever closer to 1 above.
func Saturate(x, half float64) float64 {
	if x <= 0 {
		return 0
	}
	return x / (x + half)
}
