package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/migrations"
)

// engine is a running ClickHouse.
type engine struct {
	cmd        *exec.Cmd
	stdin      io.Closer
	log        bytes.Buffer
	dir        string
	addr, http string
}

func startEngine(ctx context.Context, binary, dir string) (*engine, error) {
	e := &engine{dir: dir}
	for _, addr := range []*string{&e.addr, &e.http} {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*addr = ln.Addr().String()
		if err := ln.Close(); err != nil {
			return nil, err
		}
	}
	e.cmd = exec.Command(binary, "engine", "--end-with-stdin")
	e.cmd.Env = append(os.Environ(), "EBBWATCH_DATA_DIR="+dir,
		"EBBWATCH_CLICKHOUSE_TCP_PORT="+port(e.addr), "EBBWATCH_CLICKHOUSE_HTTP_PORT="+port(e.http))
	e.cmd.Stdout, e.cmd.Stderr = &e.log, &e.log
	stdin, err := e.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	e.stdin = stdin
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if err = e.exec(ctx, "SELECT 1"); err == nil {
			return e, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			e.stop()
			return nil, fmt.Errorf("no answer: %w: %s", err, e.log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stop ends the engine, which stops when its standard input does.
func (e *engine) stop() {
	_ = e.stdin.Close()
	_ = e.cmd.Wait() // its status does not matter any more
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// password returns the generated password of a user.
func (e *engine) password(user string) (string, error) {
	data, err := os.ReadFile(filepath.Join(e.dir, "secrets", "clickhouse-"+user))
	return strings.TrimSpace(string(data)), err
}

// exec runs a statement as the collector.
func (e *engine) exec(ctx context.Context, sql string) error {
	password, err := e.password("collector")
	if err != nil {
		return err
	}
	query := url.Values{"wait_end_of_query": {"1"}}
	if !strings.HasPrefix(sql, "CREATE DATABASE") && sql != "SELECT 1" {
		query.Set("database", "ebbwatch")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.http+"/?"+query.Encode(), strings.NewReader(sql))
	if err != nil {
		return err
	}
	req.Header.Set("X-ClickHouse-User", "collector")
	req.Header.Set("X-ClickHouse-Key", password)
	req.Close = true // the engine waits for idle connections when it stops
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(bytes.TrimSpace(body)))
	}
	return nil
}

func (e *engine) migrate(ctx context.Context) error {
	all, err := migrations.All()
	if err != nil {
		return err
	}
	if err := e.exec(ctx, "CREATE DATABASE IF NOT EXISTS ebbwatch"); err != nil {
		return err
	}
	for _, m := range all {
		for _, step := range m.Steps {
			if err := e.exec(ctx, step); err != nil {
				return fmt.Errorf("%s: %w", m.File, err)
			}
		}
	}
	return nil
}
