package flowbpf

// Feature is the result of one probe.
type Feature struct {
	Name     string // short and stable: "tcx", "batch", "coarse_clock", …
	Need     string // what it is used for, a sentence
	Required bool   // the datapath cannot run without it
	Err      error  // nil if it works, else why it does not
}

// Probe tries every kernel feature that the datapath uses, on this kernel and
// with this process' privileges. It leaves nothing behind.
func Probe() []Feature { return nil }
