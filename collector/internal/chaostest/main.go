// Command chaostest kills what moves flow records, again and again, and then
// counts: a fleet of agents publishes through the agent's own publisher and
// spool, collectors share the stream by its shards, and each of them, the NATS servers and
// ClickHouse die by kill -9 at random moments, or at named places in the
// collector. At the end every flow record sent must be stored once, and every
// rollup must equal the raw rows.
//
// With -power, what keeps something on a disk, the agents' spools too, does so on a
// disk of its own, whose power is cut when it is killed: what was not synced is gone.
//
// The last line of standard output is a JSON object; the exit status is 0 only
// if nothing is lost, doubled or different, but for what a power cut may do according to
// docs/exactly-once.md. -seed decides what is killed when. It is 3 where disks for
// -power cannot be made, 2 for a wrong flag.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/disktest"
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
	power                  bool
	victims                []string
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
	Power            *power         `json:"power,omitempty"`
	Killed           map[string]int `json:"killed"` // what, and where the collector was
	Seconds          float64        `json:"seconds"`
}

// power is what power cuts did. Flow records that they may take do not count as Lost.
type power struct {
	Cuts            int     `json:"cuts"` // of single disks
	LostUnsynced    uint64  `json:"lost_unsynced"`
	AllowedUnsynced uint64  `json:"allowed_unsynced"` // flow records so young at a cut that it may take them
	LeftInStream    uint64  `json:"left_in_stream"`   // messages whose removal was undone
	OldestLost      float64 `json:"oldest_lost_s"`    // age at the cut, without the time in which it had to wait for something dead
}

// strict is the durability in which nothing is lost by a power cut.
const strict = "strict"

// mayDiffer reports whether tables may differ from each other, because the power of
// ClickHouse or NATS is cut in default durability.
func (o *options) mayDiffer() bool { return o.power && o.durability != strict }

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
	flag.BoolVar(&o.power, "power", false, "cut the power of the disks of NATS, ClickHouse and agents instead of only killing; as root. -durability is then of ClickHouse, too, and strict unless default is asked for")
	victims := flag.String("victims", "", "`kinds` of what is killed: of collectors, nats, clickhouse and, with -power, agents and host (everything at once); all if empty")
	flag.DurationVar(&o.settle, "settle", 2*time.Minute, "`time` in which everything must be stored after the last kill")
	flag.BoolVar(&o.verbose, "v", false, "show what the processes log")
	flag.BoolVar(&o.keep, "keep", false, "keep the data when something is wrong")
	flag.Parse()
	if o.collectors < 1 || o.shards < 1 || o.shards > 8 || o.nodes != 1 && o.nodes != 3 { // prefetch_bytes is the default
		fmt.Fprintln(os.Stderr, "chaos: -collectors must be at least 1, -shards from 1 to 8, and -nodes 1 or 3")
		return 2
	}
	for _, kind := range kinds {
		if (o.power || !kind.powerOnly) && (*victims == "" || slices.Contains(strings.Split(*victims, ","), kind.name)) {
			o.victims = append(o.victims, kind.name)
		}
	}
	if len(o.victims) == 0 || *victims != "" && len(o.victims) != len(strings.Split(*victims, ",")) {
		fmt.Fprintf(os.Stderr, "chaos: -victims %s: want kinds of the list in -h\n", *victims)
		return 2
	}
	if o.power {
		if o.durability != "default" {
			o.durability = strict
		}
		if err := disktest.Isolate(); err != nil {
			return fail(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	started := time.Now()
	r, err := chaos(ctx, &o)
	if err != nil {
		return fail(err)
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	if !r.right(&o) {
		return 1
	}
	return 0
}

// right reports whether everything is as docs/exactly-once.md says.
func (r *result) right(o *options) bool {
	exact := r.Doubled == 0 && r.RollupDifference == 0 || o.mayDiffer()
	missing := r.Lost
	if r.Power != nil {
		missing += int64(r.Power.LostUnsynced)
	}
	return r.Lost == 0 && exact && r.Sent > 0 && int64(r.Sent)-missing == int64(r.Stored)-r.Doubled
}

// exitUnavailable is the exit status where this host has no disks for -power.
const exitUnavailable = 3

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "chaos:", err)
	if errors.Is(err, disktest.ErrUnavailable) {
		return exitUnavailable
	}
	return 1
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s chaos: %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
