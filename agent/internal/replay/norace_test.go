//go:build !race

package replay

// raceDetector says that the test runs ten times slower.
const raceDetector = false
