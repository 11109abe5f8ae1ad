package natstest

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// password is that of all users.
const password = "of-a-test"

// Cluster is three servers as deploy/nats/cluster.conf makes them.
type Cluster struct {
	Servers [3]*Server
	names   [3]string
}

// StartCluster starts a cluster that ends with the test, and returns when it can
// make streams.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	var routes [3]string
	for i := range routes {
		routes[i] = freeAddress(t)
		t.Setenv(fmt.Sprintf("NATS_ROUTE_%d", i+1), "nats://"+routes[i])
	}
	for i := range c.Servers {
		c.names[i] = fmt.Sprintf("nats-%d", i+1)
		c.Servers[i] = deployed(t, map[string]string{
			"NATS_NAME": c.names[i], "NATS_LISTEN": freeAddress(t), "NATS_DATA": t.TempDir(),
			"NATS_CLUSTER_LISTEN": routes[i], "NATS_LEAF_LISTEN": freeAddress(t),
		})
	}
	for began := time.Now(); !c.ready(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("after 30 s the servers have not found together")
		}
	}
	return c
}

func (c *Cluster) ready() bool {
	for _, s := range c.Servers {
		if s.server.JetStreamIsLeader() && len(s.server.JetStreamClusterPeers()) == len(c.Servers) {
			return true
		}
	}
	return false
}

// URL returns all servers' addresses with the login of a user.
func (c *Cluster) URL(user string) string {
	var all []string
	for _, s := range c.Servers {
		all = append(all, login(s, user))
	}
	return strings.Join(all, ",")
}

// Named returns the server of that name.
func (c *Cluster) Named(name string) *Server {
	for i, n := range c.names {
		if n == name {
			return c.Servers[i]
		}
	}
	return nil
}

func login(s *Server, user string) string {
	return strings.Replace(s.URL, "//", "//"+user+":"+password+"@", 1)
}

// deployed starts a server with deploy/nats/cluster.conf and variables in its environment.
func deployed(t testing.TB, env map[string]string) *Server {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	for _, user := range []string{"AGENT", "COLLECTOR", "ANALYZER", "LEAF"} {
		t.Setenv("NATS_"+user+"_PASSWORD", password)
	}
	_, here, _, _ := runtime.Caller(0)
	opts, err := server.ProcessConfigFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "deploy", "nats", "cluster.conf"))
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	s, err := start(*opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
