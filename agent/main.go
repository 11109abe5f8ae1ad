// Command ebbwatch-agent watches a host's network interfaces and sends flow
// records to NATS.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/agent/app"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func main() {
	root := app.Command()
	root.Use = "ebbwatch-agent"
	os.Exit(cli.Main(root))
}
