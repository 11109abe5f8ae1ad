package flowbpf

import (
	"cmp"
	"log/slog"
	"os"
	"slices"
	"testing"
)

// needRoot skips where programs cannot be loaded, except in CI.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func load(t testing.TB, change func(*Config)) *Datapath {
	t.Helper()
	needRoot(t)
	cfg := DefaultConfig()
	cfg.MaxInterfaces = 16
	if change != nil {
		change(&cfg)
	}
	d, err := Load(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// here is an interface of the test's own network namespace.
func here(ifindex int) Place { return Place{Ifindex: uint32(ifindex)} }

// drain returns the interval's entries, ordered, and its totals, which it holds
// to account: every packet and byte seen is recorded, overflow or other.
func drain(t testing.TB, d *Datapath) ([]Entry, []Totals) {
	t.Helper()
	var entries []Entry
	totals, err := d.Drain(func(group []Entry) {
		for _, e := range group {
			e.slot = 0 // where it stands is of no interest
			entries = append(entries, e)
		}
	})
	if err != nil {
		t.Fatalf("drain: %v", err)
	}
	var recorded, visited Counters
	for _, tot := range totals {
		if !tot.Balanced() {
			t.Errorf("totals do not balance: %+v", tot)
		}
		if tot.Full+tot.Refused != tot.Overflow.Packets {
			t.Errorf("reasons of the overflow do not add up: %+v", tot)
		}
		recorded.Add(tot.Recorded)
	}
	for i := range entries {
		visited.Add(entries[i].Side[0].Counters)
		visited.Add(entries[i].Side[1].Counters)
	}
	if recorded != visited {
		t.Errorf("totals record %+v, entries hold %+v", recorded, visited)
	}
	slices.SortFunc(entries, func(x, y Entry) int {
		return cmp.Or(x.A.Compare(y.A), x.B.Compare(y.B), cmp.Compare(x.APort, y.APort), cmp.Compare(x.BPort, y.BPort), cmp.Compare(x.Proto, y.Proto))
	})
	return entries, totals
}

// sum adds up the totals of all attach points.
func sum(totals []Totals) (s Totals) {
	for _, t := range totals {
		s.Seen.Add(t.Seen)
		s.Recorded.Add(t.Recorded)
		s.Overflow.Add(t.Overflow)
		s.Other.Add(t.Other)
		s.Skipped.Add(t.Skipped)
		s.Full += t.Full
		s.Refused += t.Refused
		for i := range reasons {
			s.Reasons[i] += t.Reasons[i]
			s.Unread[i] += t.Unread[i]
		}
	}
	return s
}

func mustRun(t testing.TB, d *Datapath, r *TestRun) {
	t.Helper()
	if err := d.Run(r); err != nil {
		t.Fatal(err)
	}
}
