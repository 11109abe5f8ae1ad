package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

// child is a running engine. err and tail may be read once done is closed.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer // open as long as the child may live
	done  chan struct{}
	err   error
	tail  *tail
}

// startChild starts the program. It must be called on the locked thread.
func (e *Engine) startChild() (*child, error) {
	var cmd *exec.Cmd
	if e.program.binary != "" {
		cmd = exec.Command(e.program.binary, "server", "--config-file="+e.configFile()) //nolint:gosec // found on PATH, as documented
		cmd.Env = append(os.Environ(), "CLICKHOUSE_WATCHDOG_ENABLE=0")
	} else {
		// /proc/self/exe is this binary even if its file was replaced since.
		cmd = exec.Command("/proc/self/exe", childCommand, e.program.library, e.configFile(), e.dir.Path(dataFolder), e.dir.Path(logFolder), //nolint:gosec // the path is the administrator's
			"--path="+e.dir.Path(dataFolder), "--config-file="+e.configFile(), "--log-level=information", "--query", listenQuery)
		cmd.Args[0] = "ebbwatch"
		// Ours may hold keys, and a query could read /proc/self/environ.
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	}
	// A group of its own: Ctrl-C in the terminal is for us alone, who stop the
	// engine last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = e.dir.Path(dataFolder)
	c := &child{cmd: cmd, done: make(chan struct{}), tail: &tail{}}
	cmd.Stderr = c.tail // standard output has greetings, prompts and escape sequences
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	c.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// await returns when the engine answers, or an error when ctx ends before.
func (e *Engine) await(ctx context.Context) error {
	for {
		_, err := e.operate(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the engine in good order, or kills it after stopTimeout.
func (e *Engine) stop(c *child) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for {
		if e.program.binary != "" {
			_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		} else if _, err := e.operate(ctx, "KILL QUERY WHERE user = '' ASYNC"); err != nil {
			e.log.Debug("cannot ask clickhouse to stop yet", "error", err)
		}
		select {
		case <-c.done:
			return
		case <-ctx.Done():
			e.log.Warn("clickhouse did not stop in time, killing it", "timeout", stopTimeout)
			e.kill(c)
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (e *Engine) kill(c *child) {
	_ = c.cmd.Process.Kill() // it may have ended already
	<-c.done
}

// operate runs a query as the user operator.
func (e *Engine) operate(ctx context.Context, query string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+port.Loopback(e.cfg.HTTPPort)+"/", strings.NewReader(query))
	if err != nil {
		return "", fmt.Errorf("ask engine: %w", err)
	}
	req.Header.Set("X-ClickHouse-User", operator)
	req.Header.Set("X-ClickHouse-Key", e.password)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask engine: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("ask engine: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask engine: %s: %.200s", resp.Status, body)
	}
	return string(body), nil
}

// tail keeps the last of what a child prints.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 2000

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - tailBytes; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

// String returns the kept text on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.text)), " ")
}
