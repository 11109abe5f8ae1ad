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
	Brief string        // pattern of the tests of a quick run, "" for all
	Limit time.Duration // 5 minutes if it is 0

	run string // pattern in force
}

// Quick returns the packages for a quick run, which answers whether the
// agent loads, attaches and counts.
func Quick(packages []Package) (quick []Package) {
	for _, p := range packages {
		p.run = p.Brief
		if p.Brief != nothing {
			quick = append(quick, p)
		}
	}
	return quick
}

// nothing is the pattern of a package of which a quick run runs no test.
const nothing = "^$"

// Left is a test that is left out, and why.
type Left struct{ Test, Why string }

// Packages returns every package that runs on other kernels. One that uses
// BPF belongs here (a test of this package looks), with a line for each test
// that cannot run in a machine that has nothing but the kernel and the test.
func Packages() []Package {
	return []Package{
		{Path: "agent/internal/probe", Brief: nothing},
		{Path: "agent/internal/flowbpf", Limit: 15 * time.Minute, Brief: "TestProbesPass|TestAttach|TestEveryCaseAgrees|TestEveryLoop", Leave: []Left{
			{"TestParserAgreesWithTshark", "needs tshark"},
		}},
		{Path: "agent/internal/flowbpf/bench", Brief: nothing},
		{Path: "agent/internal/owner", Limit: 15 * time.Minute, Brief: "TestEntriesOfTheDatapath"},
		{Path: "agent/internal/seed", Brief: nothing},
		{Path: "agent/internal/trace", Brief: nothing},
		{Path: "agent/internal/replay", Limit: 10 * time.Minute, Brief: nothing},
		{Path: "agent/internal/privilege", Brief: nothing, Leave: []Left{
			{"TestProcessGivesUpWhatItDoesNotNeed", "compiles a program"},
		}},
		{Path: "agent/internal/doctor"},
		{Path: "agent/app", Limit: 15 * time.Minute, Brief: "TestRealTraffic", Leave: []Left{
			{"TestBinaryStartsAndEndsWithoutNATS", "compiles the agent"},
			{"TestAgentWorksOnWithWhatItKeeps", "compiles the agent"},
			{"TestKilledAgentLosesNothingThatItHadDrained", "compiles the agent"},
			{"TestNothingStaysAttachedAfterAKillUnderTraffic", "compiles the agent"},
			{"TestRestartUnderTrafficIsAccountedInFull", "compiles the agent"},
			{"TestKillUnderTrafficLosesOneIntervalAndShows", "compiles the agent"},
			{"TestBulkTransferIsAccountedAsTheKernelCountsIt", "needs iperf3"},
		}},
	}
}

// skips are the reasons for which a test may skip itself on another kernel.
// Whatever else skips there is a mistake: it would look like a success.
var skips = []*regexp.Regexp{
	regexp.MustCompile(`^this kernel has no tcx$`),
	regexp.MustCompile(`^needs tshark$|^no captures at `), // the same frames go through the same programs on any kernel
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
// -run, "" for all tests, or those of Brief in a quick run.
func (p Package) Args(only string) []string {
	args := []string{"-test.v=test2json", "-test.short", "-test.paniconexit0", "-test.timeout=" + p.limit().String()}
	if pattern := cmp.Or(only, p.run); pattern != "" {
		args = append(args, "-test.run="+pattern)
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
