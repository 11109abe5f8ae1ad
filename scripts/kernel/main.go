// Command kernel runs the agent's tests on another Linux kernel, in a virtual
// machine: on Debian's own 6.1 unless told otherwise.
package main

import (
	"os"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/app"
)

func main() { os.Exit(cli.Main(app.Command())) }
