package enrich

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says what is known of addresses and agents.
type Config struct {
	// MMDB are files with countries or autonomous systems of addresses. What the
	// first says of an address counts.
	MMDB []string `yaml:"mmdb"`
	// Networks and NetworksFile name networks and give tags to them. An address has
	// the name of the longest prefix with a name, and the tags of all prefixes.
	Networks     []Network     `yaml:"networks"`
	NetworksFile string        `yaml:"networks_file"` // of lines: prefix,name,tags
	Agents       []Agent       `yaml:"agents"`
	Interval     time.Duration `yaml:"interval"` // between two looks whether a file has changed
}

// Network is a prefix, or a host, with a name or tags.
type Network struct {
	Prefix Prefix   `yaml:"prefix"`
	Name   string   `yaml:"name"`
	Tags   []string `yaml:"tags"`
}

// Agent has the tags of an agent.
type Agent struct {
	Agent string   `yaml:"agent"`
	Tags  []string `yaml:"tags"`
}

// DefaultConfig returns a configuration that knows nothing.
func DefaultConfig() Config {
	return Config{MMDB: []string{}, Networks: []Network{}, Agents: []Agent{}, Interval: 10 * time.Second}
}

// Validate names the keys that are wrong. Files are not looked at: one that
// is missing or damaged is no reason to stop.
func (c *Config) Validate() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.Interval < time.Second || c.Interval > time.Hour {
		refuse("enrich.interval: must be from 1s to 1h")
	}
	for i, path := range c.MMDB {
		if path == "" {
			refuse("enrich.mmdb[%d]: names no file", i)
		}
	}
	seen := make(map[netip.Prefix]bool)
	for i, n := range c.Networks {
		key, err := n.check()
		if err == nil && seen[n.Prefix.Prefix] {
			key, err = "prefix", fmt.Errorf("%s stands here twice", n.Prefix)
		}
		if err != nil {
			refuse("enrich.networks[%d].%s: %w", i, key, err)
		}
		seen[n.Prefix.Prefix] = true
	}
	agents := make(map[string]bool)
	for i, a := range c.Agents {
		if err := ebbwatch.ValidateAgent(a.Agent); err != nil {
			refuse("enrich.agents[%d].agent: %w", i, err)
		}
		if agents[a.Agent] {
			refuse("enrich.agents[%d].agent: %s stands here twice", i, a.Agent)
		}
		agents[a.Agent] = true
		if err := checkTags(a.Tags); err != nil {
			refuse("enrich.agents[%d].tags: %w", i, err)
		}
	}
	return config.All(wrong...)
}

// Bounds of what people write.
const (
	maxNetworkName = 128 // bytes
	maxTag         = 64  // bytes
	maxTags        = 16  // of one prefix or agent
)

// check returns the key that is wrong, and why.
func (n *Network) check() (key string, err error) {
	switch {
	case !n.Prefix.IsValid():
		return "prefix", errors.New("is missing: write a network such as 10.0.0.0/8, or an address")
	case n.Name == "" && len(n.Tags) == 0:
		return "name", errors.New("is missing: give the network a name or tags")
	case len(n.Name) > maxNetworkName || !printable(n.Name):
		return "name", fmt.Errorf("must be printable, of at most %d bytes", maxNetworkName)
	}
	return "tags", checkTags(n.Tags)
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("are %d: at most %d are kept", len(tags), maxTags)
	}
	for _, tag := range tags {
		if tag == "" || len(tag) > maxTag || !printable(tag) || strings.ContainsAny(tag, " ,") {
			return fmt.Errorf("%.80q: a tag is printable, of at most %d bytes, without spaces and commas, such as role=web", tag, maxTag)
		}
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

// joined returns tags as a table has them.
func joined(tags []string) string {
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), " ")
}

// Prefix is a network, or a host as the network of one address. IPv4 is never
// written as IPv6.
type Prefix struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Prefix) UnmarshalText(text []byte) error {
	s := string(text)
	prefix, err := netip.ParsePrefix(s)
	if address, addressErr := netip.ParseAddr(s); addressErr == nil && address.Zone() == "" {
		address = address.Unmap()
		prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return fmt.Errorf("%.80q is neither a network such as 10.0.0.0/8 or 2001:db8::/32 nor an address", s)
	case prefix != prefix.Masked():
		return fmt.Errorf("%s has bits beyond its length: write %s", s, prefix.Masked())
	}
	p.Prefix = prefix
	return nil
}
