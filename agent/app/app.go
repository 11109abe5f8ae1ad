// Package app composes the agent: the BPF datapath on the host's interfaces,
// the drain that makes records of what it counted, and the way out to NATS.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/ebbwatch/ebbwatch/agent/internal/annotate"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
	"github.com/ebbwatch/ebbwatch/agent/internal/drain"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/governor"
	"github.com/ebbwatch/ebbwatch/agent/internal/loglimit"
	"github.com/ebbwatch/ebbwatch/agent/internal/owner"
	"github.com/ebbwatch/ebbwatch/agent/internal/probe"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
	"github.com/ebbwatch/ebbwatch/agent/internal/seed"
	"github.com/ebbwatch/ebbwatch/agent/internal/trace"
	"github.com/ebbwatch/ebbwatch/agent/internal/warn"
	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// App is one agent. Make it with New.
type App struct {
	cfg Config
	log *slog.Logger // limited
	own bool         // the process

	delivered chan error
}

// New returns an agent that does nothing before Run. It fails on an invalid
// configuration.
func New(cfg Config, log *slog.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure agent: %w", err)
	}
	return &App{cfg: cfg, log: slog.New(loglimit.New(log.Handler())), delivered: make(chan error, 1)}, nil
}

// Run watches the interfaces of the process' network namespace, and of others if
// they are configured, and publishes, until ctx ends. Then it ends the counting on
// them, drains a last time, so that whatever was counted is told, delivers what is left
// for at most FlushTimeout, detaches, and returns nil. NATS, its stream and the collector
// need not be there: batches wait on disk. Call it once.
//
// It returns an error at once if a privilege or something of the kernel is
// missing that the agent cannot do without, and names it.
func (a *App) Run(ctx context.Context) (err error) {
	if err := doctor.Privileges(); err != nil {
		return err
	}
	if err := a.restartConfined(); err != nil {
		return err
	}
	counting := a.cfg.Datapath
	counting.NoFeatures = a.cfg.Warning.Interval == 0
	datapath, err := flowbpf.Load(counting, a.log)
	if err != nil {
		return fmt.Errorf("%w (the agent's doctor command tells what this kernel lacks)", err)
	}
	defer func() { err = errors.Join(err, datapath.Close()) }()

	nc, err := natsconn.Connect("agent "+a.cfg.Name, a.cfg.NATS, a.log)
	if err != nil {
		return err
	}
	defer nc.Close()

	reg := ops.NewRegistry()
	registerLog(reg, a.log)
	publisher, err := publish.New(publish.Config{
		Agent: a.cfg.Name, Version: cli.Version(), QueueMaxBytes: a.cfg.QueueMaxBytes, FlushTimeout: a.cfg.FlushTimeout, Spool: a.cfg.Spool,
	}, nc, reg, a.log)
	if err != nil {
		return err
	}
	interfaces := probe.New(a.cfg.Interfaces, datapath, reg, a.log)
	interfaces.Container = owner.Container
	owners := owner.Open(datapath.Sockets(), a.log)
	defer func() { err = errors.Join(err, owners.Close()) }()
	losses := trace.Open(a.log)
	defer func() { err = errors.Join(err, losses.Close()) }()
	interfaces.Losses = losses
	flowbpf.RegisterFeatures(reg, slices.Concat(owners.Features(), losses.Features())...)
	table := conn.NewTable(a.cfg.Conversations, interfaces)
	annotator := annotate.New(annotate.Sources{Hints: datapath, Owners: owners, Losses: losses, Conversations: table}, reg, a.log)
	drainer := &drain.Drainer{
		Interval: a.cfg.DrainInterval, Datapath: datapath, Sink: publisher,
		Table: table, Interfaces: interfaces, Drained: interfaces.Drained, Log: a.log,
		Warner: warn.New(datapath, interfaces, reg, a.log), WarnInterval: a.cfg.Warning.Interval,
		Annotator: annotator, Govern: governor.New(a.cfg.Budget, datapath, a.log).Observe,
	}
	drainer.Register(reg)
	if lister, err := seed.Open(); err != nil {
		a.log.Warn(noSeed, "error", err)
	} else {
		drainer.Seed = func(ctx context.Context, table *conn.Table) { a.seed(ctx, lister, table) }
	}
	server := &ops.Server{Listen: a.cfg.Listen, Registry: reg, Log: a.log, Checks: map[string]ops.Check{
		"interfaces": interfaces.Health, "delivery": publisher.Health, "drain": drainer.Health,
	}}
	a.log.Info("agent starts", "name", a.cfg.Name, "version", cli.Version(), "boot", publisher.Boot(), "attach", datapath.Mode(), "map_bytes", datapath.MapBytes())
	if err := a.dropPrivileges(); err != nil {
		return err
	}
	a.settle()
	err = inTurn(ctx,
		func(ctx context.Context) error { return errors.Join(interfaces.Run(ctx), interfaces.Close()) },
		drainer.Run, annotator.Run, owners.Run, publisher.Run, server.Run)
	a.log.Info("agent ends", "error", err)
	a.delivered <- err
	return err
}

// Delivered gets what Run is going to return, but for errors of detaching, as soon as
// nothing is counted any more and everything is delivered. What is left to Run then is
// to let go of the interfaces, one after the other, 20 to 40 ms each (a grace period of
// the kernel for each direction, by tcx): whoever has not so long may end the process,
// and the kernel does it. It gets nothing if Run fails before it watches.
func (a *App) Delivered() <-chan error { return a.delivered }

// gcPercent is how much garbage the agent's heap may hold, in percent of what is
// live. Most of that holds no pointers, so that a collection takes a few milliseconds
// whatever the number of conversations: the usual 100 would save nothing but these.
const gcPercent = 25

// settle gives back what only the start needed: the kernel's types above all,
// which take more memory than everything else of an idle agent.
func (a *App) settle() {
	if a.own {
		debug.SetMemoryLimit(a.cfg.MemoryLimit)
		debug.SetGCPercent(gcPercent)
		debug.FreeOSMemory()
	}
}

// seed tells the table which side opened the connections that are older than
// the agent. Without it they have no known initiator.
func (a *App) seed(ctx context.Context, lister *seed.Lister, table *conn.Table) {
	list, err := lister.List(ctx)
	for _, c := range list {
		if c.Opener != seed.OpenerUnknown {
			table.Seed(c.Local, c.Remote, c.Opener == seed.OpenerLocal)
		}
	}
	if err = errors.Join(err, lister.Close()); err != nil {
		a.log.Warn(noSeed, "error", err)
	}
}

const noSeed = "connections that are open already have no known initiator"

// inTurn runs the parts beside each other. When ctx ends, or when one of them
// returns, they end one after the other, in their order: the context of each ends
// when the part before it has returned.
func inTurn(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	lasting, errs := context.WithoutCancel(ctx), make([]error, len(parts))
	var running sync.WaitGroup
	for i, run := range parts {
		mine := ctx
		next, done := context.WithCancel(lasting)
		running.Go(func() {
			defer done()
			defer end()
			errs[i] = run(mine)
		})
		ctx = next
	}
	running.Wait()
	return errors.Join(errs...)
}
