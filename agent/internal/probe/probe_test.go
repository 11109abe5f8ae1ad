package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// datapath answers each Attach by the function. The real datapath is in the
// tests of the app package.
type datapath func(index int) error

func (d datapath) Attach(p flowbpf.Place, _ uint32) error { return d(int(p.Ifindex)) }
func (d datapath) Detach(flowbpf.Place) error             { return nil }
func (d datapath) Rest(flowbpf.Place) error               { return nil }
func (d datapath) Forget(uint32) error                    { return nil }

func here(index int) flowbpf.Place { return flowbpf.Place{Ifindex: uint32(index)} }

func newProbe(t *testing.T, d datapath) *Probe {
	t.Helper()
	return New(Config{Include: []string{"lo"}}, d, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// A drain keeps Attach waiting and asks for names meanwhile.
func TestNamesCanBeAskedForDuringAttach(t *testing.T) {
	var p *Probe
	p = newProbe(t, func(index int) error {
		answer := make(chan string)
		go func() { answer <- p.Name(here(index)) }()
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
	if err := p.sync(true); err != nil {
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
		if err := p.sync(true); err != nil {
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
	seven := flowbpf.Place{NetNS: 3, Ifindex: 7}
	n.set(seven, "veth7", "blue")
	n.retire(seven)
	for range 2 {
		n.drained()
		if got := n.get(seven); got != "veth7" || n.space(3) != "blue" {
			t.Errorf("name is %s in %q", got, n.space(3))
		}
	}
	n.drained()
	if got := n.get(seven); got != "if7" || n.space(3) != "" {
		t.Errorf("name is %s in %q", got, n.space(3))
	}
}

// With nothing to watch the agent says so at once, and once, and waits.
func TestNothingToWatchIsToldOnceWithWhatThereIs(t *testing.T) {
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, nil))
	p := New(Config{Include: []string{"nosuch0"}, Exclude: []string{"veth*"}}, datapath(func(int) error { return nil }), prometheus.NewRegistry(), log)
	if err := p.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "not listed yet") {
		t.Errorf("before the first look: %v", err)
	}
	for range 3 {
		if err := p.sync(true); err != nil {
			t.Fatal(err)
		}
	}
	if got := told.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") ||
		!strings.Contains(got, "include=[nosuch0]") || !strings.Contains(got, "exclude=[veth*]") || !strings.Contains(got, "lo") {
		t.Errorf("the log says: %s", got)
	}
	want := `no interface is watched: none is up and matches interfaces.include ["nosuch0"] but not interfaces.exclude ["veth*"]; there are `
	if err := p.Health(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "lo") {
		t.Errorf("health: %v", err)
	}
	// An interface comes and goes: that is told again.
	p.cfg.Include = []string{"lo"}
	if err := p.sync(true); err != nil || p.Health(t.Context()) != nil {
		t.Errorf("with an interface: %v, %v", err, p.Health(t.Context()))
	}
	p.cfg.Include = []string{"nosuch0"}
	if err := p.sync(true); err != nil || strings.Count(told.String(), "no interface to watch") != 2 {
		t.Errorf("%v, the log says: %s", err, told.String())
	}
}

func TestManyInterfacesAreNamedInPart(t *testing.T) {
	links := []device{{name: "lo", up: true}, {name: "eth0"}}
	if got := describe(links); got != "lo, eth0 (down)" {
		t.Error(got)
	}
	for i := range 30 {
		links = append(links, device{name: fmt.Sprint("veth", i), up: true})
	}
	if got := describe(links); !strings.HasSuffix(got, "veth17, and 12 more") {
		t.Error(got)
	}
	if got := describe(nil); got != "none" {
		t.Error(got)
	}
}
