// Package attack plays attacks in the lab: real tools and real connections,
// bounded in rate, number and time, aimed at hosts of the lab alone.
package attack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

// ErrTool is wrapped by the error for a tool that is not installed.
var ErrTool = errors.New("install it, or run scripts/setup-lab.sh")

// Attack is something that has to be found.
type Attack struct {
	Name string // scan, flood, beacon, upload
	// Kinds are the kinds of findings that say exactly this. Also are kinds of
	// findings that it truly causes besides: many bytes are an unusual volume
	// whatever they carry.
	Kinds, Also []string
	Src, Dst    netip.Addr // of whoever opens the connections, and of the other side
	Does        string     // one line for people

	play     func(context.Context, *Attack) error
	progress atomic.Pointer[string]
}

// Play plays the attack until it is over or ctx ends. Only the beacon is never
// over by itself.
func (a *Attack) Play(ctx context.Context) error {
	if err := a.play(ctx, a); err != nil && ctx.Err() == nil {
		return fmt.Errorf("play %s: %w", a.Name, err)
	}
	return nil
}

// Progress says how far the attack is, "" if there is nothing to say.
func (a *Attack) Progress() string {
	if s := a.progress.Load(); s != nil {
		return *s
	}
	return ""
}

func (a *Attack) report(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	a.progress.Store(&s)
}

// Hosts are those that take part. Both Attacker and Server are hostile: the one
// attacks Watched, to the other one Watched, taken over, talks.
type Hosts struct {
	Watched, Attacker, Server *netlab.Host
}

// Sizes bound what the attacks do.
type Sizes struct {
	ScanPorts     int           // the lowest so many ports
	FloodPackets  int           // in all
	FloodInterval time.Duration // between two of them
	BeaconEvery   time.Duration
	UploadBytes   int64
	UploadRate    int64 // bytes a second
}

// DefaultSizes are those of the demonstration: a scan of 2000 ports, 45,000 SYN
// at about 3000 a second, a call every 5 s, and 300 MB at 25 MB/s.
func DefaultSizes() Sizes {
	return Sizes{
		ScanPorts: 2000, FloodPackets: 45_000, FloodInterval: 333 * time.Microsecond,
		BeaconEvery: 5 * time.Second, UploadBytes: 300e6, UploadRate: 25e6,
	}
}

// All returns the four attacks in the order in which they should begin.
func All(h Hosts, s Sizes) []*Attack {
	return []*Attack{Beacon(h, s), Scan(h, s), Flood(h, s), Upload(h, s)}
}

// tool finds the named program, also where an ordinary user's PATH does not lead.
func tool(name string) (string, error) {
	for _, path := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is missing: %w", name, ErrTool)
}

// CheckTools returns an error for each tool that is missing.
func CheckTools() error {
	var errs []error
	for _, name := range []string{"nmap", "hping3"} {
		_, err := tool(name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
