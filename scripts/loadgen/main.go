// Command loadgen plays agents with seeded traffic against a NATS server, to see
// what a collector and its store can take.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/loadgen/app"
)

func main() { os.Exit(cli.Main(app.Command())) }
