package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/attack"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/client"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/receiver"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/traffic"
)

// plan is the address plan of the lab.
var plan = []netlab.Plan{
	{Name: "watched", Numbers: []byte{10}},
	{Name: "client", Numbers: []byte{20, 21, 22, 23, 24, 25}},
	{Name: "attacker", Numbers: []byte{30}},
	{Name: "server", Numbers: []byte{40}},
	{Name: "services", Numbers: []byte{50}},
}

// stopLimit is how long ebbwatch may take to drain and stop.
const stopLimit = 10 * time.Second

// pageAddress is where the page is on the watched host.
const pageAddress = "127.0.0.1:8460"

// stage is the lab with everything that runs in it.
type stage struct {
	opts    Options
	say     *narrator
	lab     *netlab.Lab
	player  *traffic.Player
	hook    *receiver.Receiver
	attacks []*attack.Attack
	api     *client.Client
	pageURL string // on this machine

	cancel  context.CancelFunc // of what runs in this process
	running *errgroup.Group
	ebb     *netlab.Process
	dir     string // holds configuration, log and data
	ownDir  bool   // and goes with the stage

	mu     sync.Mutex
	played map[*attack.Attack]span
}

// span is when an attack was played.
type span struct{ began, ended time.Time }

// newStage builds everything and starts the pipeline. On an error nothing stays.
func newStage(ctx context.Context, opts Options, say *narrator) (s *stage, err error) {
	s = &stage{opts: opts, say: say, played: make(map[*attack.Attack]span), dir: opts.DataDir}
	defer func() {
		if err != nil {
			s.tail()
			err = errors.Join(err, s.close())
		}
	}()
	say.line("building a lab of %d hosts", len(plan))
	if s.lab, err = netlab.Build(plan); err != nil {
		return s, err
	}
	hosts := attack.Hosts{Watched: s.lab.Host("watched"), Attacker: s.lab.Host("attacker"), Server: s.lab.Host("server")}
	for _, p := range plan {
		h := s.lab.Host(p.Name)
		say.line("  %-9s %s, %s (namespace %s)", p.Name, h.IPv4[0], h.IPv6[0], h.Namespace)
	}
	if s.attacks, err = opts.chosen(hosts); err != nil {
		return s, err
	}
	if s.hook, err = receiver.New(); err != nil {
		return s, err
	}
	s.hook.RefuseFirst = true
	s.player = &traffic.Player{Seed: opts.Seed, Watched: hosts.Watched, Client: s.lab.Host("client"), Services: s.lab.Host("services")}
	s.api = client.New(pageAddress, hosts.Watched.Dialer(netip.Addr{}))

	// What runs in this process ends with close, not with ctx: a demonstration
	// that is kept goes on after its time limit.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.running, inner = errgroup.WithContext(inner)
	s.running.Go(func() error { return s.hook.Serve(inner, s.lab.Host("services")) })
	s.running.Go(func() error { return attack.Serve(inner, hosts.Server) })
	if err := s.showPage(inner); err != nil {
		return s, err
	}
	return s, s.startEbbwatch(ctx, inner)
}

// showPage makes the page reachable on this machine.
func (s *stage) showPage(ctx context.Context) error {
	lc := net.ListenConfig{}
	ln, err := lc.Listen(ctx, "tcp", s.opts.Page)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(s.opts.Page)
		if splitErr != nil {
			return fmt.Errorf("show the page: %w", err)
		}
		if ln, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0")); err != nil {
			return fmt.Errorf("show the page: %w", err)
		}
	}
	s.pageURL = "http://" + ln.Addr().String() + "/"
	dial := s.lab.Host("watched").Dialer(netip.Addr{})
	s.running.Go(func() error {
		return forward(ctx, ln, func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", pageAddress) })
	})
	return nil
}

// calm plays ordinary traffic alone, which must raise nothing.
func (s *stage) calm(ctx context.Context, w *watcher) error {
	s.say.line("ordinary traffic begins; for %s nothing else happens", s.opts.Calm)
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := s.cancel
	s.cancel = func() { cancel(); stop() }
	s.running.Go(func() error { return s.player.Run(inner) })
	end := time.Now().Add(s.opts.Calm)
	for time.Now().Before(end) {
		if err := w.wait(ctx); err != nil {
			return err
		}
		if s.say.quietFor(5 * time.Second) {
			s.say.line("calm: %s", &s.player.Counts)
		}
	}
	return nil
}

// pace is the time between the starts of two attacks.
const pace = 15 * time.Second

// attack plays the attacks, one starting after the other. The channel gives nil
// when all but the endless ones are over, or the first error.
func (s *stage) attack(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	group, ctx := errgroup.WithContext(ctx)
	over := make(chan struct{}, len(s.attacks))
	go func() {
		for i, a := range s.attacks {
			if i > 0 {
				select {
				case <-time.After(pace):
				case <-ctx.Done():
				}
			}
			group.Go(func() error {
				s.say.line("attack %s begins: %s", a.Name, a.Does)
				s.mark(a, func(t *span) { t.began = time.Now() })
				err := a.Play(ctx)
				s.mark(a, func(t *span) { t.ended = time.Now() })
				if ctx.Err() == nil && err == nil {
					s.say.line("attack %s is over: %s", a.Name, a.Progress())
				}
				over <- struct{}{}
				return err
			})
		}
		finite := 0
		for _, a := range s.attacks {
			if a.Name != "beacon" {
				finite++
			}
		}
		for range finite {
			select {
			case <-over:
			case <-ctx.Done():
				done <- group.Wait()
				return
			}
		}
		done <- nil
	}()
	return done
}

func (s *stage) mark(a *attack.Attack, change func(*span)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.played[a]
	change(&t)
	s.played[a] = t
}

// close stops everything and removes the lab.
func (s *stage) close() error {
	var errs []error
	if s.ebb != nil && !s.ebb.Ended() { // how it ended by itself is told elsewhere
		s.say.line("stopping ebbwatch")
		began := time.Now()
		s.ebb.Stop(stopLimit)
		took := time.Since(began)
		switch err := s.ebb.Err(); {
		case err == nil:
			s.say.line("ebbwatch stopped after %.1f s", took.Seconds())
		case took < stopLimit: // it has shown what it should, and then complains
			s.say.line("ebbwatch stopped after %.1f s with %v", took.Seconds(), err)
			s.tail()
		default:
			errs = append(errs, fmt.Errorf("%w: ebbwatch did not stop within %s: %w", ErrFailed, stopLimit, err))
		}
	}
	if s.cancel != nil {
		s.cancel()
		if err := s.running.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if s.lab != nil {
		if err := s.lab.Close(); err != nil {
			errs = append(errs, fmt.Errorf("remove the lab: %w", err))
		}
	}
	if s.ownDir {
		if err := os.RemoveAll(s.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove the data: %w", err))
		}
	}
	return errors.Join(errs...)
}

// tail shows the end of the log of ebbwatch.
func (s *stage) tail() {
	if s.dir == "" {
		return
	}
	log, err := os.ReadFile(filepath.Join(s.dir, logName))
	if err != nil {
		return // it was not started
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	s.say.line("the last of what ebbwatch said:")
	s.say.block(strings.Join(lines[max(0, len(lines)-25):], "\n"))
}
