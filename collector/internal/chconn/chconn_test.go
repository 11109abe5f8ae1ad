package chconn

import (
	"strings"
	"testing"
)

func TestAnErrorAboutAnAddressShowsNoPassword(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"of the server": func(c *Config) { c.Address = "default:hunter2@db:9000" },
		"of a shard":    func(c *Config) { c.Cluster.Name, c.Cluster.Shards = "c", []string{"default:hunter2@db:9000"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			change(&c)
			if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "host:port alone") {
				t.Errorf("got %v", err)
			}
		})
	}
	c := DefaultConfig()
	c.Address = "db"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `not "db"`) {
		t.Errorf("got %v", err)
	}
}
