package periodic

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// memory keeps marks where synctest can follow; KV is tested against a real server below.
type memory struct {
	mu   sync.Mutex
	done map[string]bool
}

func (m *memory) Seen(_ context.Context, schedule string, end time.Time) (done, ever bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done[keyOf(schedule, end)], m.done[schedule], nil
}

func (m *memory) Done(_ context.Context, schedule string, end time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[schedule], m.done[keyOf(schedule, end)] = true, true
	return nil
}

// watch runs a schedule in a bubble from start for d and returns its windows.
func watch(t *testing.T, s Schedule, marks Marks, d time.Duration, fail func(n int) error) []Window {
	t.Helper()
	var windows []Window
	calls := 0
	r, err := New(Config{Schedules: []Schedule{s}}, marks, func(_ context.Context, w Window) error {
		calls++
		if fail != nil {
			if err := fail(calls); err != nil {
				return err
			}
		}
		windows = append(windows, w)
		return nil
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return windows
}

func TestEachWindowRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01 00:00 UTC
		marks := &memory{done: map[string]bool{}}
		daily := Schedule{Name: "daily", Cron: "0 7 * * *"}
		got := watch(t, daily, marks, 72*time.Hour, nil)
		if len(got) != 3 || got[0].End != time.Date(2000, 1, 1, 7, 0, 0, 0, time.UTC) || got[0].End.Sub(got[0].Start) != 24*time.Hour ||
			got[1].Start != got[0].End {
			t.Fatalf("windows are %v", got)
		}
		if got := watch(t, daily, marks, time.Hour, nil); len(got) != 0 {
			t.Errorf("a restart ran %v again", got)
		}
		time.Sleep(5 * 24 * time.Hour) // nothing runs
		got = watch(t, daily, marks, time.Hour, nil)
		if len(got) != 1 || got[0].End != time.Date(2000, 1, 8, 7, 0, 0, 0, time.UTC) || got[0].End.Sub(got[0].Start) != 24*time.Hour {
			t.Errorf("caught up %v, want the latest window alone", got)
		}
	})
}

func TestAFailureIsRepeatedUntilTheNextWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hourly := Schedule{Name: "hourly", Cron: "@hourly"}
		got := watch(t, hourly, &memory{done: map[string]bool{}}, 90*time.Minute, func(n int) error {
			if n < 4 {
				return errors.New("not yet")
			}
			return nil
		})
		if len(got) != 1 || got[0].End.Hour() != 1 {
			t.Errorf("windows are %v", got)
		}
		got = watch(t, hourly, &memory{done: map[string]bool{}}, 150*time.Minute, func(int) error { return errors.New("never") })
		if len(got) != 0 {
			t.Errorf("windows are %v", got)
		}
	})
}

func TestDaylightSavingNeitherSkipsNorDoubles(t *testing.T) {
	for _, c := range []struct {
		name, cron string
		day        time.Time // a day around the change in Lisbon
		want       int
	}{
		{"an hour that is repeated", "30 1 * * *", time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC), 2},
		{"an hour that is left out", "30 1 * * *", time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), 2},
		{"every hour of a long day", "0 * * * *", time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC), 46},
		{"every hour of a short day", "0 * * * *", time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), 47},
	} {
		t.Run(c.name, func(t *testing.T) {
			timing, err := parse(Schedule{Name: "x", Cron: c.cron, TimeZone: "Europe/Lisbon"})
			if err != nil {
				t.Fatal(err)
			}
			var got []time.Time
			for at := timing.after(c.day); at.Before(c.day.Add(48 * time.Hour)); at = timing.after(at) {
				got = append(got, at)
				if timing.before(at) != at || timing.before(at.Add(time.Second)) != at {
					t.Errorf("before(%v) is %v and %v", at, timing.before(at), timing.before(at.Add(time.Second)))
				}
			}
			if len(got) != c.want || !slices.IsSortedFunc(got, time.Time.Compare) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Errorf("%d moments: %v", len(got), got)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, s := range []Schedule{
		{Name: "a b", Cron: "@daily"}, {Name: "a", Cron: "61 * * * *"}, {Name: "a", Cron: "@every 5m"}, {Name: "a", Cron: "TZ=UTC 0 7 * * *"},
		{Name: "a", Cron: "0 7 * * *", TimeZone: "Mars/Olympus"}, {Name: "a", Cron: "0 0 31 2 *"}, {Name: "a"},
	} {
		if err := (Config{Schedules: []Schedule{s}}).Validate(); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestKVRemembers(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	check := func(schedule string, end time.Time, wantDone, wantEver bool) {
		t.Helper()
		done, ever, err := NewKV(js).Seen(t.Context(), schedule, end)
		if err != nil || done != wantDone || ever != wantEver {
			t.Errorf("Seen(%s) = %v, %v, %v", schedule, done, ever, err)
		}
	}
	check("daily", end, false, false)
	if err := NewKV(js).Done(t.Context(), "daily", end); err != nil {
		t.Fatal(err)
	}
	check("daily", end, true, true)
	check("daily", end.Add(time.Hour), false, true)
	check("weekly", end, false, false)
}
