package owner

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

func TestProcessesThatLiveForMillisecondsAreNamed(t *testing.T) {
	h := newHost(t)
	server := start(t, "ebbserver", "tcpserver", "127.0.0.1:0", nil)
	to := fmt.Sprintf("127.0.0.1:%d", server.port)
	clients := make([]*actor, 100)
	for i := range clients {
		clients[i] = start(t, fmt.Sprintf("ebbclient-%d", i), "tcp", to, func(c *exec.Cmd) {
			if i%2 == 1 {
				c.Env = append(c.Env, userVariable+"=65534")
			}
		})
		clients[i].wait(t)
	}
	for i, c := range clients {
		want := ebbwatch.Owner{PID: c.pid(), Process: fmt.Sprintf("ebbclient-%d", i)}
		if i%2 == 1 {
			want.UID = 65534
		}
		got := h.ownerOf(t, c.port, server.port)
		got.Unit = ""
		if got != want {
			t.Errorf("client %d is %+v, want %+v", i, got, want)
		}
		if got := h.ownerOf(t, server.port, c.port); got.PID != server.pid() || got.Process != "ebbserver" {
			t.Errorf("client %d was served by %+v, want process %d", i, got, server.pid())
		}
	}
}

func TestBothEndsOfUDPAreNamed(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		h := newHost(t)
		server := start(t, "ebbudpserver", "udpserver", address, nil)
		client := start(t, "ebbudpclient", "udp", strings.TrimSuffix(address, "0")+fmt.Sprint(server.port), nil)
		client.wait(t)
		if o := h.ownerOf(t, client.port, server.port); o.PID != client.pid() || o.Process != "ebbudpclient" {
			t.Errorf("%s: the client is %+v", address, o)
		}
		if o := h.ownerOf(t, server.port, 0); o.PID != server.pid() || o.Process != "ebbudpserver" {
			t.Errorf("%s: the server is %+v", address, o)
		}
	}
}

func TestSocketsOfBeforeTheStartHaveOwnersAfterAScan(t *testing.T) {
	losstest.Namespace(t)
	// In a network namespace of its own, as containers are.
	early := start(t, "ebbearly", "tcpserver", "127.0.0.1:0", nil)
	earlyUDP := start(t, "ebbearlyudp", "udpserver", "127.0.0.1:0", nil)
	w := Open(nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { must(t, w.Close()) })
	losstest.Need(t, w.settle != nil, "an iterator over open files")
	h := &host{Watcher: w, ports: notePorts(t, w.maps.Maps["ebb_sockets"])}
	client := start(t, "ebbclient", "tcp", fmt.Sprintf("127.0.0.1:%d", early.port), nil)
	client.wait(t)
	if o := h.ownerOf(t, early.port, client.port); o.PID != 0 {
		t.Errorf("before the scan the server is %+v", o)
	}
	took, err := w.Scan(t.Context())
	must(t, err)
	t.Logf("scan took %v", took)
	client = start(t, "ebbclient", "tcp", fmt.Sprintf("127.0.0.1:%d", early.port), nil)
	client.wait(t)
	if o := h.ownerOf(t, early.port, client.port); o.PID != early.pid() || o.Process != "ebbearly" {
		t.Errorf("after the scan the server is %+v, want process %d", o, early.pid())
	}
	client = start(t, "ebbclient", "udp", fmt.Sprintf("127.0.0.1:%d", earlyUDP.port), nil)
	client.wait(t)
	if o := h.ownerOf(t, earlyUDP.port, 0); o.PID != earlyUDP.pid() {
		t.Errorf("after the scan the UDP server is %+v, want process %d", o, earlyUDP.pid())
	}
}

func TestASocketThatWasHandedOverGoesToItsHolder(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f, err := l.(*net.TCPListener).File()
	must(t, err)
	server := start(t, "ebbactivated", "inherited", "", func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} })
	ask := func() ebbwatch.Owner {
		t.Helper()
		client := start(t, "ebbclient", "tcp", l.Addr().String(), nil)
		client.wait(t)
		return h.ownerOf(t, server.port, client.port)
	}
	self := uint32(os.Getpid())
	_, err = h.Scan(t.Context())
	must(t, err)
	if o := ask(); o.PID != self {
		t.Errorf("while its maker holds it, it belongs to %+v, want process %d", o, self)
	}
	must(t, l.Close())
	must(t, f.Close())
	_, err = h.Scan(t.Context())
	must(t, err)
	if o := ask(); o.PID != server.pid() || o.Process != "ebbactivated" {
		t.Errorf("afterwards it belongs to %+v, want process %d", o, server.pid())
	}
}

func TestAHostileNameIsHarmless(t *testing.T) {
	h := newHost(t)
	server := start(t, "ebbserver", "tcpserver", "127.0.0.1:0", nil)
	client := start(t, "\x1b[31m\xff'\";--", "tcp", fmt.Sprintf("127.0.0.1:%d", server.port), nil)
	client.wait(t)
	if o := h.ownerOf(t, client.port, server.port); o.Process != "?[31m?'\";--" {
		t.Errorf("the client is called %q", o.Process)
	}
}

func TestUnitsContainersAndPodsOfProcesses(t *testing.T) {
	h := newHost(t)
	mount, err := openCgroup2()
	must(t, err)
	server := start(t, "ebbserver", "tcpserver", "127.0.0.1:0", nil)
	id := hex.EncodeToString([]byte(fmt.Sprintf("ebbwatch-test-container-%08d", os.Getpid())))
	pod := "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	for path, want := range map[string]ebbwatch.Owner{
		fmt.Sprintf("ebbtest-%d.service", os.Getpid()):                                      {Unit: fmt.Sprintf("ebbtest-%d.service", os.Getpid())},
		"docker-" + id + ".scope":                                                           {Container: id},
		"kubepods-pod" + strings.ReplaceAll(pod, "-", "_") + ".slice/crio-" + id + ".scope": {Container: id, Pod: pod},
	} {
		dir := filepath.Join(mount, path)
		must(t, os.MkdirAll(dir, 0o755))
		fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		client := start(t, "ebbclient", "tcp", fmt.Sprintf("127.0.0.1:%d", server.port), func(c *exec.Cmd) {
			c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, fd
		})
		client.wait(t)
		must(t, unix.Close(fd))
		// Both the process and its cgroup are gone when it is looked for.
		for at := dir; at != mount; at = filepath.Dir(at) {
			must(t, os.Remove(at))
		}
		want.PID, want.Process = client.pid(), "ebbclient"
		if o := h.ownerOf(t, client.port, server.port); o != want {
			t.Errorf("%s: %+v, want %+v", path, o, want)
		}
	}
}

func TestRunScansAtOnceAndEnds(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for {
		h.mu.Lock()
		n := h.scans.count
		h.mu.Unlock()
		if n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no scan")
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	must(t, <-done)
}

func TestWithoutTheKernelsHelpOwnersAreUnknownAndNothingFails(t *testing.T) {
	w := &Watcher{log: slog.New(slog.DiscardHandler), resolver: newResolver("", "", time.Now)}
	if _, err := w.Scan(t.Context()); err == nil {
		t.Error("a scan without an iterator worked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	must(t, w.Run(ctx))
	if o, ok := w.Owner(1); ok {
		t.Errorf("process 1 is %+v", o)
	}
	must(t, w.Close())
	for _, f := range Probe(false) {
		if f.Err == nil {
			t.Errorf("%s works without having been tried", f.Name)
		}
	}
}
