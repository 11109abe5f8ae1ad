package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/owner"
	"github.com/ebbwatch/ebbwatch/agent/internal/seed"
	"github.com/ebbwatch/ebbwatch/agent/internal/trace"
)

// each returns the mean processor time of n calls of do on this thread, in
// nanoseconds. Packets over loopback are handled on the thread that sends them.
func each(n int, do func() error) (float64, error) {
	runtime.GC() // the garbage of loading programs is not what is measured
	start := threadTime()
	for range n {
		if err := do(); err != nil {
			return 0, err
		}
	}
	return float64(threadTime()-start) / float64(n), nil
}

// threadTime is the processor time of this thread, in the kernel and outside.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // cannot happen: the clock exists since Linux 2.6
	}
	return time.Duration(ts.Nano())
}

// both measures do without and with a watcher of owners.
func both(log *slog.Logger, n int, do func() error) ([]float64, error) {
	without, err := each(n, do)
	if err != nil {
		return nil, err
	}
	w := owner.Open(nil, log)
	defer w.Close()
	with, err := each(n, do)
	return []float64{without, with}, err
}

// measureConnect opens and closes a connection over loopback, both ends.
func measureConnect(log *slog.Logger) ([]float64, error) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer unix.Close(l)
	at := &unix.SockaddrInet4{Port: 4242, Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := unix.Bind(l, at); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := unix.Listen(l, 16); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return both(log, 2000, func() error {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer unix.Close(c)
		// Closing resets, so that no port waits.
		if err := unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		if err := unix.Connect(c, at); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		s, _, err := unix.Accept(l)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		return unix.Close(s)
	})
}

func measureSocket(log *slog.Logger) ([]float64, error) {
	return both(log, 20_000, func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make socket: %w", err)
		}
		return unix.Close(s)
	})
}

// measureDrops sends datagrams to a closed port: what the program takes by the
// kernel's statistics, and a packet's whole way without and with it.
func measureDrops(log *slog.Logger) ([]float64, error) {
	const n = 50_000
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(s)
	to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	send := func() error { return unix.Sendto(s, make([]byte, 64), 0, to) }
	without, err := each(n, send)
	if err != nil {
		return nil, err
	}
	t := trace.Open(log)
	defer t.Close()
	with, err := each(n, send)
	if err != nil {
		return nil, err
	}
	statistics, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("have the kernel keep statistics: %w", err)
	}
	defer statistics.Close()
	before, err := t.Stats()
	if err != nil {
		return nil, err
	}
	if _, err := each(n, send); err != nil {
		return nil, err
	}
	after, err := t.Stats()
	if err != nil {
		return nil, err
	}
	if after.Runs-before.Runs < n {
		return nil, fmt.Errorf("%d drops were seen, want %d", after.Runs-before.Runs, n)
	}
	event := float64(after.RunTime-before.RunTime) / float64(after.Runs-before.Runs)
	return []float64{event, without, with}, nil
}

// measureLists has 10,000 sockets open: 5,000 connections with both ends here.
func measureLists(log *slog.Logger) ([]float64, error) {
	const n = 5000
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	for range n {
		c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		defer c.Close()
		s, err := l.AcceptTCP()
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		defer s.Close()
	}
	w := owner.Open(nil, log)
	defer w.Close()
	scan := func() error { _, err := w.Scan(context.Background()); return err }
	first, err := each(1, scan)
	if err != nil {
		return nil, err
	}
	again, err := each(3, scan)
	if err != nil {
		return nil, err
	}
	lister, err := seed.Open()
	if err != nil {
		return nil, err
	}
	defer lister.Close()
	list, err := each(3, func() error {
		list, err := lister.List(context.Background())
		if err == nil && len(list) < 2*n {
			err = fmt.Errorf("%d sockets were listed, want %d", len(list), 2*n)
		}
		return err
	})
	return []float64{first, again, list}, err
}

// measureLookup names this process: remembered, and for the first time.
func measureLookup(log *slog.Logger) ([]float64, error) {
	w := owner.Open(nil, log)
	defer w.Close()
	self := uint32(os.Getpid())
	ask := func(pid uint32) error {
		if _, ok := w.Owner(pid); !ok {
			return fmt.Errorf("process %d is unknown", pid)
		}
		return nil
	}
	first, err := each(1, func() error { return ask(self) })
	if err != nil {
		return nil, err
	}
	again, err := each(100_000, func() error { return ask(self) })
	return []float64{again, first}, err
}
