package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

const (
	iperfPairs   = 7
	iperfSeconds = "3"
	iperfPort    = "5201"
)

// measureLoss measures what the agent takes from a bulk transfer: iperf3 over a
// veth pair at full rate, from the neighbour to here, in turns with the agent on
// the receiving interface and without it. The figure is the median over the
// pairs, which are measured one right after the other; it can be below 0.
func measureLoss(agent string) ([]figure, error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return nil, errors.New("iperf_loss_percent needs iperf3 (scripts/setup-lab.sh installs it)")
	}
	inNeighbour, err := neighbour()
	if err != nil {
		return nil, err
	}
	url, stop, err := startNATS()
	if err != nil {
		return nil, err
	}
	defer stop()
	with := func() (float64, error) {
		a, err := startAgent(agent, url)
		if err != nil {
			return 0, err
		}
		defer a.stop()
		if err := a.wait("ebbwatch_agent_interfaces", 1); err != nil {
			return 0, err
		}
		time.Sleep(time.Second) // what the start costs is not what it costs to run
		return iperf(inNeighbour)
	}
	without := func() (float64, error) { return iperf(inNeighbour) }
	var losses, rates []float64
	for i := range iperfPairs {
		order := []func() (float64, error){without, with}
		if i%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		var got [2]float64
		for j, run := range order {
			if got[j], err = run(); err != nil {
				return nil, err
			}
		}
		if i%2 == 1 {
			got[0], got[1] = got[1], got[0]
		}
		losses, rates = append(losses, 100*(1-got[1]/got[0])), append(rates, got[0])
	}
	return []figure{{"iperf_loss_percent", median(losses), "percent"}, {"iperf_gbit_s", median(rates) / 1e9, "Gbit/s"}}, nil
}

// iperf runs a server here and a client in the neighbour, and returns the bits
// that arrived per second.
func iperf(inNeighbour func(func() error) error) (rate float64, err error) {
	server := exec.Command("iperf3", "--server", "--one-off", "--bind", "10.0.0.1", "--port", iperfPort)
	if err := server.Start(); err != nil {
		return 0, fmt.Errorf("start iperf3's server: %w", err)
	}
	defer func() {
		if err != nil {
			_ = server.Process.Kill() // it waits for a client that does not come
		}
		_ = server.Wait()
	}()
	for tries := 0; ; tries++ {
		rate, err = iperfClient(inNeighbour)
		if err == nil || tries == 20 {
			return rate, err
		}
		time.Sleep(100 * time.Millisecond) // the server is not listening yet
	}
}

func iperfClient(inNeighbour func(func() error) error) (float64, error) {
	var out []byte
	err := inNeighbour(func() (err error) {
		out, err = exec.Command("iperf3", "--client", "10.0.0.1", "--port", iperfPort, "--time", iperfSeconds, "--json").Output()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("run iperf3: %w", err)
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, fmt.Errorf("read iperf3's result: %w", err)
	}
	if result.End.Received.Rate <= 0 {
		return 0, errors.New("iperf3 transferred nothing")
	}
	return result.End.Received.Rate, nil
}
