package probe

import (
	"fmt"
	"path"

	"github.com/vishvananda/netlink"
)

// Config says which interfaces are watched.
type Config struct {
	// Include holds glob patterns of names ("eth*", "bond?"). If it is empty,
	// every interface that carries packets of its own is watched: not loopback,
	// and not what lies on top of other interfaces that are watched already (a
	// bridge or bond above its ports, a VLAN or macvlan above its parent), because
	// the same packets would count twice.
	Include []string `yaml:"include"`
	// Exclude holds glob patterns of names that are never watched; it wins.
	Exclude []string `yaml:"exclude"`
}

// DefaultConfig watches all that matters.
func DefaultConfig() Config { return Config{Include: []string{}, Exclude: []string{}} }

// Validate reports the first pattern that is malformed, by its yaml key.
func (c *Config) Validate() error {
	for key, patterns := range map[string][]string{"include": c.Include, "exclude": c.Exclude} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				return fmt.Errorf("%s: %q is not a glob pattern such as eth*", key, p)
			}
		}
	}
	return nil
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}

// upper holds the kinds of interface whose packets pass another interface of
// the same host too: their parent, or their ports.
var upper = []string{"bridge", "bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "hsr"}

// choose returns the interfaces of links that cfg wants, by index.
func choose(cfg *Config, links []netlink.Link) map[int]string {
	candidates := make(map[int]netlink.Link)
	ports := make(map[int]bool) // has candidates as ports
	for _, l := range links {
		a := l.Attrs()
		up := a.RawFlags&flagUp != 0
		if !up || matches(cfg.Exclude, a.Name) || len(cfg.Include) > 0 && !matches(cfg.Include, a.Name) {
			continue
		}
		if len(cfg.Include) == 0 && a.RawFlags&flagLoopback != 0 {
			continue
		}
		candidates[a.Index] = l
		if a.MasterIndex != 0 {
			ports[a.MasterIndex] = true
		}
	}
	chosen := make(map[int]string, len(candidates))
	for index, l := range candidates {
		if len(cfg.Include) == 0 && isUpper(l) {
			a := l.Attrs()
			_, parent := candidates[a.ParentIndex]
			if ports[index] || parent && a.ParentIndex != index && a.NetNsID < 0 {
				continue
			}
		}
		chosen[index] = l.Attrs().Name
	}
	return chosen
}

func isUpper(l netlink.Link) bool {
	for _, kind := range upper {
		if l.Type() == kind {
			return true
		}
	}
	return false
}
