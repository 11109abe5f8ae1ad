// Package suite is which tests run on other kernels, and what became of them.
package suite

import (
	"cmp"
	"regexp"
	"strings"
	"time"
)

// Package is a package whose tests run in the virtual machine.
type Package struct {
	Path  string        // relative to the repository
	Leave []Left        // tests that do not run there
	Slow  []Left        // tests that a quick run leaves out, too
	Limit time.Duration // 5 minutes if it is 0
}

// Quick returns p without its slow tests.
func (p Package) Quick() Package {
	p.Leave = append(append([]Left(nil), p.Leave...), p.Slow...)
	return p
}

// Left is a test that is left out, and why.
type Left struct{ Test, Why string }

// Packages returns every package that runs on other kernels. One that uses
// BPF belongs here (a test of this package looks), with a line for each test
// that cannot run in a machine that has nothing but the kernel and the test.
func Packages() []Package {
	return []Package{
		{Path: "agent/internal/flowbpf", Limit: 10 * time.Minute, Leave: []Left{
			{"TestParserAgreesWithTshark", "needs tshark"},
		}, Slow: []Left{
			{"TestScanOf20000PortsIsAccountedInFull", "25 s"},
			{"TestDrainUnderTrafficConservesEveryPacket", "40 s"},
			{"TestParsersAgreeWithTheReference", "60 s"},
		}},
		{Path: "agent/internal/flowbpf/bench"},
		{Path: "agent/internal/owner"},
		{Path: "agent/internal/seed"},
		{Path: "agent/internal/trace"},
		{Path: "agent/internal/replay"},
		{Path: "agent/internal/privilege"},
		{Path: "agent/internal/doctor"},
		{Path: "agent/internal/probe"},
		{Path: "agent/app", Limit: 10 * time.Minute, Leave: []Left{
			{"TestBinaryStartsAndEndsWithoutNATS", "compiles the agent"},
			{"TestAgentWorksOnWithWhatItKeeps", "compiles the agent"},
		}},
	}
}

// skips are the reasons for which a test may skip itself on another kernel.
// Whatever else skips there is a mistake: it would look like a success.
var skips = []*regexp.Regexp{
	regexp.MustCompile(`^this kernel has no tcx$`),
}

// maySkip reports whether the reason is one of skips.
func maySkip(reason string) bool {
	for _, s := range skips {
		if s.MatchString(reason) {
			return true
		}
	}
	return false
}

// Args returns the arguments of p's test binary. only is a pattern as of go test
// -run, "" for all tests.
func (p Package) Args(only string) []string {
	args := []string{"-test.v=test2json", "-test.short", "-test.paniconexit0", "-test.timeout=" + p.limit().String()}
	if only != "" {
		args = append(args, "-test.run="+only)
	}
	if len(p.Leave) > 0 {
		names := make([]string, len(p.Leave))
		for i, l := range p.Leave {
			names[i] = exactly(l.Test)
		}
		args = append(args, "-test.skip="+strings.Join(names, "|"))
	}
	return args
}

func (p Package) limit() time.Duration {
	return cmp.Or(p.Limit, 5*time.Minute)
}

// Patience is how long p's tests may take in all, a little more than what they are told.
func (p Package) Patience() time.Duration { return p.limit() + 20*time.Second }

// exactly is the pattern of one test or subtest.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}
