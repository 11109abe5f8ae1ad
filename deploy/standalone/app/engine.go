package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// exitNoEngine tells a script that the host has no ClickHouse, not that it failed.
const exitNoEngine = 4

// engineCommand returns the command that runs the local ClickHouse alone.
func engineCommand() *cobra.Command {
	var withStdin bool
	cmd := cli.Service[Config]{
		Use:   "engine",
		Short: "Run only the local ClickHouse",
		Long: "Run only the local ClickHouse, on the data folder and the ports of `ebbwatch up`, which must not run.\n" +
			"The passwords of the users collector and analyzer are in DATA/secrets; the user reader has none.\n" +
			"ClickHouse settings of your own go into DATA/clickhouse.d/*.xml.",
		Default: DefaultConfig,
		Check: func(ctx context.Context, cfg Config) error {
			return checkStart(ctx, cfg, engine.New(cfg.ClickHouse, nil, nil).Ports())
		},
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			if withStdin {
				ctx = untilStdinEnds(ctx)
			}
			err := runEngine(ctx, cfg, log)
			if errors.Is(err, engine.ErrMissing) {
				return &cli.ExitError{Code: exitNoEngine, Err: err}
			}
			return err
		},
	}.Command()
	addFlags(cmd, true)
	cmd.Flags().BoolVar(&withStdin, "end-with-stdin", false, "stop when standard input is closed, as by the end of the process that started this one")
	return cmd
}

func runEngine(ctx context.Context, cfg Config, log *slog.Logger) error {
	dir, err := datadir.Open(cfg.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	e := engine.New(cfg.ClickHouse, dir, log)
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-e.Ready():
	}
	fmt.Fprintf(os.Stderr, "ClickHouse is ready: native %s, HTTP http://%s, data %s\n",
		port.Loopback(cfg.ClickHouse.TCPPort), port.Loopback(cfg.ClickHouse.HTTPPort), dir.Path())
	return <-done
}

// untilStdinEnds returns a context that ends with standard input.
func untilStdinEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}
