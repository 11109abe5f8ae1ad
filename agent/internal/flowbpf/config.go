package flowbpf

import (
	"errors"
	"fmt"
)

// Config sizes the datapath. Every byte it asks for is kernel memory, charged
// to the agent's cgroup; Datapath.MapBytes says how much it is.
type Config struct {
	// MaxFlows is how many flow entries one of the two buffers holds. A
	// conversation takes one entry for each CPU that handles its packets, mostly
	// one or two. What finds no room is counted as overflow. IPv4 and IPv6 have
	// maps of their own: each unit takes 784 bytes of kernel memory in all.
	MaxFlows uint32 `yaml:"max_flows"`
	// MaxInterfaces is how many interfaces can be attached at one time.
	MaxInterfaces uint32 `yaml:"max_interfaces"`
	// Attach selects the kernel's attach mechanism: tcx (Linux 6.6 and later),
	// tc (a clsact filter), or auto, which takes tcx where it works.
	Attach AttachMode `yaml:"attach"`
	// PacketTime takes each packet's own time stamp in place of the clock, for
	// captures that are replayed with Run. Times are then whatever Run was given.
	// Drain does not wait for programs then: it must not run beside Run.
	PacketTime bool `yaml:"-"`

	// For tests: force the general parser, or entries that all CPUs share.
	generalParser, sharedEntries bool
}

// AttachMode is a way to hook a program to an interface.
type AttachMode string

// The attach modes that Config accepts.
const (
	AttachAuto AttachMode = "auto"
	AttachTCX  AttachMode = "tcx"
	AttachTC   AttachMode = "tc"
)

// Limits of Config.
const (
	maxFlowsLimit      = 1 << 22
	maxInterfacesLimit = 1 << 12
)

// DefaultConfig returns the configuration of a host with up to some 60,000
// conversations per drain interval.
func DefaultConfig() Config {
	return Config{MaxFlows: 65536, MaxInterfaces: 256, Attach: AttachAuto}
}

// Validate reports the first value that is out of range, by its yaml key.
func (c *Config) Validate() error {
	if c.MaxFlows < 1 || c.MaxFlows > maxFlowsLimit {
		return fmt.Errorf("max_flows is %d, must be 1 to %d", c.MaxFlows, maxFlowsLimit)
	}
	if c.MaxInterfaces < 1 || c.MaxInterfaces > maxInterfacesLimit {
		return fmt.Errorf("max_interfaces is %d, must be 1 to %d", c.MaxInterfaces, maxInterfacesLimit)
	}
	switch c.Attach {
	case AttachAuto, AttachTCX, AttachTC:
		return nil
	case "":
		return errors.New("attach is empty, must be auto, tcx or tc")
	}
	return fmt.Errorf("attach is %q, must be auto, tcx or tc", c.Attach)
}
