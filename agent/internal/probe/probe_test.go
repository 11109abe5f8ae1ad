package probe

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// datapath answers each Attach by the function. The real datapath is in the
// tests of the app package.
type datapath func(index int) error

func (d datapath) Attach(index int) error { return d(index) }
func (d datapath) Detach(int) error       { return nil }

func newProbe(t *testing.T, d datapath) *Probe {
	t.Helper()
	return New(Config{Include: []string{"lo"}}, d, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// A drain keeps Attach waiting and asks for names meanwhile.
func TestNamesCanBeAskedForDuringAttach(t *testing.T) {
	var p *Probe
	p = newProbe(t, func(index int) error {
		answer := make(chan string)
		go func() { answer <- p.Name(uint32(index)) }()
		select {
		case name := <-answer:
			if name != "lo" {
				t.Errorf("name of interface %d: %s", index, name)
			}
		case <-time.After(5 * time.Second):
			t.Error("deadlock")
		}
		p.Drained()
		return nil
	})
	if err := p.sync(); err != nil {
		t.Fatal(err)
	}
	if got := p.Interfaces(); len(got) != 1 || got[0] != "lo" {
		t.Errorf("watching %v", got)
	}
	if err := p.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailedAttachIsToldAndNotRepeatedAtOnce(t *testing.T) {
	attempts := 0
	p := newProbe(t, func(int) error {
		attempts++
		return errors.New("device or resource busy")
	})
	for range 3 {
		if err := p.sync(); err != nil {
			t.Fatal(err)
		}
	}
	if attempts != 1 {
		t.Errorf("%d attempts within a moment", attempts)
	}
	if err := p.Health(t.Context()); err == nil {
		t.Error("healthy without any interface")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	p := newProbe(t, func(int) error { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end")
	}
}

func TestNamesOutliveTheirInterfaceForTwoDrains(t *testing.T) {
	n := newNames()
	n.set(7, "veth7")
	n.retire(7)
	for range 2 {
		n.drained()
		if got := n.get(7); got != "veth7" {
			t.Errorf("name is %s", got)
		}
	}
	n.drained()
	if got := n.get(7); got != "if7" {
		t.Errorf("name is %s", got)
	}
}
