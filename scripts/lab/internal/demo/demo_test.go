package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/attack"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

// need skips a test whose needs are missing; where tests must not be skipped it fails.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TestScanAndFloodAreFoundAndReported is the way from packets to a delivered
// report in short: the real binary, the real tools, default detectors.
func TestScanAndFloodAreFoundAndReported(t *testing.T) {
	need(t, os.Geteuid() == 0, "network namespaces need root")
	need(t, os.Getenv("EBBWATCH_BIN") != "", "set EBBWATCH_BIN to the binary under test")
	need(t, attack.CheckTools() == nil, "nmap and hping3 are needed: run scripts/setup-lab.sh")
	opts := Defaults()
	opts.Bin, opts.Out, opts.DataDir = os.Getenv("EBBWATCH_BIN"), t.Output(), t.TempDir()
	opts.Calm, opts.Limit, opts.Page, opts.LLM = 10*time.Second, 100*time.Second, "127.0.0.1:0", LLM{}
	opts.Attacks = []string{"scan", "flood"}
	opts.Sizes.ScanPorts, opts.Sizes.FloodPackets = 500, 20_000
	res, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if res.Attacks != 2 || res.Found != 2 || res.Unexpected != 0 || res.Reports == 0 {
		t.Errorf("result %+v", res)
	}
	for name, seconds := range res.DetectS {
		if seconds > 15 {
			t.Errorf("%s was found after %.1f s, want at most 15 s from its first packet", name, seconds)
		}
	}
	if _, err := os.Stat(filepath.Join(opts.DataDir, logName)); err != nil {
		t.Errorf("the log is not kept: %v", err)
	}
}

func TestAnEbbwatchThatDiesIsAFailureWithItsLastWords(t *testing.T) {
	need(t, os.Geteuid() == 0, "network namespaces need root")
	need(t, attack.CheckTools() == nil, "nmap and hping3 are needed: run scripts/setup-lab.sh")
	bin := filepath.Join(t.TempDir(), "ebbwatch")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho the store is on fire >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	opts := Defaults()
	opts.Bin, opts.Out, opts.Page, opts.LLM = bin, &out, "127.0.0.1:0", LLM{}
	res, err := Run(t.Context(), opts)
	if !errors.Is(err, ErrFailed) || res.Attacks != 4 || res.Found != 0 {
		t.Errorf("result %+v, error %v", res, err)
	}
	if !strings.Contains(out.String(), "the store is on fire") {
		t.Errorf("its last words are missing:\n%s", &out)
	}
	if left, _ := filepath.Glob(fmt.Sprintf("/run/netns/ebblab-%d*", os.Getpid())); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChosenAttacks(t *testing.T) {
	host := func(n byte) *netlab.Host {
		return &netlab.Host{IPv4: []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 0, n})}}
	}
	hosts := attack.Hosts{Watched: host(10), Attacker: host(30), Server: host(40)}
	for _, tt := range []struct {
		name  string
		names []string
		want  string // "" for an error
	}{
		{"all by default", nil, "beacon scan flood upload"},
		{"some, in the order in which they are played", []string{"upload", "scan"}, "scan upload"},
		{"an unknown one is an error", []string{"scan", "meteor"}, ""},
		{"the same twice is an error", []string{"scan", "scan"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Options{Attacks: tt.names, Sizes: attack.DefaultSizes()}.chosen(hosts)
			if (err != nil) != (tt.want == "") {
				t.Fatalf("error %v", err)
			}
			var names []string
			for _, a := range got {
				names = append(names, a.Name)
			}
			if err == nil && strings.Join(names, " ") != tt.want {
				t.Errorf("got %v, want %s", names, tt.want)
			}
		})
	}
}

func TestForwardPassesBothWaysAndEndsWithItsContext(t *testing.T) {
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.Go(func() error {
		return forward(ctx, ln, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", far.Listener.Addr().String())
		})
	})
	want := strings.Repeat("both ways ", 50_000)
	res, err := http.Post("http://"+ln.Addr().String(), "text/plain", strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(got) != want {
		t.Errorf("got %d bytes, want %d (error %v)", len(got), len(want), err)
	}
	cancel() // the client's connection is still open
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNarratorDropsWhatATerminalWouldObey(t *testing.T) {
	var out bytes.Buffer
	n := &narrator{out: &out, began: time.Now()}
	n.line("title: %s", "evil\x1b[2J\nname")
	n.block("one\r\n\x1b]0;two\x07\n")
	if got := out.String(); strings.ContainsAny(got, "\x1b\x07\r") || strings.Count(got, "\n") != 3 {
		t.Errorf("wrote %q", got)
	}
	if n.quietFor(time.Minute) {
		t.Error("it has just written")
	}
}
