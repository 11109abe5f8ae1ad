// Package app composes the whole of Ebbwatch in one process.
package app

import (
	"fmt"

	"github.com/spf13/cobra"

	agent "github.com/ebbwatch/ebbwatch/agent/app"
	analyzer "github.com/ebbwatch/ebbwatch/analyzer/app"
	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// Command returns the command tree of the binary ebbwatch.
func Command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ebbwatch",
		Short: "Catch network anomalies and explain each with its evidence",
	}
	root.AddCommand(upCommand(), engineCommand(), agent.Command(), collector.Command(localLetters), analyzer.Command(), importCommand(), versionCommand(), engine.ChildCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), cli.Version())
			return err
		},
	}
}
