package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// measureMemory runs the agent, with its defaults, beside a NATS server that
// stores its batches, and reads its memory from /proc: idle, while all
// conversations are live and half of them send in each drain interval, and at
// the peak. Then it measures the processor time at 10,000 new flows a second.
func measureMemory(agent string, flows int) ([]figure, error) {
	inNeighbour, err := neighbour()
	if err != nil {
		return nil, err
	}
	url, stop, err := startNATS()
	if err != nil {
		return nil, err
	}
	defer stop()
	a, err := startAgent(agent, url)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	if err := a.wait("ebbwatch_agent_interfaces", 1); err != nil {
		return nil, err
	}
	time.Sleep(6 * time.Second) // a drain
	idle, err := a.status("VmRSS")
	if err != nil {
		return nil, err
	}
	half := min((flows+1)/2, portsPerAddress)
	var samples []float64
	for round := 0; round < 8; round++ {
		from := round * half % flows
		if err := inNeighbour(func() error { return send(from, min(from+half, flows)) }); err != nil {
			return nil, err
		}
		for range 5 {
			time.Sleep(time.Second)
			if round < 3 {
				continue // not all are live yet
			}
			rss, err := a.status("VmRSS")
			if err != nil {
				return nil, err
			}
			samples = append(samples, rss)
		}
	}
	if err := a.wait("ebbwatch_agent_conversations", float64(flows)); err != nil {
		return nil, err
	}
	peak, err := a.status("VmHWM")
	if err != nil {
		return nil, err
	}
	cpu, err := a.load(inNeighbour)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"agent_rss_bytes_100k_flows", median(samples), "bytes"}, {"agent_rss_idle_bytes", idle, "bytes"}, {"agent_rss_peak_bytes", peak, "bytes"},
		{"agent_cpu_percent_10k_flows_s", cpu, "% of a core"},
	}, nil
}

func startNATS() (url string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "ebbwatch-bench")
	if err != nil {
		return "", nil, err
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.Start()
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
		os.RemoveAll(dir)
	}
	if !s.ReadyForConnections(10 * time.Second) {
		stop()
		return "", nil, errors.New("NATS is not ready")
	}
	if err := makeStream(s.ClientURL()); err != nil {
		stop()
		return "", nil, err
	}
	return s.ClientURL(), stop, nil
}

func makeStream(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
	})
	if err != nil {
		return fmt.Errorf("create stream: %w", err)
	}
	return nil
}

// process is a running agent.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

const agentAddress = "127.0.0.1:8461"

func startAgent(path, url string) (*process, error) {
	p := &process{cmd: exec.Command(path, "run"), log: new(bytes.Buffer)}
	p.cmd.Env = append(os.Environ(), "EBBWATCH_NAME=bench", "EBBWATCH_NATS_URL="+url, "EBBWATCH_LISTEN="+agentAddress,
		"EBBWATCH_SPOOL_DIR=") // the host's own agent may have the usual one
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	_ = p.cmd.Wait()
}

const programSeconds = "ebbwatch_agent_program_seconds_total"

// metric returns the value of a metric without labels.
func (p *process) metric(name string) (float64, error) {
	body, err := fetch("http://" + agentAddress + "/metrics")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	_, after, _ := strings.Cut(string(body), "\n"+name+" ")
	line, _, _ := strings.Cut(after, "\n")
	v, err := strconv.ParseFloat(line, 64)
	if err != nil {
		return 0, fmt.Errorf("read metric %s: %w", name, err)
	}
	return v, nil
}

// wait waits until the metric has at least the value.
func (p *process) wait(metric string, value float64) error {
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, err := p.metric(metric); err == nil && got >= value {
			return nil
		}
	}
	return fmt.Errorf("%s did not reach %v; the agent's log:\n%s", metric, value, p.log)
}

func fetch(url string) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// status returns a value of /proc/PID/status in bytes.
func (p *process) status(key string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("%w; the agent's log:\n%s", err, p.log)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/PID/status", key)
}

// cpuSeconds returns the processor time that the agent has used.
func (p *process) cpuSeconds() (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(data), ") ") // the command's name may hold spaces
	fields := strings.Fields(after)
	var ticks float64
	for _, field := range fields[11:13] { // utime and stime
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		ticks += v
	}
	return ticks / 100, nil // USER_HZ is 100 on every architecture that we build for
}

// load sends 10,000 new flows a second for 15 s and returns the agent's
// processor time in percent of a core: its own, and what its programs took in the
// senders' context by their own account.
func (p *process) load(inNeighbour func(func() error) error) (float64, error) {
	const perSecond, seconds, slices = 10_000, 15, 20
	begin := time.Now()
	before, err := p.cpuSeconds()
	if err != nil {
		return 0, err
	}
	programs, err := p.metric(programSeconds)
	if err != nil {
		return 0, err
	}
	next := 2 * portsPerAddress // beyond the conversations that live already
	for i := range seconds * slices {
		if err := inNeighbour(func() error { return send(next, next+perSecond/slices) }); err != nil {
			return 0, err
		}
		next += perSecond / slices
		time.Sleep(time.Until(begin.Add(time.Duration(i+1) * time.Second / slices)))
	}
	after, err := p.cpuSeconds()
	if err != nil {
		return 0, err
	}
	ran, err := p.metric(programSeconds)
	if err != nil {
		return 0, err
	}
	after += ran - programs
	return 100 * (after - before) / time.Since(begin).Seconds(), nil
}
