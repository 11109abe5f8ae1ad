package stat

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(1, math.Abs(b)) }

func TestMedianMAD(t *testing.T) {
	for _, test := range []struct {
		name        string
		xs          []float64
		median, mad float64
	}{
		{"an odd number", []float64{9, 1, 5}, 5, 4},
		{"an even number is interpolated", []float64{4, 1, 3, 2}, 2.5, 1},
		{"one outlier moves neither", []float64{1, 1, 1, 1, 1e9}, 1, 0},
		{"one value", []float64{7}, 7, 0},
	} {
		median, mad := MedianMAD(test.xs)
		if !near(median, test.median) || !near(mad, test.mad) {
			t.Errorf("%s: %v, %v; want %v, %v", test.name, median, mad, test.median, test.mad)
		}
	}
	if median, mad := MedianMAD(nil); !math.IsNaN(median) || !math.IsNaN(mad) {
		t.Errorf("no values: %v, %v; want NaN", median, mad)
	}
}

func TestQuantileInterpolates(t *testing.T) {
	xs := []float64{10, 20, 30, 40, 50}
	for q, want := range map[float64]float64{0: 10, 0.25: 20, 0.5: 30, 0.95: 48, 1: 50} {
		if got := Quantile(xs, q); !near(got, want) {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

// The reference values were computed by summing the terms of the distribution
// with exact rational numbers.
func TestBinomialTail(t *testing.T) {
	for _, test := range []struct {
		k, n    uint64
		p, want float64
	}{
		{0, 10, 0.2, 1}, {11, 10, 0.2, 0}, {1, 1, 0.2, 0.2}, {10, 10, 0.5, 1.0 / 1024}, {5, 10, 0.5, 638.0 / 1024}, {2, 3, 0.2, 0.104},
	} {
		if got := BinomialTail(test.k, test.n, test.p); !near(got, test.want) {
			t.Errorf("P(X ≥ %d), n=%d, p=%v: %v, want %v", test.k, test.n, test.p, got, test.want)
		}
	}
	if p := BinomialTail(1_000_000, 1_000_000, 0.2); p != 0 && !(p > 0 && p < 1e-300) {
		t.Errorf("a million failures of a million: %v", p)
	}
}

func TestNormalTail(t *testing.T) {
	for z, want := range map[float64]float64{0: 0.5, 1.959963984540054: 0.025, 40: 0} {
		if got := NormalTail(z); math.Abs(got-want) > 1e-12 {
			t.Errorf("P(Z ≥ %v) is %v, want %v", z, got, want)
		}
	}
}

func TestBenjamini(t *testing.T) {
	// The example of Benjamini & Hochberg (1995), section 3.2: at 0.05 four
	// hypotheses are rejected, of which Bonferroni finds three.
	paper := []float64{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1}
	for _, test := range []struct {
		name  string
		ps    []float64
		tests int
		rate  float64
		want  float64
	}{
		{"the example of the paper", paper, 15, 0.05, 0.0095},
		{"tests that were left out count", paper[:4], 15, 0.05, 0.0095},
		{"among very many tests only the smallest stand", paper, 400, 0.05, 0.0001},
		{"nothing stands out", []float64{0.3, 0.5}, 2, 0.05, 0},
		{"no tests", nil, 0, 0.05, 0},
		{"zeros always stand", []float64{0, 1}, 1_000_000, 0.001, 0},
	} {
		if got := Benjamini(test.ps, test.tests, test.rate); got != test.want {
			t.Errorf("%s: threshold %v, want %v", test.name, got, test.want)
		}
	}
}

func TestSaturate(t *testing.T) {
	for x, want := range map[float64]float64{-1: 0, 0: 0, 5: 0.5, 15: 0.75} {
		if got := Saturate(x, 5); got != want {
			t.Errorf("Saturate(%v, 5) is %v, want %v", x, got, want)
		}
	}
}
