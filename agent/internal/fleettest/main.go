// Command fleettest plays a fleet of agents for tests: their flow records are
// made up, but they go out through the agent's own publisher and spool, over a
// connection for each agent. Beside that it publishes old batches again, as an
// agent does that lost its memory.
//
// It runs until its standard input is closed, then delivers what is left, writes
// what it sent as JSON into a file, and ends.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run is what one run of one agent sent.
type Run struct {
	Agent   string `json:"agent"`
	Boot    string `json:"boot"`
	Batches uint64 `json:"batches"` // numbered from 1
	Flows   uint64 `json:"flows"`
	Bytes   uint64 `json:"bytes"`
	Copies  uint64 `json:"copies"` // batches that were published once more
}

// Summary is what the fleet sent. Lost must be empty for a fair comparison.
type Summary struct {
	Runs []Run             `json:"runs"`
	Lost map[string]uint64 `json:"lost"` // what agents gave up, by counter
}

type options struct {
	nats, dir, out string
	agents, flows  int
	interval       time.Duration
	restart        time.Duration
	copyAfter      time.Duration
	copies         float64
	deliver        time.Duration
	seed           uint64
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleettest:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.nats, "nats", "", "`URL` of the NATS server")
	flag.StringVar(&o.dir, "dir", "", "`folder` of the spools")
	flag.StringVar(&o.out, "out", "", "`file` for what was sent")
	flag.IntVar(&o.agents, "agents", 20, "number of agents")
	flag.IntVar(&o.flows, "flows", 20, "flow records of a batch, at most")
	flag.DurationVar(&o.interval, "interval", 200*time.Millisecond, "`time` between two batches of an agent")
	flag.DurationVar(&o.restart, "restart", 20*time.Second, "mean `time` of a run of an agent; it ends in good order, with what is not delivered in its spool")
	flag.DurationVar(&o.copyAfter, "copy-after", 2*time.Second, "`time` after which a batch is published again")
	flag.Float64Var(&o.copies, "copies", 0.2, "`share` of the batches that are published again")
	flag.DurationVar(&o.deliver, "deliver", 2*time.Minute, "`time` in which everything must be delivered at the end")
	flag.Uint64Var(&o.seed, "seed", 1, "of the traffic")
	flag.Parse()
	ctx, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // closed: nobody needs us any more
		end()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, groupCtx := errgroup.WithContext(ctx)
	agents := make([]*agent, o.agents)
	for i := range agents {
		agents[i] = newAgent(i, &o, filepath.Join(o.dir, fmt.Sprintf("agent-%d", i)), log)
		group.Go(func() error { return agents[i].live(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	summary := Summary{Lost: make(map[string]uint64)}
	for _, a := range agents {
		summary.Runs = append(summary.Runs, a.runs...)
		for name, count := range a.lost {
			summary.Lost[name] += count
		}
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, text, 0o600)
}
