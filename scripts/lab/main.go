// Command lab builds networks of namespaces on this machine and plays ordinary
// traffic and attacks in them, to show and to test Ebbwatch.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/lab/app"
)

func main() { os.Exit(cli.Main(app.Command())) }
