// Package model runs a small real language model behind an OpenAI-compatible
// server on loopback. It needs no key and no network once it is set up.
package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotServing is wrapped by the error for a server that does not come up.
var ErrNotServing = errors.New("the model does not serve")

// Options say which model to run.
type Options struct {
	Name    string // gemma3, smollm2 or the path of a .gguf file
	Scripts string // folder with setup-llm.sh and llm-server.py
	Out     io.Writer
	Wait    time.Duration // for the server to answer, once it is set up
}

// Defaults returns the options of `lab demo-llm`.
func Defaults() Options {
	return Options{Name: "gemma3", Scripts: "scripts", Out: os.Stdout, Wait: 2 * time.Minute}
}

// Server is a running model.
type Server struct {
	port  int
	cmd   *exec.Cmd
	stdin io.Closer // its end tells the server to stop
	done  chan struct{}
	err   error
	log   bytes.Buffer // what it says; read only when done is closed
}

// Start sets the model up if needed, which takes minutes and downloads about
// 400 MB, runs its server and waits until that answers. Stop it.
func Start(ctx context.Context, opts Options) (*Server, error) {
	python, err := setUp(ctx, opts)
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, done: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, python, filepath.Join(opts.Scripts, "llm-server.py"), // #nosec G204 -- paths are the user's choice
		"--model", opts.Name, "--port", strconv.Itoa(port))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us to hand on
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start model: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start model: %w", err)
	}
	go func() { defer close(s.done); s.err = s.cmd.Wait() }()
	began := time.Now()
	if err := s.await(ctx, opts); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	fmt.Fprintf(opts.Out, "model %s serves at %s after %.1f s\n", opts.Name, s.BaseURL(), time.Since(began).Seconds())
	return s, nil
}

// setUp returns the Python that has the model. What the script prints on the way
// is shown.
func setUp(ctx context.Context, opts Options) (string, error) {
	var path bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(opts.Scripts, "setup-llm.sh")) // #nosec G204 -- the folder is the user's choice
	cmd.Stdout, cmd.Stderr = &path, opts.Out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("set the model up: %w", err)
	}
	return strings.TrimSpace(path.String()), nil
}

// freePort returns a port of loopback that was free a moment ago.
func freePort(ctx context.Context) (int, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) await(ctx context.Context, opts Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, opts.Wait, fmt.Errorf("%w within %s", ErrNotServing, opts.Wait))
	defer cancel()
	began := time.Now()
	for ticks := 1; ; ticks++ {
		if healthy(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", s.port)) {
			return nil
		}
		if ticks%10 == 0 {
			fmt.Fprintf(opts.Out, "loading model %s … %.0f s\n", opts.Name, time.Since(began).Seconds())
		}
		select {
		case <-s.done:
			return fmt.Errorf("%w: %w: %s", ErrNotServing, s.err, lastLine(s.log.Bytes()))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func lastLine(log []byte) []byte {
	log = bytes.TrimSpace(log)
	return log[bytes.LastIndexByte(log, '\n')+1:]
}

// BaseURL returns the base URL of the OpenAI-compatible API.
func (s *Server) BaseURL() string { return fmt.Sprintf("http://127.0.0.1:%d/v1", s.port) }

// Stop ends the server.
func (s *Server) Stop() error {
	if err := s.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("stop model: %w", err)
	}
	select {
	case <-s.done:
	case <-time.After(2 * time.Second):
		_ = s.cmd.Process.Kill() // it ended meanwhile: nothing to kill
		<-s.done
	}
	return nil
}
