// Package plan is what the host and the guest's init agree on: what to run, and
// how the guest marks its output.
package plan

import "time"

// File is where the guest finds its plan, as JSON.
const File = "/plan.json"

// Mark begins every line that the guest's init itself writes to the console. The
// word after it is one of the constants below, and the rest belongs to the word.
const Mark = "@@ebbwatch "

// What init says.
const (
	Kernel = "kernel" // release and machine of the kernel that runs
	Note   = "note"   // something for people
	Begin  = "begin"  // the name of a test binary, whose output follows
	End    = "end"    // the same name, and its exit status, "ok" or the reason
	Done   = "done"   // everything that the plan lists was run
)

// Plan is what the guest does after it has mounted its file systems.
type Plan struct {
	Modules []string // paths in the image, in the order in which they load
	Tests   []Test
	Built   time.Time // a machine without a clock is given this time
}

// Test is one test binary.
type Test struct {
	Name   string // the package, relative to the repository
	Binary string // its path in the image
	Dir    string // where it runs: the folder that holds its testdata
	Args   []string
	Limit  time.Duration
}
