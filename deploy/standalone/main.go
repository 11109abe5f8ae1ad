// Command ebbwatch runs the whole of Ebbwatch, or any one part of it.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/app"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func main() { os.Exit(cli.Main(app.Command())) }
