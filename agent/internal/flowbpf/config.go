package flowbpf

import (
	"errors"
	"fmt"
	"slices"
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
	// MaxSources is how many sender addresses are told apart in one interval, for
	// the number of targets each tries and for the overflow. Those beyond it are
	// told as one. Each takes 720 bytes of kernel memory in all.
	MaxSources uint32 `yaml:"max_sources"`
	// Attach selects the kernel's attach mechanism: tcx (Linux 6.6 and later),
	// tc (a clsact filter), or auto, which takes tcx where it works.
	Attach AttachMode `yaml:"attach"`
	// Tunnels says which UDP ports are those of tunnels to look into.
	Tunnels Tunnels `yaml:"tunnels"`
	// Health measures retransmissions, closed windows and round-trip times of TCP.
	Health bool `yaml:"health"`
	// Owner finds out whose socket sends and receives.
	Owner bool `yaml:"owner"`
	// Hints says of which protocols the beginning of the payload is looked at.
	Hints Hints `yaml:"hints"`
	// HintBytes is the size of the buffer in which those beginnings wait for the
	// agent, in bytes: a power of two.
	HintBytes uint32 `yaml:"hint_bytes"`
	// Replay takes each packet's time and length from TestRun in place of the
	// clock and the frame, for captures that are replayed with Run. Drain does not
	// wait for programs then: it must not run beside Run.
	Replay bool `yaml:"-"`
	// NoFeatures leaves out what Glances reads, and its cost.
	NoFeatures bool `yaml:"-"`
	// SketchSeed is the key of the hash by which targets are counted. Zero, as it
	// must be but in tests, is a random one: who knows it can choose targets that
	// are not counted.
	SketchSeed [2]uint64 `yaml:"-"`

	// For tests: force the general parser, or entries that all CPUs share.
	generalParser, sharedEntries bool
}

// Tunnels are UDP destination ports of encapsulations.
type Tunnels struct {
	VXLANPorts []uint16 `yaml:"vxlan_ports"` // two at most; none: VXLAN is not looked into
	GenevePort uint16   `yaml:"geneve_port"` // 0: Geneve is not looked into
}

// DefaultTunnels returns the ports that the IANA gave out, and the one that Linux
// took for VXLAN before.
func DefaultTunnels() Tunnels {
	return Tunnels{VXLANPorts: []uint16{4789, 8472}, GenevePort: 6081}
}

func (t *Tunnels) validate() error {
	if len(t.VXLANPorts) > maxVXLANPorts {
		return fmt.Errorf("tunnels.vxlan_ports has %d ports, must have at most %d", len(t.VXLANPorts), maxVXLANPorts)
	}
	for i, port := range t.VXLANPorts {
		if port == 0 || port == t.GenevePort || slices.Contains(t.VXLANPorts[:i], port) {
			return fmt.Errorf("tunnels.vxlan_ports has %d, must be from 1 to 65535, and each port different", port)
		}
	}
	return nil
}

// Hints switches application hints, by protocol.
type Hints struct {
	DNS  bool `yaml:"dns"`  // name, type, response code, answers, latency
	TLS  bool `yaml:"tls"`  // server name, ALPN, JA4 of the ClientHello
	HTTP bool `yaml:"http"` // method, host, status of HTTP/1
	QUIC bool `yaml:"quic"` // version, and what the ClientHello tells
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
	MaxFlowsLimit              = 1 << 22
	maxInterfacesLimit         = 1 << 11 // twice as many slots have numbers below maxSlots
	minHintBytes, maxHintBytes = 1 << 16, 1 << 28
	maxSourcesLimit            = 1 << 20
	maxVXLANPorts              = 2 // as in bpf/lib/tunables.h
)

// DefaultConfig returns the configuration of a host with up to some 60,000
// conversations per drain interval.
func DefaultConfig() Config {
	return Config{
		MaxFlows: 65536, MaxInterfaces: 256, MaxSources: 8192, Attach: AttachAuto, Tunnels: DefaultTunnels(),
		Health: true, Owner: true, Hints: Hints{DNS: true, TLS: true, HTTP: true, QUIC: true}, HintBytes: 4 << 20,
	}
}

// Validate reports the first value that is out of range, by its yaml key.
func (c *Config) Validate() error {
	if c.MaxFlows < 1 || c.MaxFlows > MaxFlowsLimit {
		return fmt.Errorf("max_flows is %d, must be 1 to %d", c.MaxFlows, MaxFlowsLimit)
	}
	if c.MaxInterfaces < 1 || c.MaxInterfaces > maxInterfacesLimit {
		return fmt.Errorf("max_interfaces is %d, must be 1 to %d", c.MaxInterfaces, maxInterfacesLimit)
	}
	if c.HintBytes < minHintBytes || c.HintBytes > maxHintBytes || c.HintBytes&(c.HintBytes-1) != 0 {
		return fmt.Errorf("hint_bytes is %d, must be a power of two from %d to %d", c.HintBytes, minHintBytes, maxHintBytes)
	}
	if c.MaxSources < 1 || c.MaxSources > maxSourcesLimit {
		return fmt.Errorf("max_sources is %d, must be 1 to %d", c.MaxSources, maxSourcesLimit)
	}
	if err := c.Tunnels.validate(); err != nil {
		return err
	}
	switch c.Attach {
	case AttachAuto, AttachTCX, AttachTC:
		return nil
	case "":
		return errors.New("attach is empty, must be auto, tcx or tc")
	}
	return fmt.Errorf("attach is %q, must be auto, tcx or tc", c.Attach)
}
