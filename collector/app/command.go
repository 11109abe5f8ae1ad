package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Local adds flags to a command of tools, and returns what they make of its
// configuration once they are parsed.
type Local func(cmd *cobra.Command) func(*Config) error

// Command returns the command tree of the collector. The tools for dead letters get
// the flags of local, too.
func Command(local ...Local) *cobra.Command {
	root := &cobra.Command{Use: "collector", Short: "Move flow records from NATS into ClickHouse, each exactly once"}
	root.AddCommand(run(), migrate(), dlq(local), ImportCommand(DefaultConfig, func(c Config) (Config, error) { return c, nil }, nil))
	return root
}

func run() *cobra.Command {
	return cli.Service[Config]{
		Use: "run", Short: "Run the collector until it is stopped", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			return a.Run(ctx)
		},
	}.Command()
}

// quiet makes a command log problems only, unless it is told otherwise.
func quiet(cmd *cobra.Command) {
	level := cmd.Flags().Lookup("log-level")
	level.DefValue = "warn"
	_ = level.Value.Set(level.DefValue) // a string takes any value
}

// answerTimeout is how long a tool waits for an answer before it gives up; a
// service waits for ever.
const answerTimeout = 10 * time.Second

func migrate() *cobra.Command {
	var cmd *cobra.Command
	cmd = cli.Service[Config]{
		Use: "migrate", Short: "Bring the database to the schema of this build, and say what was done", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			js, closeConn, err := connect(cfg, log)
			if err != nil {
				return err
			}
			defer closeConn()
			m, err := a.migrator(js)
			if err != nil {
				return err
			}
			applied, err := m.Run(ctx)
			for _, one := range applied.Migrations {
				fmt.Fprintf(cmd.OutOrStdout(), "applied %s (%d steps)\n", one.File, len(one.Steps))
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "database %s at %s is up to date: %d applied now, %d in all; %d changes of time to live and indices\n",
				cfg.ClickHouse.Database, cfg.ClickHouse.Address, len(applied.Migrations), len(m.Migrations), applied.Changes)
			return nil
		},
	}.Command()
	return cmd
}

// connect returns JetStream of a NATS server that answers.
func connect(cfg Config, log *slog.Logger) (jetstream.JetStream, func(), error) {
	conn, err := natsconn.Connect("collector-tool", cfg.NATS, log, nats.RetryOnFailedConnect(false), nats.Timeout(answerTimeout))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, conn.Close, nil
}

var _ config.Validator = (*Config)(nil)
