package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
)

const (
	startTimeout = 60 * time.Second
	settle       = 10 * time.Second // from ready to the first sample
	samples      = 5                // one a second; the median counts
)

// measureUp runs everything, idle, in a namespace with one wire.
func measureUp(dir string) ([]figure, error) {
	bin := os.Getenv("EBBWATCH_BIN")
	if bin == "" {
		return nil, errors.New("EBBWATCH_BIN names no binary: run make bench")
	}
	cmd := exec.Command("sh", "-c", `ip link set lo up && ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up && exec "$0" up --data "$1"`, bin, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	var figures []figure
	err = while(cmd, stderr, "Ebbwatch is running", func(pid int) error {
		self, err := medianRSS(pid)
		if err != nil {
			return err
		}
		children, err := childrenOf(pid)
		if err != nil {
			return err
		}
		if len(children) != 1 {
			return fmt.Errorf("children %v, want ClickHouse alone", children)
		}
		engine, err := medianRSS(children[0])
		figures = []figure{{"standalone_rss_bytes", self, "bytes"}, {"standalone_clickhouse_rss_bytes", engine, "bytes"}}
		return err
	})
	return figures, err
}

// measureNATS runs the NATS server of a standalone Ebbwatch in a process of its own.
func measureNATS(dir string) ([]figure, error) {
	cmd := exec.Command("/proc/self/exe", "-nats", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	var figures []figure
	err = while(cmd, stderr, "NATS is running", func(pid int) error {
		rss, err := medianRSS(pid)
		figures = []figure{{"nats_rss_bytes", rss, "bytes"}}
		return err
	})
	return figures, err
}

// holdNATS runs NATS until standard input is closed.
func holdNATS(path string) error {
	// The namespace is new: its loopback is down.
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring loopback up: %w: %s", err, out)
	}
	dir, err := datadir.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	server := natsd.New(natsd.DefaultConfig(), dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	go func() {
		<-server.Ready()
		fmt.Fprintln(os.Stderr, "NATS is running")
	}()
	return server.Run(ctx)
}

// while runs work on the process once it has printed ready, and then ends it.
func while(cmd *exec.Cmd, stderr io.Reader, ready string, work func(pid int) error) error {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		stdin.Close()
		_ = cmd.Process.Signal(os.Interrupt) // ended already is fine
		_ = cmd.Wait()                       // how it ends is not what is measured
	}()
	seen := make(chan error, 1)
	go func() {
		var last string
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if last = lines.Text(); strings.Contains(last, ready) {
				seen <- nil
				_, _ = io.Copy(io.Discard, stderr)
				return
			}
		}
		seen <- fmt.Errorf("%s ended: %s", cmd.Path, last)
	}()
	select {
	case err := <-seen:
		if err != nil {
			return err
		}
	case <-time.After(startTimeout):
		return fmt.Errorf("%s is not ready after %s", cmd.Path, startTimeout)
	}
	time.Sleep(settle)
	return work(cmd.Process.Pid)
}

// medianRSS returns the resident set of a process in bytes.
func medianRSS(pid int) (float64, error) {
	var values []float64
	for range samples {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		var size, resident float64
		if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
			return 0, err
		}
		values = append(values, resident*float64(os.Getpagesize()))
		time.Sleep(time.Second)
	}
	slices.Sort(values)
	return values[len(values)/2], nil
}

// childrenOf returns the processes that pid started.
func childrenOf(pid int) ([]int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			children = append(children, child)
		}
	}
	return children, nil
}
