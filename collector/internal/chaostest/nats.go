package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
)

// password is that of all users of NATS.
const password = "of-a-test"

// natsServer is one server of NATS with a file of deploy/nats, in a process of its own.
type natsServer struct {
	*proctest.Process
	name, file, port string
	env              []string
}

// planNATS chooses the servers' ports: of one server or a cluster of three, and, if
// asked for, of a leaf node that is the agents' way to them.
func (c *cast) planNATS() error {
	var ports []string
	for range 3*c.nodes + 1 {
		port, err := proctest.FreePort()
		if err != nil {
			return err
		}
		ports = append(ports, port)
	}
	address := func(i int) string { return "127.0.0.1:" + ports[i] }
	file := "server.conf"
	common := []string{}
	for _, user := range []string{"AGENT", "COLLECTOR", "ANALYZER", "LEAF"} {
		common = append(common, "NATS_"+user+"_PASSWORD="+password)
	}
	if c.nodes > 1 {
		file = "cluster.conf"
		for i := range c.nodes {
			common = append(common, fmt.Sprintf("NATS_ROUTE_%d=nats://%s", i+1, address(3*i+1)))
		}
	}
	for i := range c.nodes {
		name := fmt.Sprintf("nats-%d", i+1)
		c.nats = append(c.nats, &natsServer{name: name, file: file, port: ports[3*i], env: append([]string{
			"NATS_NAME=" + name, "NATS_LISTEN=" + address(3*i), "NATS_DATA=" + filepath.Join(c.dir, name),
			"NATS_CLUSTER_LISTEN=" + address(3*i+1), "NATS_LEAF_LISTEN=" + address(3*i+2),
		}, common...)})
	}
	if c.leaf {
		last := len(ports) - 1
		env := append([]string{"NATS_NAME=site", "NATS_LISTEN=" + address(last)}, common...)
		for i := range 3 {
			env = append(env, fmt.Sprintf("NATS_HUB_%d=nats://leaf:%s@%s", i+1, password, address(3*(i%c.nodes)+2)))
		}
		c.nats = append(c.nats, &natsServer{name: "nats leaf", file: "leaf.conf", port: ports[last], env: env})
	}
	return nil
}

// natsURL returns where a user connects: agents to the leaf node, if there is one.
func (c *cast) natsURL(user string) string {
	servers := c.nats[:c.nodes]
	if c.leaf && user == "agent" {
		servers = c.nats[c.nodes:]
	}
	var urls []string
	for _, s := range servers {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@127.0.0.1:%s", user, password, s.port))
	}
	return strings.Join(urls, ",")
}

// startNATS returns when the server takes connections.
func (c *cast) startNATS(ctx context.Context, s *natsServer) error {
	args := []string{"nats"}
	if c.strict {
		args = append(args, "-sync-always")
	}
	p, err := proctest.Start("/proc/self/exe", c.verbose, s.env, append(args, filepath.Join(c.natsDir, s.file))...)
	if err != nil {
		return err
	}
	s.Process = p
	for {
		conn, err := nats.Connect(fmt.Sprintf("nats://agent:%s@127.0.0.1:%s", password, s.port))
		if err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return fmt.Errorf("server %s ended: %s", s.name, p.Output())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// serveNATS is the NATS server's process, which is this program again: so it can
// be killed.
func serveNATS(args []string) int {
	flags := flag.NewFlagSet("nats", flag.ExitOnError)
	always := flags.Bool("sync-always", false, "")
	_ = flags.Parse(args) // ends the process on an error
	opts, err := server.ProcessConfigFile(flags.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "start NATS:", err)
		return 1
	}
	opts.NoSigs, opts.SyncAlways = true, *always
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start NATS:", err)
		return 1
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		fmt.Fprintln(os.Stderr, "start NATS: not ready for connections")
		return 1
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	s.Shutdown()
	s.WaitForShutdown()
	return 0
}
