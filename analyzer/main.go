// Command ebbwatch-analyzer runs the detectors over the stored flows and
// reports what they find.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/analyzer/app"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func main() {
	root := app.Command()
	root.Use = "ebbwatch-analyzer"
	os.Exit(cli.Main(root))
}
