package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// process is a child that ends with this process.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	output bytes.Buffer
	done   chan struct{}
}

// start runs a subcommand of $EBBWATCH_BIN.
func start(verbose bool, env []string, args ...string) (*process, error) {
	bin := os.Getenv("EBBWATCH_BIN")
	if bin == "" {
		return nil, errors.New("EBBWATCH_BIN must be the path of the command ebbwatch (make bench sets it)")
	}
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if verbose {
		p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // why it ended shows in its output
	}()
	return p, nil
}

// stop asks the process to end and waits.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // ended already is fine
	p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// peakRSS returns the largest resident set that the process or one of its
// children ever had, in bytes.
func (p *process) peakRSS() float64 { return peakRSS(p.cmd.Process.Pid) }

func peakRSS(pid int) float64 {
	var peak float64
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: 0
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			peak = kib * 1024
		}
	}
	for _, child := range childrenOf(pid) {
		peak = max(peak, peakRSS(child))
	}
	return peak
}

// cpuSeconds returns the processor time that the process and its living
// children have used.
func (p *process) cpuSeconds() float64 { return cpuSeconds(p.cmd.Process.Pid) }

func cpuSeconds(pid int) float64 {
	const ticks = 100 // of USER_HZ, a constant of Linux's interface
	var used float64
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // gone: 0
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 {
		if fields := strings.Fields(string(stat[i+1:])); len(fields) > 12 {
			for _, f := range fields[11:13] { // utime, stime
				n, _ := strconv.ParseFloat(f, 64)
				used += n / ticks
			}
		}
	}
	for _, child := range childrenOf(pid) {
		used += cpuSeconds(child)
	}
	return used
}

func childrenOf(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if id, err := strconv.Atoi(child); err == nil {
				all = append(all, id)
			}
		}
	}
	return all
}

// clickHouse is a running engine.
type clickHouse struct {
	*process
	addr, password string
	conn           clickhouse.Conn
}

func startClickHouse(ctx context.Context, dir string, databases []string, verbose bool) (*clickHouse, error) {
	tcp, err := freePort()
	if err != nil {
		return nil, err
	}
	http, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := start(verbose, []string{
		"EBBWATCH_DATA_DIR=" + dir, "EBBWATCH_CLICKHOUSE_TCP_PORT=" + tcp, "EBBWATCH_CLICKHOUSE_HTTP_PORT=" + http,
		"EBBWATCH_CLICKHOUSE_DATABASES=[" + strings.Join(databases, ",") + "]",
	}, "engine", "--end-with-stdin")
	if err != nil {
		return nil, err
	}
	c := &clickHouse{process: p, addr: "127.0.0.1:" + tcp}
	for {
		select {
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-p.done:
			return nil, fmt.Errorf("the engine ended: %s", p.output.String())
		case <-time.After(100 * time.Millisecond):
		}
		if c.connect(ctx, dir) == nil {
			return c, nil
		}
	}
}

func (c *clickHouse) connect(ctx context.Context, dir string) error {
	password, err := os.ReadFile(filepath.Join(dir, "secrets", "clickhouse-collector"))
	if err != nil {
		return err
	}
	c.password = strings.TrimSpace(string(password))
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{c.addr}, Auth: clickhouse.Auth{Username: "collector", Password: c.password}, ReadTimeout: 10 * time.Minute,
	})
	if err != nil {
		return err
	}
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return err
	}
	c.conn = conn
	return nil
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}
