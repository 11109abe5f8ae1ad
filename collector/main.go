// Command ebbwatch-collector moves flow records from NATS JetStream into
// ClickHouse, each exactly once.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func main() {
	root := app.Command()
	root.Use = "ebbwatch-collector"
	os.Exit(cli.Main(root))
}
