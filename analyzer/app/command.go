package app

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// Command returns the command tree of the analyzer.
func Command() *cobra.Command {
	root := &cobra.Command{Use: "analyzer", Short: "Find anomalies in the stored flows and report them"}
	root.AddCommand(run(), backtest())
	return root
}

func run() *cobra.Command {
	return cli.Service[Config]{
		Use: "run", Short: "Run the analyzer until it is stopped", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			return a.Run(ctx)
		},
	}.Command()
}
