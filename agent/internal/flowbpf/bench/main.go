// Command bench measures the datapath on this host by BPF_PROG_TEST_RUN and
// prints one JSON line a figure: {"name","value","unit"}, medians. The figures
// of hot flows are taken in turns with those of the empty program, in one run.
// It needs root.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

func main() {
	only := flag.String("only", "", "print only figures whose name begins with `prefix`")
	rounds := flag.Int("rounds", 21, "how often to measure each figure")
	flag.Parse()
	if err := run(*only, *rounds, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(only string, rounds int, out io.Writer) error {
	if rounds < 1 {
		return fmt.Errorf("rounds is %d, must be 1 or more", rounds)
	}
	if !slices.ContainsFunc(groups(), func(g group) bool { return g.has(only) }) {
		return nil // a prefix of other programs' figures
	}
	// Between system calls the scheduler would move the goroutine to another CPU.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d, err := flowbpf.Load(flowbpf.DefaultConfig(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Pretend(1, false); err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	for _, g := range groups() {
		if !g.has(only) {
			continue
		}
		values, err := g.measure(d, rounds)
		if err != nil {
			return fmt.Errorf("measure %s: %w", g.figures[0].Name, err)
		}
		for i, f := range g.figures {
			if !strings.HasPrefix(f.Name, only) {
				continue
			}
			f.Value = median(values[i])
			if err := lines.Encode(f); err != nil {
				return fmt.Errorf("print figure: %w", err)
			}
		}
	}
	return nil
}
