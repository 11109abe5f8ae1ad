// Command bench measures what the processes of a standalone Ebbwatch hold
// resident, and prints it as JSON lines. It needs root: it runs them in a
// network namespace of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// figure is one line of the output.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// measurements are run if one of their names is wanted.
var measurements = []struct {
	names []string
	run   func(dir string) ([]figure, error)
}{
	{[]string{"standalone_rss_bytes", "standalone_clickhouse_rss_bytes"}, measureUp},
	{[]string{"nats_rss_bytes"}, measureNATS},
}

func main() {
	only := flag.String("only", "", "`prefix` of the names that are wanted")
	hold := flag.String("nats", "", "run NATS on this data `folder` until standard input is closed (used by the measurement itself)")
	flag.Parse()
	var err error
	if *hold != "" {
		err = holdNATS(*hold)
	} else {
		err = measure(*only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func measure(only string) error {
	out := json.NewEncoder(os.Stdout)
	for _, m := range measurements {
		if !wanted(m.names, only) {
			continue
		}
		dir, err := os.MkdirTemp("", "ebbwatch-bench-")
		if err != nil {
			return err
		}
		figures, err := m.run(dir)
		os.RemoveAll(dir)
		if err != nil {
			return fmt.Errorf("measure %s: %w", m.names[0], err)
		}
		for _, f := range figures {
			if !strings.HasPrefix(f.Name, only) {
				continue
			}
			if err := out.Encode(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func wanted(names []string, prefix string) bool {
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
