package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	labFlag   = "in-namespace"
	labMemory = "memory" // its values
	labIperf  = "iperf"
	// maxFlows is how many distinct conversations the neighbour can make.
	maxFlows = 200 * portsPerAddress
	// portsPerAddress keeps clear of the ports that mean something.
	portsPerAddress = 50_000
)

// inNamespace runs this program again in a network namespace of its own, which
// ends with it, and returns what that measured.
func inNamespace(what, agent string, flows int) ([]figure, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("these figures need root")
	}
	if agent == "" {
		dir, err := os.MkdirTemp("", "ebbwatch-bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		agent = filepath.Join(dir, "ebbwatch-agent")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", agent, "github.com/ebbwatch/ebbwatch/agent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does: libc would be resident, too
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build the agent: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.Command(self, "-"+labFlag, what, "-agent", agent, "-flows", fmt.Sprint(flows))
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("measure in a namespace: %w", err)
	}
	var figures []figure
	if err := json.Unmarshal(out.Bytes(), &figures); err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	return figures, nil
}

// neighbour is another namespace, reached through the interface eth0 of this
// one (10.0.0.1). run calls f in it.
func neighbour() (run func(f func() error) error, err error) {
	calls, results := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace lives with the thread
		for f := range calls {
			results <- f()
		}
	}()
	run = func(f func() error) error {
		calls <- f
		return <-results
	}
	var fd int
	if err := run(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("make namespace: %w", err)
	}
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}); err != nil {
		return nil, fmt.Errorf("add veth: %w", err)
	}
	if err := errors.Join(raise("lo", ""), raise("eth0", "10.0.0.1/16"), run(func() error { return raise("eth0", "10.0.0.2/16") })); err != nil {
		return nil, err
	}
	return run, nil
}

func raise(name, cidr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s: %w", cidr, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// send sends one datagram of each of the conversations from to to-1, from as
// many source ports as it takes.
func send(from, to int) error {
	var c net.PacketConn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	source := -1
	payload := []byte("0123456789abcdef")
	for i := from; i < to; i++ {
		if s := i / portsPerAddress; s != source {
			if c != nil {
				c.Close()
			}
			var err error
			if c, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp4", fmt.Sprintf("10.0.0.2:%d", 20_000+s)); err != nil {
				return err
			}
			source = s
		}
		if _, err := c.WriteTo(payload, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 10_000 + i%portsPerAddress}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}
