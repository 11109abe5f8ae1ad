// Command guest is the init of the virtual machine that `kernel` boots: it mounts
// what tests need, loads kernel modules, runs the test binaries of the plan with
// their output on the console, and powers the machine off.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/plan"
)

func main() {
	if os.Getpid() != 1 {
		if err := run(); err != nil {
			say(plan.Note, err)
			os.Exit(1)
		}
		return
	}
	if err := supervise(); err != nil {
		say(plan.Note, err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say(plan.Note, fmt.Errorf("power off: %w", err))
	}
}

func say(word string, rest any) { fmt.Printf("\n%s%s %v\n", plan.Mark, word, rest) }

// supervise does what only process 1 can: it runs everything in a child and
// reaps whatever is orphaned, so that a test finds its killed process gone.
func supervise() error {
	if err := mounts(); err != nil {
		return err
	}
	child, err := os.StartProcess("/init", []string{"/init"}, &os.ProcAttr{
		Dir: "/", Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env: []string{"PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8"},
	})
	if err != nil {
		return fmt.Errorf("start the runner: %w", err)
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == child.Pid {
			return err
		}
	}
}

func mounts() error {
	for _, m := range []struct {
		kind, at string
		required bool
	}{
		{"proc", "/proc", true},
		{"sysfs", "/sys", true},
		{"devtmpfs", "/dev", true},
		{"tmpfs", "/tmp", true},
		{"tmpfs", "/run", true},
		{"bpf", "/sys/fs/bpf", true},
		{"cgroup2", "/sys/fs/cgroup", true},
		{"tracefs", "/sys/kernel/tracing", false},
		{"devpts", "/dev/pts", false},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil && m.required {
			return fmt.Errorf("make %s: %w", m.at, err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			if m.required {
				return fmt.Errorf("mount %s: %w", m.at, err)
			}
			say(plan.Note, fmt.Errorf("mount %s: %w", m.at, err))
		}
	}
	return nil
}

func run() error {
	data, err := os.ReadFile(plan.File)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var p plan.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's name: %w", err)
	}
	say(plan.Kernel, unix.ByteSliceToString(name.Release[:])+" "+unix.ByteSliceToString(name.Machine[:]))
	if time.Now().Before(p.Built) {
		now := unix.NsecToTimeval(p.Built.UnixNano())
		if err := unix.Settimeofday(&now); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("name the host: %w", err)
	}
	for _, path := range p.Modules {
		if err := load(path); err != nil {
			say(plan.Note, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, t := range p.Tests {
		say(plan.Begin, t.Name)
		end := "ok"
		if err := test(t); err != nil {
			end = err.Error()
			kernelLog()
		}
		say(plan.End, t.Name+" "+end)
	}
	say(plan.Done, len(p.Tests))
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func test(t plan.Test) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Binary, t.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.Dir, os.Stdout, os.Stdout
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("not done in %v", t.Limit)
		}
		return err
	}
	return nil
}

// kernelLog shows the last of what the kernel said: the console carries only
// emergencies while tests write to it.
func kernelLog() {
	buffer := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buffer)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(buffer[:n])), "\n")
	for _, line := range lines[max(0, len(lines)-15):] {
		say(plan.Note, line)
	}
}
