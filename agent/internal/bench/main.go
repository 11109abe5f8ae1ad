// Command bench measures the agent on this host and prints one JSON line a
// figure: {"name","value","unit"}, medians. The memory figures need root: they
// run the real agent in a network namespace.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// figure is one line of the output.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func main() {
	only := flag.String("only", "", "measure only what has a name with this `prefix`")
	agent := flag.String("agent", "", "`path` of the agent's binary (default: built with go build)")
	flows := flag.Int("flows", 100_000, "live conversations for the memory figures")
	beginnings := flag.String("beginnings", filepath.Join("agent", "internal", "l7", "testdata"), "`folder` of recorded beginnings for the figures of hints")
	lab := flag.String(labFlag, "", "run as the process in the namespace that measures `what` (internal)")
	flag.Parse()
	if err := run(*only, *agent, *beginnings, *flows, *lab); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(only, agent, beginnings string, flows int, lab string) error {
	if flows < 1 || flows > maxFlows {
		return fmt.Errorf("flows is %d, must be 1 to %d", flows, maxFlows)
	}
	if lab != "" {
		measure := func() ([]figure, error) { return measureMemory(agent, flows) }
		if lab == labIperf {
			measure = func() ([]figure, error) { return measureLoss(agent) }
		}
		figures, err := measure()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(figures)
	}
	for _, g := range []struct {
		names   []string
		measure func() ([]figure, error)
	}{
		{[]string{"encode_ns_per_flow", "encode_ns_per_flow_1000", "wire_bytes_per_flow", "wire_bytes_per_flow_1000"}, measureEncoding},
		{[]string{"hint_dns_ns", "hint_tls_ns", "hint_http_ns", "hint_quic_ns"}, func() ([]figure, error) { return measureHints(beginnings) }},
		{[]string{"agent_rss_bytes_100k_flows", "agent_rss_idle_bytes", "agent_rss_peak_bytes", "agent_cpu_percent_10k_flows_s"}, func() ([]figure, error) { return inNamespace(labMemory, agent, flows) }},
		{[]string{"iperf_loss_percent", "iperf_gbit_s"}, func() ([]figure, error) { return inNamespace(labIperf, agent, flows) }},
	} {
		if !slices.ContainsFunc(g.names, func(name string) bool { return strings.HasPrefix(name, only) }) {
			continue
		}
		figures, err := g.measure()
		if err != nil {
			return err
		}
		for _, f := range figures {
			if !strings.HasPrefix(f.Name, only) {
				continue
			}
			if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
				return fmt.Errorf("print figure: %w", err)
			}
		}
	}
	return nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
