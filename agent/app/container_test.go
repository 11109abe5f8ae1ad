package app_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/app"
)

// contained makes the client of a path a container called blue.
func contained(build func(*testing.T) ends, watched int) func(*testing.T) ends {
	return func(t *testing.T) ends {
		e := build(t)
		e.client.call("blue")
		e.watched = watched
		return e
	}
}

func TestOneConversationIsOneRecordWithContainersWatched(t *testing.T) {
	on := func(cfg *app.Config) { cfg.Interfaces.Namespaces = true }
	for _, p := range []path{
		{name: "the host's end of a pair is enough", build: contained(switched, 2), want: "up0 veth1"},
		{name: "both ends through a bridge to another host", include: []string{"eth0", "veth1", "up0"}, build: contained(switched, 3), want: "eth0 up0 veth1", netns: "blue"},
		{name: "both ends and a bridge, routed", include: []string{"eth0", "veth1", "up0", "br0"}, build: contained(routed, 4), want: "br0 eth0 up0 veth1", netns: "blue"},
		{name: "from another host into a container", include: []string{"eth0", "veth1", "up0"}, want: "eth0 up0 veth1", build: func(t *testing.T) ends {
			e := contained(switched, 3)(t)
			return ends{e.server, e.client, "10.9.0.2", 3}
		}},
		{name: "between two containers", include: []string{"eth0", "veth1", "up0"}, want: "eth0 up0 veth1", netns: "blue", build: func(t *testing.T) ends {
			e := contained(switched, 4)(t)
			e.server.call("green")
			return e
		}},
		{name: "inside a container", include: []string{"lo"}, want: "lo", netns: "blue", adjust: func(cfg *app.Config) { cfg.Interfaces.Exclude = []string{"up0"} }, build: func(t *testing.T) ends {
			c := newHost(t)
			c.run(func() error { quiet(t); return number("lo", "") })
			c.call("blue")
			return ends{c, c, "127.0.0.1", 2}
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			if !isolated(t) {
				return
			}
			adjust := p.adjust
			p.adjust = func(cfg *app.Config) {
				on(cfg)
				if adjust != nil {
					adjust(cfg)
				}
			}
			p.check(t)
		})
	}
}

// hooks counts what is attached to the ingress of an interface in the thread's namespace.
func hooks(name, mode string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	if mode == "tcx" {
		r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return 0, err
		}
		return len(r.Programs), nil
	}
	filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	n := 0
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, "ebbwatch_") {
			n++
		}
	}
	return n, err
}

// An agent is killed while traffic flows, here and in a container, started again,
// and ended: then nothing of it is attached anywhere, and the traffic never stopped.
func TestNothingStaysAttachedAfterAKillUnderTraffic(t *testing.T) {
	buildAgent(t, "0")
	for _, mode := range []string{"tcx", "tc"} {
		t.Run(mode, func(t *testing.T) {
			if !isolated(t) {
				return
			}
			e := contained(switched, 3)(t)
			if _, err := hooks("up0", mode); err != nil && mode == "tcx" {
				t.Skip("this kernel has no tcx")
			}
			e.server.run(func() error { return serveUDP(t, "10.9.0.3:7001") })
			stop := stream(t, e.client, "10.9.0.3:7001")
			count := func() (here, there int) {
				here, err := hooks("up0", mode)
				if err != nil {
					t.Fatal(err)
				}
				e.client.run(func() (err error) { there, err = hooks("eth0", mode); return err })
				return here, there
			}
			expect := func(when string, want int) {
				t.Helper()
				if here, there := count(); here != want || there != want {
					t.Errorf("%s: %d hooks here and %d in the container, want %d", when, here, there, want)
				}
			}
			dir := t.TempDir()
			first, _ := startAgent(t, mode, dir)
			expect("while it runs", 1)
			_ = first.Process.Kill()
			_ = first.Wait()
			if mode == "tcx" {
				expect("after the kill", 0)
			}
			second, log := startAgent(t, mode, dir)
			expect("after the start", 1)
			if err := second.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := second.Wait(); err != nil {
				t.Error(err)
			}
			expect("after the end", 0)
			if sent, answered := stop(); sent == 0 || answered < sent*2/5 { // a busy host drops some itself
				t.Errorf("%d datagrams sent, %d answered: half of them should be", sent, answered)
			}
			if strings.Contains(log.String(), "ERROR") || t.Failed() {
				t.Errorf("the log of the second:\n%s", log.String())
			}
		})
	}
}

// startAgent starts the real binary, with its privileges given up, and waits until
// it watches three interfaces.
func startAgent(t *testing.T, mode, dir string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), buildAgent(t, "0"), "run")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "EBBWATCH_NATS_URL=nats://127.0.0.1:1", "EBBWATCH_DRAIN_INTERVAL=100ms", "EBBWATCH_LISTEN="+opsAddress, "EBBWATCH_SPOOL_DIR="+dir,
		"EBBWATCH_DATAPATH_ATTACH="+mode, "EBBWATCH_INTERFACES_NAMESPACES=true", "EBBWATCH_INTERFACES_INCLUDE=[eth0,veth1,up0]")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	r := &running{t: t}
	r.watches(3)
	r.shows("\nebbwatch_agent_namespace_interfaces{netns=\"blue\"} 1\n", true)
	r.drains(2)
	return cmd, &log
}
