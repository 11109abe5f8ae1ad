package netlab

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// needRoot skips a test that makes namespaces; where tests must not be skipped it fails.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("network namespaces need root")
	}
	t.Skip("network namespaces need root")
}

func build(t *testing.T) *Lab {
	t.Helper()
	needRoot(t)
	lab, err := Build([]Plan{{Name: "a", Numbers: []byte{10, 11}}, {Name: "b", Numbers: []byte{20}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func TestHostsReachEachOtherFromTheAddressThatIsAskedFor(t *testing.T) {
	lab := build(t)
	a, b := lab.Host("a"), lab.Host("b")
	for _, tt := range []struct {
		name           string
		source, target netip.Addr
		want           netip.Addr
	}{
		{"main IPv4 address", netip.Addr{}, b.IPv4[0], a.IPv4[0]},
		{"second IPv4 address", a.IPv4[1], b.IPv4[0], a.IPv4[1]},
		{"main IPv6 address", netip.Addr{}, b.IPv6[0], a.IPv6[0]},
		{"second IPv6 address", a.IPv6[1], b.IPv6[0], a.IPv6[1]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := b.Listen(t.Context(), "tcp", netip.AddrPortFrom(tt.target, 80).String())
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				host, _, _ := net.SplitHostPort(r.RemoteAddr)
				_, _ = io.WriteString(w, host)
			})}
			go func() { _ = server.Serve(ln) }()
			defer server.Close()
			client := http.Client{Transport: &http.Transport{DialContext: a.Dialer(tt.source)}, Timeout: 5 * time.Second}
			defer client.CloseIdleConnections()
			res, err := client.Get("http://" + ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, _ := io.ReadAll(res.Body); string(got) != tt.want.String() {
				t.Errorf("came from %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNothingLeavesTheLab(t *testing.T) {
	lab := build(t)
	for _, host := range lab.hosts {
		if err := host.Do(func() error {
			routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Gw != nil || r.Dst == nil || r.Dst.IP.IsUnspecified() {
					t.Errorf("%s has a route out: %v", host.Name, r)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if conn, err := lab.Host("a").Dialer(netip.Addr{})(ctx, "tcp", "192.0.2.1:80"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("dial outside: conn %v, error %v, want network is unreachable", conn, err)
	}
}

func TestCloseLeavesNothingAndLabsStandSideBySide(t *testing.T) {
	needRoot(t)
	first, err := Build([]Plan{{Name: "a", Numbers: []byte{10}}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build([]Plan{{Name: "a", Numbers: []byte{10}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if exists(second.id + "-net") {
		t.Error("second lab is still there")
	}
	if !exists(first.Host("a").Namespace) {
		t.Error("closing the second lab removed the first")
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(netnsPath, first.id+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSweepRemovesLabsOfDeadProcessesOnly(t *testing.T) {
	lab := build(t)
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	stale := prefix + strconv.Itoa(child.Process.Pid) + "-watched"
	if err := onThread(func() error { _, err := netns.NewNamed(stale); return err }); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if exists(stale) {
		t.Errorf("%s is still there", stale)
	}
	if !exists(lab.Host("a").Namespace) {
		t.Error("the lab of a living process is gone")
	}
}

func TestProcessRunsInItsNamespaceAndEndsWithItsContext(t *testing.T) {
	lab := build(t)
	a := lab.Host("a")
	var stdout strings.Builder
	cmd := exec.Command("readlink", "/proc/self/ns/net")
	cmd.Stdout = &stdout
	if err := a.Run(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	out := strings.TrimSpace(stdout.String())
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if out == "" || out == mine {
		t.Errorf("ran in %q, this process is in %q", out, mine)
	}

	ctx, cancel := context.WithCancel(t.Context())
	p, err := a.Start(ctx, exec.Command("sh", "-c", "trap '' INT; while :; do sleep 0.1; done"), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		t.Fatalf("ended early: %v", p.Err())
	case <-time.After(300 * time.Millisecond):
	}
	cancel()
	select {
	case <-p.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("a process that ignores SIGINT was not killed")
	}
}
