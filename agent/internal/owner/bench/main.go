// Command bench measures what it costs to know owners, openers and losses, and
// prints one JSON line a figure: {"name","value","unit"}, medians. Figures with
// and without are taken in turns. It needs root, and works in a network
// namespace of its own.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// figure is one line of the output.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// group is figures that are measured together: one sample of each a round.
type group struct {
	figures []figure
	measure func(log *slog.Logger) ([]float64, error)
	rounds  int
}

func groups() []group {
	return []group{
		{[]figure{{Name: "connect_ns", Unit: "ns/connection"}, {Name: "connect_owner_ns", Unit: "ns/connection"}}, measureConnect, 11},
		{[]figure{{Name: "socket_ns", Unit: "ns/socket"}, {Name: "socket_owner_ns", Unit: "ns/socket"}}, measureSocket, 11},
		{[]figure{{Name: "drop_event_ns", Unit: "ns/drop"}, {Name: "drop_ns", Unit: "ns/packet"}, {Name: "drop_traced_ns", Unit: "ns/packet"}}, measureDrops, 5},
		{[]figure{{Name: "owner_first_scan_10k_ns", Unit: "ns/scan"}, {Name: "owner_scan_10k_ns", Unit: "ns/scan"}, {Name: "seed_10k_ns", Unit: "ns/list"}}, measureLists, 1},
		{[]figure{{Name: "owner_lookup_ns", Unit: "ns/record"}, {Name: "owner_first_lookup_ns", Unit: "ns/process"}}, measureLookup, 5},
	}
}

func main() {
	only := flag.String("only", "", "print only figures whose name begins with `prefix`")
	flag.Parse()
	if err := run(*only, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(only string, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	lines := json.NewEncoder(out)
	entered := false
	for _, g := range groups() {
		wanted := func(f figure) bool { return strings.HasPrefix(f.Name, only) }
		if !slices.ContainsFunc(g.figures, wanted) {
			continue
		}
		if !entered {
			if err := enter(); err != nil {
				return err
			}
			entered = true
		}
		samples := make([][]float64, len(g.figures))
		for range g.rounds {
			values, err := g.measure(log)
			if err != nil {
				return fmt.Errorf("measure %s: %w", g.figures[0].Name, err)
			}
			for i, v := range values {
				samples[i] = append(samples[i], v)
			}
		}
		for i, f := range g.figures {
			if !wanted(f) {
				continue
			}
			slices.Sort(samples[i])
			f.Value = samples[i][len(samples[i])/2]
			if err := lines.Encode(f); err != nil {
				return fmt.Errorf("print figure: %w", err)
			}
		}
	}
	return nil
}

// enter moves this thread, which it keeps, to a network namespace that ends
// with the process.
func enter() error {
	runtime.LockOSThread()
	inside, err := netns.New()
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err := errors.Join(err, inside.Close()); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}
