// Package app composes the whole of Ebbwatch in one process.
package app

import (
	"github.com/spf13/cobra"

	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
)

// Command returns the command tree of the binary ebbwatch.
func Command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ebbwatch",
		Short: "Catch network anomalies and explain each with its evidence",
	}
	root.AddCommand(upCommand(), engineCommand(), collector.Command(), engine.ChildCommand())
	return root
}
