package privilege

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Capability is the number of a Linux capability: capabilities(7).
type Capability uint

// Those that the agent has a use for.
const (
	BPF            Capability = unix.CAP_BPF
	NetAdmin       Capability = unix.CAP_NET_ADMIN
	Perfmon        Capability = unix.CAP_PERFMON
	NetBindService Capability = unix.CAP_NET_BIND_SERVICE
	NetBroadcast   Capability = unix.CAP_NET_BROADCAST
	SysAdmin       Capability = unix.CAP_SYS_ADMIN
	SysPtrace      Capability = unix.CAP_SYS_PTRACE
	DACReadSearch  Capability = unix.CAP_DAC_READ_SEARCH
)

// String returns the name of a capability of the agent, and CAP_ and the number of another.
func (c Capability) String() string {
	switch c {
	case BPF:
		return "CAP_BPF"
	case NetAdmin:
		return "CAP_NET_ADMIN"
	case Perfmon:
		return "CAP_PERFMON"
	case NetBindService:
		return "CAP_NET_BIND_SERVICE"
	case NetBroadcast:
		return "CAP_NET_BROADCAST"
	case SysAdmin:
		return "CAP_SYS_ADMIN"
	case SysPtrace:
		return "CAP_SYS_PTRACE"
	case DACReadSearch:
		return "CAP_DAC_READ_SEARCH"
	}
	return fmt.Sprintf("CAP_%d", uint(c))
}

// Set is a set of capabilities: bit n is the capability of number n.
type Set uint64

// Of returns the set of these capabilities.
func Of(capabilities ...Capability) Set {
	var s Set
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in the set.
func (s Set) Has(c Capability) bool { return s&(1<<c) != 0 }

// Len returns how many there are.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// String returns the names, separated by spaces.
func (s Set) String() string {
	var names []string
	for c := range Capability(64) {
		if s.Has(c) {
			names = append(names, c.String())
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

// State is what one thread may do.
type State struct {
	Effective, Permitted, Inheritable, Bounding, Ambient Set
	NoNewPrivs                                           bool // no program that it executes can gain any
}

// Read returns the state of the calling thread.
func Read() (State, error) { return ReadFile("/proc/thread-self/status") }

// ReadFile reads the state of a process or thread from its status file.
func ReadFile(path string) (State, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("read capabilities: %w", err)
	}
	var s State
	found := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if key == "NoNewPrivs" {
			s.NoNewPrivs = value == "1"
		}
		set := map[string]*Set{"CapEff": &s.Effective, "CapPrm": &s.Permitted, "CapInh": &s.Inheritable, "CapBnd": &s.Bounding, "CapAmb": &s.Ambient}[key]
		if set == nil {
			continue
		}
		n, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return State{}, fmt.Errorf("read capabilities: %s: %w", key, err)
		}
		*set, found = Set(n), found+1
	}
	if found != 5 {
		return State{}, errors.New("read capabilities: not all five sets are there")
	}
	return s, nil
}
