package netlab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Process is a program that runs on a host.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs cmd on h, in a process group of its own. The kernel kills it if
// this process dies. Unlike with [exec.CommandContext] the end of ctx asks first:
// it sends SIGINT, waits up to grace, and then kills the group.
func (h *Host) Start(ctx context.Context, cmd *exec.Cmd, grace time.Duration) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// Pdeathsig follows the thread that started the process, so the thread
		// waits for it. It is not unlocked: it ends with this goroutine.
		runtime.LockOSThread()
		if err := netns.Set(h.handle); err != nil {
			started <- fmt.Errorf("enter namespace %s: %w", h.Namespace, err)
			return
		}
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s on %s: %w", cmd.Path, h.Name, err)
			return
		}
		started <- nil
		p.err = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		select {
		case <-p.done:
		case <-ctx.Done():
			p.Stop(grace)
		}
	}()
	return p, nil
}

// Run starts cmd as [Host.Start] does and waits for it. The error of ctx wins
// over what ending it caused.
func (h *Host) Run(ctx context.Context, cmd *exec.Cmd) error {
	p, err := h.Start(ctx, cmd, 2*time.Second)
	if err != nil {
		return err
	}
	<-p.Done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return p.Err()
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Err returns how the process ended, nil for status 0 and while it runs.
func (p *Process) Err() error {
	if !p.Ended() {
		return nil
	}
	return p.err
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Stop sends SIGINT, and SIGKILL to the whole group after grace. It returns when
// the process has ended.
func (p *Process) Stop(grace time.Duration) {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		<-p.done // it has ended already
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it ended meanwhile: nothing to kill
		<-p.done
	}
}
