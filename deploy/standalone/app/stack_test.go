package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/progress"
)

// diary notes what happens in which order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

// worker is a part that notes its start and its end.
func (d *diary) worker(name string) part {
	return part{
		name: name, limit: time.Second,
		run: func(ctx context.Context) error {
			d.note("%s runs", name)
			<-ctx.Done()
			d.note("%s ends", name)
			return nil
		},
		ready: func(context.Context) error { return nil },
	}
}

func testStack(t *testing.T) *stack {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return newStack(progress.New(null), slog.New(slog.DiscardHandler))
}

func TestPartsStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &diary{}, testStack(t)
		ctx, cancel := context.WithCancel(t.Context())
		first, last := d.worker("first"), d.worker("last")
		last.drained = func(context.Context) error { d.note("last is drained"); return nil }
		for _, p := range []part{first, last} {
			if err := s.start(ctx, p); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		cancel()
		if err := s.wait(ctx); err != nil {
			t.Errorf("wait: %v", err)
		}
		synctest.Wait()
		d.note("asked to stop") // the end of ctx alone stops no part
		if err := s.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		want := []string{"first runs", "last runs", "asked to stop", "last ends", "last is drained", "first ends"}
		if !slices.Equal(d.entries, want) {
			t.Errorf("got %q, want %q", d.entries, want)
		}
	})
}

func TestAPartThatFailsEndsTheStartOrTheWait(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		run   func(context.Context) error
		ready func(context.Context) error
		want  error
	}{
		{"before it is ready", func(context.Context) error { return broken },
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, broken},
		{"later", func(context.Context) error { time.Sleep(time.Hour); return broken },
			func(context.Context) error { return nil }, broken},
		{"without a reason", func(context.Context) error { time.Sleep(time.Hour); return nil },
			func(context.Context) error { return nil }, errEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testStack(t)
				err := s.start(t.Context(), part{name: "x", run: c.run, ready: c.ready, limit: time.Second})
				if err == nil {
					err = s.wait(t.Context())
				}
				if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "x: ") {
					t.Errorf("got %v, want x: %v", err, c.want)
				}
			})
		})
	}
}

func TestAPartThatIsNotReadyHoldsTheOthersUpForAWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &diary{}, testStack(t)
		p := d.worker("late")
		p.ready = func(ctx context.Context) error { <-ctx.Done(); return errors.New("no database yet") }
		started := time.Now()
		if err := s.start(t.Context(), p); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took != readyTimeout {
			t.Errorf("waited %s, want %s", took, readyTimeout)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAPartThatDoesNotStopIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &diary{}, testStack(t)
		free := make(chan struct{})
		stuck := part{name: "stuck", limit: 2 * time.Second, ready: func(context.Context) error { return nil },
			run: func(context.Context) error { <-free; return nil }}
		for _, p := range []part{d.worker("first"), stuck} {
			if err := s.start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		started := time.Now()
		err := s.stop()
		if err == nil || !strings.Contains(err.Error(), "stop stuck") {
			t.Errorf("stop: %v, want an error about stuck", err)
		}
		if took := time.Since(started); took != stuck.limit {
			t.Errorf("stopping took %s, want %s", took, stuck.limit)
		}
		if !slices.Contains(d.entries, "first ends") {
			t.Errorf("the other part was not stopped: %q", d.entries)
		}
		close(free)
	})
}

func TestTheLimitsStayUnderTenSeconds(t *testing.T) {
	if sum := agentLimit + drainLimit + collectorLimit + analyzerLimit + natsLimit + engineLimit; sum >= 10*time.Second {
		t.Errorf("stopping may take %s", sum)
	}
}
