package loadgen

import (
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no agents":             func(c *Config) { c.Agents = 0 },
		"more agents than fit":  func(c *Config) { c.Agents = MaxAgents + 1 },
		"no flows":              func(c *Config) { c.Flows = 0 },
		"more flows than fit":   func(c *Config) { c.Flows = 5001 },
		"an interval too short": func(c *Config) { c.Interval = time.Millisecond },
		"no server":             func(c *Config) { c.NATS.URL = "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			change(&c)
			if c.Validate() == nil {
				t.Error("is taken")
			}
		})
	}
}
