package app_test

import (
	"bytes"
	"cmp"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

// outageDrains is how many drains NATS is away for.
const outageDrains = 120

// outage is how long they take: 12 seconds, or what EBBWATCH_TEST_OUTAGE says. Ten
// minutes are as many drains of the default interval.
func outage(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("EBBWATCH_TEST_OUTAGE"), "12s"))
	if err != nil || d < 12*time.Second {
		t.Fatalf("EBBWATCH_TEST_OUTAGE: %v; want 12s or more: %v", d, err)
	}
	return d
}

// Everything that passes while NATS is away arrives, once and in order, and balances.
func TestTrafficOfTenMinutesWithoutNATSArrives(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	lasts := outage(t)
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	r := runAgent(t, func(cfg *app.Config) { cfg.DrainInterval = lasts / outageDrains })
	r.watches(1)
	peer.run(func() error { return serveTCP(t, "10.1.0.2:7000", 50) })
	r.drains(2)
	r.broker.stop()

	const count = "ebbwatch_agent_drain_seconds_count"
	var calls []string
	call := func() {
		_, from, err := callTCP("10.1.0.2:7000", 10_000)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, from)
	}
	begin := time.Now()
	for end := r.metric(count) + outageDrains; r.metric(count) < end; time.Sleep(max(5*time.Millisecond, lasts/10_000)) {
		call()
	}
	away := time.Since(begin)
	if n := r.metric("ebbwatch_agent_spool_batches"); n < outageDrains-2 {
		t.Errorf("%d batches on disk after %d drains", n, outageDrains)
	}
	r.broker.start()
	call() // while it catches up
	r.shows("\nebbwatch_agent_spool_batches 0\n", true)
	call()
	r.drains(1)
	flows, _ := r.finish(ebbwatch.Counter{})

	var got []string
	for _, f := range flows {
		if f.Proto == ebbwatch.ProtoTCP && f.DstPort == 7000 && f.AgeMS == 0 {
			got = append(got, netip.AddrPortFrom(f.Src, f.SrcPort).String())
		}
	}
	slices.Sort(got)
	slices.Sort(calls)
	if !slices.Equal(got, calls) {
		t.Errorf("%d connections were made, %d stand in records", len(calls), len(got))
	}
	if r.batches < outageDrains {
		t.Errorf("%d batches", r.batches)
	}
	t.Logf("NATS was away for %v: %d of %d connections in records, %d batches", away.Round(time.Millisecond), len(got), len(calls), r.batches)
}

// The real binary is killed while NATS is away, and started again.
func TestKilledAgentLosesNothingThatItHadDrained(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	binary := buildAgent(t, "0")
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	peer.run(func() error { return serveTCP(t, "10.1.0.2:7000", 50) })
	b := newBroker(t)
	stream := b.stream()
	b.stop()
	var log bytes.Buffer
	spool := filepath.Join(t.TempDir(), "spool")
	start := func() (*exec.Cmd, *running) {
		cmd := exec.CommandContext(t.Context(), binary, "run")
		cmd.Env = append(os.Environ(), "EBBWATCH_NAME=host-a", "EBBWATCH_NATS_URL="+b.url(), "EBBWATCH_DRAIN_INTERVAL=100ms", "EBBWATCH_LISTEN="+opsAddress, "EBBWATCH_SPOOL_DIR="+spool)
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := &running{t: t, stream: stream}
		r.watches(1)
		return cmd, r
	}
	var first []string
	for range 3 {
		cmd, r := start()
		_, from, err := callTCP("10.1.0.2:7000", 10_000)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, from)
		r.drains(3)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	b.start()
	cmd, r := start()
	r.shows("\nebbwatch_agent_spool_batches 0\n", true)
	r.drains(2)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
	oncePerRun(t, r, first, 4)
}

// oncePerRun checks that the batches of each of n runs came once and in order, and
// that each of these connections is in one of them.
func oncePerRun(t *testing.T, r *running, connections []string, runs int) {
	t.Helper()
	info, err := r.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var decoder ebbwatch.Decoder
	last := make(map[string]uint64)
	current := ""
	var got []string
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		msg, err := r.stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var b ebbwatch.Batch
		if err := decoder.Decode(msg.Data, &b); err != nil {
			t.Fatal(err)
		}
		if b.Sequence != last[b.Boot]+1 || b.Boot != current && b.Sequence != 1 {
			t.Errorf("batch %d of run %s comes after batch %d of it and run %s", b.Sequence, b.Boot, last[b.Boot], current)
		}
		last[b.Boot], current = b.Sequence, b.Boot
		for i := range b.Len() {
			if f := b.Flow(i); f.Proto == ebbwatch.ProtoTCP && f.DstPort == 7000 && f.AgeMS == 0 {
				got = append(got, netip.AddrPortFrom(f.Src, f.SrcPort).String())
			}
		}
	}
	if len(last) != runs || !slices.Equal(got, connections) {
		t.Errorf("%d runs, connections %v; want %d and %v", len(last), got, runs, connections)
	}
}
