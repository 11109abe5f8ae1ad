package engine

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

// hello returns the first packet of a native client (ClickHouse,
// src/Core/Protocol.h) of a revision that sends nothing after it.
func hello(user, password string) []byte {
	b := []byte{0}
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	number := func(n uint64) { b = binary.AppendUvarint(b, n) }
	text("test")
	number(26)
	number(7)
	number(54400)
	text("")
	text(user)
	text(password)
	return b
}

// lengths returns hellos whose name or password is said to have more bytes than come.
func lengths() [][]byte {
	var all [][]byte
	for _, n := range []uint64{1 << 17, 1 << 20, 1 << 31, 1 << 40, 1 << 63, math.MaxUint64} {
		h := hello(Reader, "")
		all = append(all, append(binary.AppendUvarint([]byte{0}, n), "test"...), append(binary.AppendUvarint(h[:len(h)-1:len(h)-1], n), "secret"...))
	}
	return all
}

// send sends text to the native port and returns what comes back within a second,
// or, with reset, breaks off with a reset at once.
func send(t *testing.T, cfg Config, text []byte, reset bool) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", port.Loopback(cfg.TCPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(text); err != nil {
		t.Fatal(err)
	}
	if reset {
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, _ := io.ReadAtLeast(conn, answer, 1) // it may close without an answer
	return answer[:n]
}

// Nothing that comes over the native port ends the engine, also not at the second
// or the twentieth time.
func TestHostileClientsDoNotEndTheEngine(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	children := childrenOf(t, os.Getpid())
	random := rand.NewChaCha8([32]byte{1})
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	for _, c := range []struct {
		name  string
		text  func(i int) []byte
		reset bool
		want  string // in the answer
	}{
		{"300 random bytes", func(int) []byte { return noise(300) }, false, ""},
		{"a wrong password", func(int) []byte { return hello(Collector, "wrong") }, false, "Authentication failed"},
		{"an unknown user", func(int) []byte { return hello("nobody", "") }, false, "Authentication failed"},
		{"the engine's own user", func(int) []byte { return hello("default", "") }, false, "overflown session count"},
		{"a handshake that breaks off", func(i int) []byte { return hello(Reader, "")[:1+i%12] }, true, ""},
		{"a login that breaks off", func(int) []byte { return hello(Reader, "") }, true, ""},
		{"an HTTP request", func(int) []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, false, "is for clickhouse-client program"},
		{"a TLS ClientHello", func(int) []byte { return append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, noise(505)...) }, false, "Unexpected packet"},
		{"a MySQL login", func(int) []byte { return []byte("\x85\xa6\xff\x01\x00\x00\x00\x01root\x00") }, false, "Unexpected packet"},
		{"lengths that are too large", func(i int) []byte { return lengths()[i%len(lengths())] }, false, "Too large string size"},
		{"a packet that no client sends", func(i int) []byte { return append([]byte{byte(i + 1)}, noise(100)...) }, false, "Unexpected packet"},
		{"a login and random bytes", func(i int) []byte { return append(hello(Reader, ""), append([]byte{byte(i)}, noise(100)...)...) }, false, "ClickHouse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range 20 {
				answer := send(t, cfg, c.text(i), c.reset)
				if !bytes.Contains(answer, []byte(c.want)) {
					t.Fatalf("no %q in the answer %q", c.want, answer)
				}
			}
			if got := mustQuery(t, cfg, dir, Reader, "SELECT 1"); got != "1" {
				t.Errorf("SELECT 1 gives %q", got)
			}
			if again := childrenOf(t, os.Getpid()); !slices.Equal(again, children) {
				t.Fatalf("children %v, want %v: the engine was started again", again, children)
			}
		})
	}
}

// Connections on which nobody logs in are few, take no memory from those that
// work, and do not last.
func TestIdleConnectionsAreBounded(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	cfg.MaxMemoryMB = 512
	_, stop := start(t, cfg, dir)
	defer stop()
	service := http.Client{Transport: &http.Transport{}} // keeps its connection
	ask := func(text string) string {
		t.Helper()
		got, err := answer(&service, request(t, cfg, dir, Collector, text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return got
	}
	ask("CREATE DATABASE ebbwatch")
	ask("CREATE TABLE ebbwatch.t (a UInt64) ENGINE = MergeTree ORDER BY a")
	for range 800 {
		conn, err := net.Dial("tcp", port.Loopback(cfg.TCPPort))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	taken := 0
	eventually(t, 5*time.Second, "the engine takes connections", func() bool {
		var err error
		if taken, err = strconv.Atoi(ask("SELECT sum(value) FROM system.metrics WHERE metric = 'TCPConnection'")); err != nil {
			t.Fatal(err)
		}
		return taken >= cfg.maxConnections()/2
	})
	if taken > cfg.maxConnections() {
		t.Errorf("%d connections are taken, want %d at most", taken, cfg.maxConnections())
	}
	ask("INSERT INTO ebbwatch.t SELECT number FROM numbers(1000000)")
	eventually(t, 30*time.Second, "a client can log in again", func() bool {
		return bytes.Contains(send(t, cfg, hello(Reader, ""), false), []byte("ClickHouse"))
	})
}

// The reader, who has no password, cannot take all connections.
func TestTheReaderLeavesConnectionsToServices(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	for i := range 2 * cfg.maxConnections() {
		conn, err := net.Dial("tcp", port.Loopback(cfg.TCPPort))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(hello(Reader, "")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 512)
		n, err := conn.Read(answer)
		if in := bytes.Contains(answer[:n], []byte("overflown session count")); err != nil || in != (i >= cfg.readerSessions()) {
			t.Fatalf("session %d: %q, %v", i, answer[:n], err)
		}
	}
	password, err := os.ReadFile(dir.SecretPath(SecretPrefix + Writer))
	if err != nil {
		t.Fatal(err)
	}
	if answer := send(t, cfg, hello(Writer, string(bytes.TrimSpace(password))), false); !bytes.Contains(answer, []byte("ClickHouse")) {
		t.Errorf("the writer gets %q", answer)
	}
}
