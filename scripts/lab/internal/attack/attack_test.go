package attack

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

func hosts(t *testing.T) Hosts {
	t.Helper()
	err := CheckTools()
	if os.Geteuid() != 0 || err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("attacks need root and their tools: %v", err)
		}
		t.Skipf("attacks need root and their tools: %v", err)
	}
	lab, err := netlab.Build([]netlab.Plan{
		{Name: "watched", Numbers: []byte{10}}, {Name: "attacker", Numbers: []byte{30}}, {Name: "server", Numbers: []byte{40}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return Hosts{Watched: lab.Host("watched"), Attacker: lab.Host("attacker"), Server: lab.Host("server")}
}

// counters returns the link counters of host.
func counters(t *testing.T, host *netlab.Host) *netlink.LinkStatistics {
	t.Helper()
	var stats *netlink.LinkStatistics
	if err := host.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			stats = link.Attrs().Statistics
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return stats
}

func TestAttacksSendWhatTheySay(t *testing.T) {
	h := hosts(t)
	go func() { _ = Serve(t.Context(), h.Server) }()
	ln, err := h.Watched.Listen(t.Context(), "tcp", net.JoinHostPort(h.Watched.IPv4[0].String(), "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sizes := Sizes{
		ScanPorts: 300, FloodPackets: 2000, FloodInterval: 200 * time.Microsecond,
		BeaconEvery: 200 * time.Millisecond, UploadBytes: 20e6, UploadRate: 20e6,
	}
	for _, tt := range []struct {
		attack   *Attack
		limit    time.Duration
		progress string
		enough   func(before, after *netlink.LinkStatistics) bool
	}{
		{Scan(h, sizes), 30 * time.Second, "1 open port", func(b, a *netlink.LinkStatistics) bool { return a.RxPackets-b.RxPackets >= 300 }},
		{Flood(h, sizes), 30 * time.Second, "2000 SYN", func(b, a *netlink.LinkStatistics) bool { return a.RxPackets-b.RxPackets >= 2000 }},
		{Beacon(h, sizes), 1100 * time.Millisecond, "calls", func(b, a *netlink.LinkStatistics) bool { return a.TxPackets-b.TxPackets >= 5*5 }},
		{Upload(h, sizes), 30 * time.Second, "20 of 20 MB", func(b, a *netlink.LinkStatistics) bool { return a.TxBytes-b.TxBytes >= 20e6 }},
	} {
		t.Run(tt.attack.Name, func(t *testing.T) {
			before := counters(t, h.Watched)
			ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
			defer cancel()
			if err := tt.attack.Play(ctx); err != nil {
				t.Fatal(err)
			}
			if got := tt.attack.Progress(); !strings.Contains(got, tt.progress) {
				t.Errorf("progress %q, want it to say %q", got, tt.progress)
			}
			if after := counters(t, h.Watched); !tt.enough(before, after) {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
	}
}

func TestAMissingToolIsOneSentenceWithTheRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := tool("no-such-scanner")
	if err == nil || !strings.Contains(err.Error(), "no-such-scanner is missing: install it") {
		t.Errorf("got %v", err)
	}
}
