// Command chaostest kills what moves flow records, again and again, and then
// counts: a fleet of agents publishes through the agent's own publisher and
// spool, collectors share the stream by its shards, and each of them, the NATS servers and
// ClickHouse die by kill -9 at random moments, or at named places in the
// collector. At the end every flow record sent must be stored once, and every
// rollup must equal the raw rows.
//
// The last line of standard output is a JSON object; the exit status is 0 only
// if nothing is lost, doubled or different. -seed decides what is killed when.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

type options struct {
	collectorBin, fleetBin string // paths of programs
	seed                   uint64
	kills                  int
	pause                  time.Duration
	agents                 int
	collectors, shards     int
	nodes                  int
	leaf                   bool
	natsDir                string
	durability             string
	settle                 time.Duration
	verbose                bool
	keep                   bool
}

// result is the last line.
type result struct {
	Kills            int            `json:"kills"`
	Sent             uint64         `json:"sent"`
	Stored           uint64         `json:"stored"`
	Lost             int64          `json:"lost"`
	Doubled          int64          `json:"doubled"`
	RollupDifference uint64         `json:"rollup_difference"`
	Seed             uint64         `json:"seed"`
	Collectors       int            `json:"collectors"`
	Shards           int            `json:"shards"`
	NATSServers      int            `json:"nats_servers"`
	Leaf             bool           `json:"leaf"`
	Durability       string         `json:"durability"`
	Batches          uint64         `json:"batches"`
	Copies           uint64         `json:"copies"` // batches that were published once more
	Killed           map[string]int `json:"killed"` // what, and where the collector was
	Seconds          float64        `json:"seconds"`
}

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) > 1 && os.Args[1] == "nats" {
		return serveNATS(os.Args[2:])
	}
	var o options
	flag.StringVar(&o.collectorBin, "collector", "", "`path` of ebbwatch-collector, built with the tag failpoints")
	flag.StringVar(&o.fleetBin, "fleet", "", "`path` of agent/internal/fleettest")
	flag.Uint64Var(&o.seed, "seed", 1, "decides what is killed when")
	flag.IntVar(&o.kills, "kills", 50, "kills")
	flag.DurationVar(&o.pause, "pause", 3*time.Second, "mean `time` between two kills")
	flag.IntVar(&o.agents, "agents", 20, "agents")
	flag.IntVar(&o.collectors, "collectors", 3, "collectors")
	flag.IntVar(&o.shards, "shards", 6, "shards of the stream, which the collectors divide among them; 1 lets one of them work at a time")
	flag.IntVar(&o.nodes, "nodes", 1, "servers of NATS: 1, or 3 as a cluster")
	flag.BoolVar(&o.leaf, "leaf", false, "put a leaf node between the agents and NATS")
	flag.StringVar(&o.natsDir, "nats-config", "deploy/nats", "`folder` of the configuration of NATS")
	flag.StringVar(&o.durability, "durability", "both", "of the NATS server: default (the disk itself is reached within a second), strict (before the answer), both (one after the other)")
	flag.DurationVar(&o.settle, "settle", 2*time.Minute, "`time` in which everything must be stored after the last kill")
	flag.BoolVar(&o.verbose, "v", false, "show what the processes log")
	flag.BoolVar(&o.keep, "keep", false, "keep the data when something is wrong")
	flag.Parse()
	if o.collectors < 1 || o.shards < 1 || o.shards > 8 || o.nodes != 1 && o.nodes != 3 { // prefetch_bytes is the default
		fmt.Fprintln(os.Stderr, "chaos: -collectors must be at least 1, -shards from 1 to 8, and -nodes 1 or 3")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	started := time.Now()
	r, err := chaos(ctx, &o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	if r.Lost != 0 || r.Doubled != 0 || r.RollupDifference != 0 || r.Sent == 0 || r.Sent != r.Stored {
		return 1
	}
	return 0
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s chaos: %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
