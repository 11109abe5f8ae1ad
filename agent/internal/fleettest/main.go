// Command fleettest plays a fleet of agents for tests: their flow records are
// made up, but they go out through the agent's own publisher and spool, over a
// connection for each agent. Beside that it publishes old batches again, as an
// agent does that lost its memory.
//
// It runs until its standard input is closed, then delivers what is left and ends.
// What it makes it notes in a journal first, so that one that was killed can be
// started again with the same arguments, and goes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

type options struct {
	nats, dir, out string
	journal        *journal
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
	flag.StringVar(&o.out, "out", "", "`file` of the journal: an Entry as JSON in each line")
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
	var err error
	last := make(map[int]uint64)
	if o.journal, err = openJournal(o.out, last); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, groupCtx := errgroup.WithContext(ctx)
	agents := make([]*agent, o.agents)
	for i := range agents {
		agents[i] = newAgent(i, last[i], &o, filepath.Join(o.dir, fmt.Sprintf("agent-%d", i)), log)
		group.Go(func() error { return agents[i].live(groupCtx) })
	}
	return errors.Join(group.Wait(), o.journal.Close())
}
