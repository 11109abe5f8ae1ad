// Package proctest runs the project's commands as processes of their own, as
// tests that kill them and benchmarks need them.
package proctest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child that ends with this process.
type Process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	output tail
	done   chan struct{}
	killed bool // by Kill
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const maxTail = 32 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*maxTail {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-maxTail:]...)
	}
	return len(p), nil
}

// Ebbwatch runs a subcommand of $EBBWATCH_BIN.
func Ebbwatch(verbose bool, env []string, args ...string) (*Process, error) {
	bin := os.Getenv("EBBWATCH_BIN")
	if bin == "" {
		return nil, errors.New("EBBWATCH_BIN must be the path of the command ebbwatch (make sets it)")
	}
	return Start(bin, verbose, env, args...)
}

// Start runs a program with env added to the environment. What it prints goes
// to standard error if verbose, and its end to Output if not.
func Start(program string, verbose bool, env []string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), done: make(chan struct{})} //nolint:gosec // the caller's own program
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if verbose {
		p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // why it ended shows in its output
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns the end of what the process printed.
func (p *Process) Output() string {
	p.output.mu.Lock()
	defer p.output.mu.Unlock()
	return string(p.output.kept)
}

// Killed reports whether the process ended by kill -9: of Kill, or of its own.
func (p *Process) Killed() bool {
	<-p.done
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return p.killed || ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// ExitCode waits for the end of the process and returns its exit status, -1 if a
// signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// CloseInput closes the process's standard input, for those that end with it.
func (p *Process) CloseInput() { p.stdin.Close() }

// Stop asks the process to end and waits.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // ended already is fine
	p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Kill ends the process and its children at once, as kill -9 does, and waits.
func (p *Process) Kill() {
	p.killed = true
	for _, child := range childrenOf(p.cmd.Process.Pid) {
		_ = syscall.Kill(child, syscall.SIGKILL) // ended already is fine
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// PeakRSS returns the largest resident set that the process or one of its
// children ever had, in bytes.
func (p *Process) PeakRSS() float64 { return peakRSS(p.cmd.Process.Pid) }

// RunAndWatch runs a command to its end and returns the largest resident set that
// it had, in bytes: what getrusage says of it begins with what this process has.
func RunAndWatch(cmd *exec.Cmd) (peak float64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return peak, err
		case <-time.After(10 * time.Millisecond):
			peak = max(peak, peakRSS(cmd.Process.Pid))
		}
	}
}

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

// CPUSeconds returns the processor time that the process and its living
// children have used.
func (p *Process) CPUSeconds() float64 { return CPUSeconds(p.cmd.Process.Pid) }

// CPUSeconds returns the processor time that a process and its living children
// have used.
func CPUSeconds(pid int) float64 {
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
		used += CPUSeconds(child)
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
