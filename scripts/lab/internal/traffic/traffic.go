// Package traffic plays the ordinary life of a small server: people read its
// pages, administrators log in, it resolves names and fetches updates, and
// someone pings it. All of it is real traffic between real sockets; the rhythm
// is random but seeded, and every amount is bounded.
//
// None of it is an anomaly, so a detector that finds something here is wrong.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

// Ports of the services that traffic uses.
const (
	WebPort   = 80 // on the watched host
	ShellPort = 22 // on the watched host

	dnsPort    = 53   // on the services host
	mirrorPort = 8081 // on the services host
)

// Player plays ordinary traffic. Its hosts must not be in use by another.
type Player struct {
	Seed uint64
	// Watched serves pages and shells. Client holds one visitor per address.
	// Services resolves names and holds the update mirror.
	Watched, Client, Services *netlab.Host

	Counts Counts
}

// Counts says what was played so far. Failed should stay 0 while nothing
// disturbs the lab.
type Counts struct {
	Pages, PageBytes, Queries, Shells, Keystrokes, Downloads, Pings, Failed atomic.Int64
}

// String sums the counts up in one line.
func (c *Counts) String() string {
	return fmt.Sprintf("%d pages (%.1f MB), %d name queries, %d keystrokes in %d shells, %d downloads, %d pings",
		c.Pages.Load(), float64(c.PageBytes.Load())/1e6, c.Queries.Load(), c.Keystrokes.Load(), c.Shells.Load(),
		c.Downloads.Load(), c.Pings.Load())
}

// Run plays until ctx ends and then returns nil. Single exchanges may fail, for
// instance during a flood: they are counted. A service that cannot start is an error.
func (p *Player) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, serve := range []func(context.Context, *errgroup.Group) error{p.servePages, p.serveShells, p.serveNames, p.serveMirror} {
		if err := serve(ctx, group); err != nil {
			return errors.Join(err, group.Wait())
		}
	}
	stream := uint64(0)
	play := func(pause pause, once func(context.Context, *rand.Rand) error) {
		stream++
		dice := rand.New(rand.NewPCG(p.Seed, stream)) // a rhythm that must be the same for the same seed, not a secret
		group.Go(func() error {
			for pause.wait(ctx, dice) {
				if err := once(ctx, dice); err != nil && ctx.Err() == nil {
					p.Counts.Failed.Add(1)
				}
			}
			return nil
		})
	}
	for i := range p.Client.IPv4 {
		source, target := p.Client.IPv4[i], p.Watched.IPv4[0]
		if i%2 == 1 { // every second visitor speaks IPv6
			source, target = p.Client.IPv6[i], p.Watched.IPv6[0]
		}
		play(pause{median: 3 * time.Second, spread: 0.9, limit: 25 * time.Second}, p.visit(source, target))
	}
	for _, admin := range []netip.Addr{p.Client.IPv4[0], p.Client.IPv6[0]} {
		target := p.Watched.IPv4[0]
		if admin.Is6() {
			target = p.Watched.IPv6[0]
		}
		play(pause{median: 8 * time.Second, spread: 1, limit: 40 * time.Second}, p.shell(admin, target))
	}
	play(pause{median: 4 * time.Second, spread: 1, limit: 30 * time.Second}, p.resolve)
	play(pause{median: 12 * time.Second, spread: 0.7, limit: 60 * time.Second}, p.download)
	play(pause{median: 5 * time.Second, spread: 0.8, limit: 30 * time.Second}, p.ping)
	return group.Wait()
}

// pause is the time between two doings of a person: log-normal, since people
// mostly act soon and sometimes much later.
type pause struct {
	median time.Duration
	spread float64 // standard deviation of the logarithm
	limit  time.Duration
}

func (p pause) next(dice *rand.Rand) time.Duration {
	return min(p.limit, time.Duration(float64(p.median)*math.Exp(p.spread*dice.NormFloat64())))
}

// wait reports false if ctx ended first.
func (p pause) wait(ctx context.Context, dice *rand.Rand) bool {
	return sleep(ctx, p.next(dice)) == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// size draws a log-normal number of bytes, at most limit.
func size(dice *rand.Rand, median int, spread float64, limit int) int {
	return min(limit, int(float64(median)*math.Exp(spread*dice.NormFloat64())))
}

// listenBoth listens on one port of both main addresses of host, and closes the
// listeners when ctx ends.
func listenBoth(ctx context.Context, host *netlab.Host, port uint16) ([]net.Listener, error) {
	var all []net.Listener
	for _, addr := range []netip.Addr{host.IPv4[0], host.IPv6[0]} {
		ln, err := host.Listen(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
		if err != nil {
			return nil, fmt.Errorf("serve on %s: %w", host.Name, err)
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		all = append(all, ln)
	}
	return all, nil
}
