package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
)

// Traffic of the round: a million flows of five minutes, of which one in seven
// fails, and a beacon; then beats that let the analyzer go on.
const (
	fillFlows = `INSERT INTO flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator,
    src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling)
SELECT concat('agent-', toString(number % 100)), 'eth0', now64(3) - toIntervalMillisecond(number * 7 % 300000), 50,
    toIPv6(concat('10.0.', toString(number % 100), '.', toString(cityHash64(number) % 250 + 1))),
    toIPv6(concat('10.1.', toString(cityHash64(number, 1) % 40), '.', toString(cityHash64(number, 2) % 250 + 1))),
    20000 + number % 40000, [80, 443, 22, 8080][number % 4 + 1], 6, 'syn', 8, 1200, 7, 9000, if(number % 7 = 0, 2, 27), if(number % 7 = 0, 4, 27),
    if(number % 7 = 0, 'REJ', 'SF'), 0, true, 1
FROM numbers(1000000)`
	beat = `INSERT INTO coverage (time, received, agent, agent_version, boot, sequence, interval_ms, flows, interface, direction,
    seen_packets, seen_bytes, recorded_packets, recorded_bytes, overflow_packets, overflow_bytes, other_packets, other_bytes, losses)
SELECT now64(3), now64(3), concat('agent-', toString(number)), 'bench', 'bench', toUnixTimestamp(now()), 1000, 30, 'eth0', 'ingress',
    100, 10000, 100, 10000, 0, 0, 0, 0, map()
FROM numbers(100)`
)

// round returns the peak resident memory of an analyzer and the cores it used.
func (e *engine) round(ctx context.Context, binary, natsDir string, duration time.Duration, verbose bool) (rss, cpu float64, err error) {
	for _, table := range []string{"flows", "flows_1m", "coverage"} {
		if err := e.exec(ctx, "TRUNCATE TABLE "+table); err != nil {
			return 0, 0, err
		}
	}
	for _, sql := range []string{fillFlows, beat} {
		if err := e.exec(ctx, sql); err != nil {
			return 0, 0, err
		}
	}
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: natsDir, NoSigs: true, NoLog: true})
	if err != nil {
		return 0, 0, err
	}
	go broker.Start()
	defer func() { broker.Shutdown(); broker.WaitForShutdown() }()
	if !broker.ReadyForConnections(10 * time.Second) {
		return 0, 0, errors.New("nats is not ready")
	}
	password, err := e.password("analyzer")
	if err != nil {
		return 0, 0, err
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "analyzer", "run")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "EBBWATCH_NATS_URL="+broker.ClientURL(), "EBBWATCH_LISTEN=127.0.0.1:0",
		"EBBWATCH_CLICKHOUSE_ADDRESS="+e.addr, "EBBWATCH_CLICKHOUSE_PASSWORD="+password)
	cmd.Stdout, cmd.Stderr = &log, &log
	if verbose {
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	rss, err = e.watch(ctx, cmd.Process.Pid, duration)
	err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, log.String())
	}
	if err := worked(ctx, broker.ClientURL(), duration); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, log.String())
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return rss, used.Seconds() / duration.Seconds(), nil
}

// watch keeps the agents beating and returns the peak resident memory of a process.
func (e *engine) watch(ctx context.Context, pid int, duration time.Duration) (float64, error) {
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(time.Second) {
		if err := e.exec(ctx, beat); err != nil {
			return 0, err
		}
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("the analyzer ended: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell the peak memory")
}

// worked checks that the analyzer was not idle: its marks must be recent.
func worked(ctx context.Context, url string, duration time.Duration) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, schedule.Bucket)
	if err != nil {
		return err
	}
	for _, detector := range []string{"volume", "scan", "beacon", "exfiltration"} {
		mark, err := schedule.KVMarks{KV: kv}.Load(ctx, detector)
		if err != nil {
			return err
		}
		if age := time.Since(mark); age > duration/2+10*time.Second {
			return fmt.Errorf("detector %s has come no further than %v ago", detector, age)
		}
	}
	return nil
}
