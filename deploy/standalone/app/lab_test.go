package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
)

// The test binary itself is what talks inside a namespace: these variables tell
// it to send datagrams to an address, or to fetch a URL, instead of testing.
const (
	sendVariable  = "EBBWATCH_TEST_SEND"  // "ADDRESS COUNT"
	fetchVariable = "EBBWATCH_TEST_FETCH" // URL, with the body in fetchBody
	fetchBody     = "EBBWATCH_TEST_BODY"
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(sendVariable) != "":
		err = send(os.Getenv(sendVariable))
	case os.Getenv(fetchVariable) != "":
		err = fetch(os.Getenv(fetchVariable), os.Getenv(fetchBody))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send(to string) error {
	var address string
	var count int
	if _, err := fmt.Sscan(to, &address, &count); err != nil {
		return err
	}
	target, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err
	}
	// Not connected: the ICMP errors that come back would fail a write.
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	for range count {
		if _, err := conn.WriteTo([]byte("0123456789"), target); err != nil {
			return err
		}
	}
	return nil
}

func fetch(url, body string) error {
	client := http.Client{Timeout: 20 * time.Second}
	request, method := io.Reader(nil), http.MethodGet
	if body != "" {
		request, method = strings.NewReader(body), http.MethodPost
	}
	req, err := http.NewRequest(method, url, request)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	_, err = os.Stdout.Write(answer)
	return err
}

// need skips a test on a machine that cannot run it, and fails it there in CI.
func need(t *testing.T) {
	t.Helper()
	err := engine.DefaultConfig().Find()
	if err == nil {
		err = checkPrivileges()
	}
	if err == nil && os.Geteuid() != 0 {
		err = fmt.Errorf("network namespaces need root")
	}
	if err == nil {
		_, err = exec.LookPath("ip")
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// lab is two hosts with a wire between them.
type lab struct{ watched, other string }

const watchedAddress, otherAddress = "10.211.8.1", "10.211.8.2"

func newLab(t *testing.T) lab {
	t.Helper()
	l := lab{watched: fmt.Sprintf("ebbup-%d-w", os.Getpid()), other: fmt.Sprintf("ebbup-%d-o", os.Getpid())}
	for _, ns := range []string{l.watched, l.other} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	run(t, "ip", "link", "add", "eth0", "netns", l.watched, "type", "veth", "peer", "name", "eth0", "netns", l.other)
	for ns, address := range map[string]string{l.watched: watchedAddress, l.other: otherAddress} {
		run(t, "ip", "-n", ns, "addr", "add", address+"/24", "dev", "eth0")
		run(t, "ip", "-n", ns, "link", "set", "eth0", "up")
	}
	return l
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// in runs this test binary inside a namespace, with variables that say what to do.
func (l lab) in(namespace string, variables ...string) (string, error) {
	cmd := exec.Command("ip", "netns", "exec", namespace, os.Args[0])
	cmd.Env = append(os.Environ(), variables...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

// send sends datagrams from the other host to a port of the watched one.
func (l lab) send(t *testing.T, port, count int) {
	t.Helper()
	if _, err := l.in(l.other, fmt.Sprintf("%s=%s:%d %d", sendVariable, watchedAddress, port, count)); err != nil {
		t.Fatalf("send datagrams: %v", err)
	}
}

// fetch asks a server of the watched host.
func (l lab) fetch(url, body string) (string, error) {
	return l.in(l.watched, fetchVariable+"="+url, fetchBody+"="+body)
}

// query asks ClickHouse on the watched host, as the reader.
func (l lab) query(text string) (string, error) {
	return l.fetch("http://127.0.0.1:8464/?user=reader&database=ebbwatch", text)
}

// listen takes a free port of the watched host.
func (l lab) listen(t *testing.T) int {
	t.Helper()
	type result struct {
		ln  net.Listener
		err error
	}
	results := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends in the namespace with the goroutine
		ns, err := os.Open("/var/run/netns/" + l.watched)
		if err != nil {
			results <- result{err: err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			results <- result{err: err}
			return
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		results <- result{ln, err}
	}()
	r := <-results
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.ln.Close() })
	return r.ln.Addr().(*net.TCPAddr).Port
}

// command returns the path of the command ebbwatch.
func command(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("EBBWATCH_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "ebbwatch")
	run(t, "go", "build", "-o", bin, "github.com/ebbwatch/ebbwatch/deploy/standalone")
	return bin
}
