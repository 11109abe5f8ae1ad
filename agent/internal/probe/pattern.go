package probe

import (
	"fmt"
	"path"
)

// Config says which interfaces are watched.
type Config struct {
	// Include holds glob patterns of names ("eth*", "bond?"). If it is empty,
	// every interface that carries packets of its own is watched: not loopback,
	// and not one whose packets all pass others that are watched already (a
	// bridge above its ports, the ports of a bond, a VLAN or macvlan above its
	// parent, a container's end of a veth pair), which would only cost time.
	Include []string `yaml:"include"`
	// Exclude holds glob patterns of names that are never watched; it wins.
	Exclude []string `yaml:"exclude"`
	// Namespaces watches interfaces in other network namespaces, too: those of
	// containers. It needs CAP_SYS_ADMIN to enter them and CAP_SYS_PTRACE to find
	// those without a name. It is off because what a container exchanges with
	// anybody else passes an interface of the host anyway: it adds devices that
	// were moved into containers (SR-IOV) and what Include names.
	Namespaces bool `yaml:"namespaces"`
	// MaxNamespaces is how many are looked at, the first that were found. Each that
	// has a watched interface takes two loaded programs.
	MaxNamespaces int `yaml:"max_namespaces"`
}

// DefaultConfig watches all that matters, in the agent's own network namespace.
func DefaultConfig() Config {
	return Config{Include: []string{}, Exclude: []string{}, MaxNamespaces: 256}
}

// Validate reports the first value that is malformed, by its yaml key.
func (c *Config) Validate() error {
	for key, patterns := range map[string][]string{"include": c.Include, "exclude": c.Exclude} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				return fmt.Errorf("%s: %q is not a glob pattern such as eth*", key, p)
			}
		}
	}
	if c.MaxNamespaces < 1 || c.MaxNamespaces > maxNamespacesLimit {
		return fmt.Errorf("max_namespaces: must be 1 to %d", maxNamespacesLimit)
	}
	return nil
}

// maxNamespacesLimit bounds what one look at all namespaces costs.
const maxNamespacesLimit = 4096

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}
