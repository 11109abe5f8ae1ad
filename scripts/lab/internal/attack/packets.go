package attack

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

// Scan has nmap look for open ports with SYNs.
func Scan(h Hosts, s Sizes) *Attack {
	target := h.Watched.IPv4[0]
	return &Attack{
		Name: "scan", Kinds: []string{"port_scan"}, Src: h.Attacker.IPv4[0], Dst: target,
		Does: fmt.Sprintf("nmap -sS of %d ports of %s", s.ScanPorts, target),
		play: func(ctx context.Context, a *Attack) error {
			out, err := run(ctx, h.Attacker, 2*time.Minute, "nmap", "-sS", "-Pn", "-n", "-T4",
				"-p", "1-"+strconv.Itoa(s.ScanPorts), "--max-retries", "1", "--host-timeout", "90s", target.String())
			if err != nil {
				return err
			}
			if !bytes.Contains(out, []byte("1 host up")) {
				return fmt.Errorf("nmap scanned nothing: %s", bytes.TrimSpace(out))
			}
			a.report("nmap found %d open ports", bytes.Count(out, []byte("/tcp")))
			return nil
		},
	}
}

// Flood has hping3 send SYNs to the web server, from ever new source ports, and
// never complete a handshake.
func Flood(h Hosts, s Sizes) *Attack {
	target := h.Watched.IPv4[0]
	length := time.Duration(s.FloodPackets) * s.FloodInterval
	return &Attack{
		Name: "flood", Kinds: []string{"syn_flood"}, Also: []string{"volume"}, Src: h.Attacker.IPv4[0], Dst: target,
		Does: fmt.Sprintf("hping3 sends %d SYN to %s port 80, %.0f a second", s.FloodPackets, target, float64(time.Second)/float64(s.FloodInterval)),
		play: func(ctx context.Context, a *Attack) error {
			out, err := run(ctx, h.Attacker, 2*length+10*time.Second, "hping3", "-q", "-S", "-p", "80",
				"-i", "u"+strconv.FormatInt(s.FloodInterval.Microseconds(), 10), "-c", strconv.Itoa(s.FloodPackets), target.String())
			// hping3 ends with status 1 where answers are missing, which is the
			// point of a flood; what it printed tells whether it ran.
			sent := transmitted.FindSubmatch(out)
			if sent == nil {
				return fmt.Errorf("hping3 sent nothing: %w: %s", err, bytes.TrimSpace(out))
			}
			a.report("hping3 sent %s SYN", sent[1])
			return nil
		},
	}
}

var transmitted = regexp.MustCompile(`(\d+) packets t`) // "45000 packets tramitted", sic

// run runs a tool on host, for no longer than limit, and returns what it printed.
func run(ctx context.Context, host *netlab.Host, limit time.Duration, name string, args ...string) ([]byte, error) {
	path, err := tool(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.Command(path, args...) // #nosec: arguments are ours
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := host.Run(ctx, cmd); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}
