package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/debian"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/image"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/plan"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/suite"
)

// modules are what tests may need. What a kernel does not have is told, and no
// error: the test that needs it says so.
func modules() []string {
	return []string{
		"veth", "bridge", "8021q", "vxlan", "geneve", "gre", "ip_gre", "ip6_gre", "ipip", "sit", "ip6_tunnel", "tun", "ifb", "dummy", "macvlan",
		"sch_ingress", "cls_bpf", "sch_netem", "sch_tbf", "sch_htb",
		"tcp_diag", "udp_diag", "inet_diag",
	}
}

// assemble writes the machine's file system to disk.
func assemble(ctx context.Context, o Options, kernel debian.Kernel, disk string, packages []suite.Package, stderr io.Writer) error {
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	w := image.NewWriter(f)
	w.Console()
	for _, dir := range []string{"root", "bin", "etc"} {
		w.Dir(dir)
	}
	p := plan.Plan{Built: time.Now()}
	available, err := image.Open(kernel.Modules)
	if err != nil {
		return err
	}
	loaded, err := available.Resolve(modules()...)
	for _, m := range loaded {
		path := "/modules/" + m.Name + ".ko"
		w.Bytes(path, 0o644, m.ELF)
		p.Modules = append(p.Modules, path)
	}
	if errors.Is(err, image.ErrNoModule) {
		fmt.Fprintf(stderr, "this kernel lacks: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	} else if err != nil {
		return err
	}
	if p.Tests, err = suite.Build(ctx, w, o.Root, filepath.Dir(disk), o.Arch, o.Run, packages); err != nil {
		return err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	w.Bytes(plan.File, 0o644, data)
	return errors.Join(w.Close(), f.Close())
}

// boot runs the machine until it powers off, with its console in the file log.
func boot(ctx context.Context, o Options, kernel, disk, log string, stderr io.Writer) error {
	console, err := os.Create(log)
	if err != nil {
		return err
	}
	defer console.Close()
	limited, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("not done in %v", o.Limit))
	defer cancel()
	limited, giveUp := context.WithCancelCause(limited)
	watch := time.AfterFunc(o.Silence, func() { giveUp(fmt.Errorf("nothing printed for %v", o.Silence)) })
	defer watch.Stop()
	tool, args, err := emulator(o, kernel, disk)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(limited, tool, args...)
	var complaints strings.Builder
	heard := []io.Writer{console, alive(func() { watch.Reset(o.Silence) })}
	if o.Verbose {
		heard = append(heard, stderr)
	}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = io.MultiWriter(heard...), &complaints, 5*time.Second
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(limited); cause != nil {
			err = cause
		}
		return fmt.Errorf("%s: %w\n%s", tool, err, complaints.String())
	}
	return nil
}

// alive is called for each write.
type alive func()

func (a alive) Write(p []byte) (int, error) {
	a()
	return len(p), nil
}

// emulator returns the command of the machine.
func emulator(o Options, kernel, disk string) (string, []string, error) {
	var tool, terminal string
	var args []string
	switch o.Arch {
	case "amd64":
		tool, terminal = "qemu-system-x86_64", "ttyS0"
		args = []string{"-machine", "pc", "-cpu", "max"}
	case "arm64":
		tool, terminal = "qemu-system-aarch64", "ttyAMA0"
		args = []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on"}
	default:
		return "", nil, fmt.Errorf("architecture %q: want amd64 or arm64", o.Arch)
	}
	// Nothing but emergencies goes to the console while tests print there; a panic or
	// an oops ends the machine.
	words := "console=" + terminal + " loglevel=1 panic=-1 oops=panic " + o.Append
	return tool, append(args, "-accel", o.Accel, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", kernel, "-initrd", disk, "-append", strings.TrimSpace(words)), nil
}
