package publish_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

func withSpool(dir string, maxBytes int64) publish.Config {
	return publish.Config{QueueMaxBytes: 8 << 20, Spool: spool.Config{Dir: dir, MaxBytes: maxBytes}}
}

func portOf(s *server.Server) int { return s.Addr().(*net.TCPAddr).Port }

// freePort returns a port on which nothing answers.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func urlOf(port int) string { return fmt.Sprintf("nats://127.0.0.1:%d", port) }

// Ten minutes of the default interval are 120 drains. Each makes several
// batches here, the wall clock goes back an hour in the midst, and nothing
// waits in memory.
func TestTenMinutesWithoutNATSLoseNothing(t *testing.T) {
	const drains, perDrain, interval = 120, 5, 5 * time.Second
	store, dir := t.TempDir(), filepath.Join(t.TempDir(), "spool")
	s := startNATS(t, store, 0)
	port := portOf(s)
	stream := streamOf(t, s, -1)
	h := startWith(t, s.ClientURL(), withSpool(dir, 1<<30))
	h.publish(20)
	eventually(t, "the first batches are stored", func() bool { return messages(t, stream) == 20 })
	if n := h.metric("spool_written_batches_total"); n != 0 {
		t.Errorf("%d batches were written to disk while NATS took them all", n)
	}
	stopNATS(s)

	clock := time.Now()
	for i := range drains {
		if clock = clock.Add(interval); i == drains/2 {
			clock = clock.Add(-time.Hour)
		}
		for range perDrain {
			h.batch(clock, 50)
		}
	}
	eventually(t, "all batches are on disk", func() bool { return h.metric("spool_batches") == drains*perDrain })
	if n := h.metric("queue_batches"); n != 0 {
		t.Errorf("%d batches wait in memory", n)
	}

	s = startNATS(t, store, port)
	stream = streamOf(t, s, -1)
	h.publish(30) // while it catches up
	const total = 20 + drains*perDrain + 30
	eventually(t, "everything is stored", func() bool { return messages(t, stream) >= total })
	h.finish()
	got, last := stored(t, stream)
	if !slices.Equal(got, upTo(total)) {
		t.Errorf("stored %d batches: %v, want 1 to %d in order", len(got), got, total)
	}
	for _, l := range last.Losses {
		if l.Count != 0 {
			t.Errorf("loss %s: %d", l.Name, l.Count)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*.spool")); err != nil || len(files) != 0 {
		t.Errorf("left on disk: %v, %v", files, err)
	}
}

func TestGapsDownstreamAreExactlyWhatWasDropped(t *testing.T) {
	const batches, flows = 600, 1000
	port := freePort(t)
	h := startWith(t, urlOf(port), withSpool(filepath.Join(t.TempDir(), "spool"), 5<<20))
	for i := range batches {
		h.batch(time.Now(), flows)
		if i%20 == 0 { // as a drain every 5 s does, let the disk keep up
			eventually(t, "memory is empty", func() bool { return h.metric("queue_batches") == 0 })
		}
	}
	eventually(t, "memory is empty", func() bool { return h.metric("queue_batches") == 0 })
	dropped := h.metric("spool_dropped_batches_total")
	if dropped == 0 || h.metric("spool_file_bytes") > 5<<20 {
		t.Fatalf("%d dropped, %d bytes of files", dropped, h.metric("spool_file_bytes"))
	}
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	h.publish(1)
	eventually(t, "the rest is stored", func() bool { return messages(t, stream) >= batches-dropped+1 })
	h.finish()
	got, last := stored(t, stream)
	if want := upTo(batches + 1)[dropped:]; !slices.Equal(got, want) {
		t.Errorf("stored %v, want %d to %d in order", got, want[0], batches+1)
	}
	told := last.Losses
	if b, f := h.loss(told, "spool_dropped_batches"), h.loss(told, "spool_dropped_flows"); b != dropped || f != flows*dropped || h.loss(told, "queue_dropped_batches") != 0 {
		t.Errorf("told downstream: %v; dropped were %d batches of %d flows", told, dropped, flows)
	}
	if h.loss(told, "spool_dropped_bytes") != h.metric("spool_dropped_bytes_total") {
		t.Errorf("told downstream: %v", told)
	}
}

const childRole, childURL, childSpool = "EBBWATCH_TEST_PUBLISH_CHILD", "EBBWATCH_TEST_PUBLISH_URL", "EBBWATCH_TEST_PUBLISH_SPOOL"

// child runs the calling test again as a process of its own with a publisher, which is
// killed when it has printed the line until.
func child(t *testing.T, url, dir, until string) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childRole+"=1", childURL+"="+url, childSpool+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		lines = append(lines, scan.Text())
		if scan.Text() == until {
			if err := cmd.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v\n%s", err, strings.Join(lines, "\n"))
	}
	return lines
}

// arrived returns the batches in the stream as boot:sequence, in its order.
func arrived(t *testing.T, stream jetstream.Stream) (ids []string) {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, strings.TrimPrefix(msg.Header.Get(nats.MsgIdHdr), "host-a:"))
	}
	return ids
}

func idsOf(boot string, n int) (ids []string) {
	for i := 1; i <= n; i++ {
		ids = append(ids, fmt.Sprintf("%s:%d", boot, i))
	}
	return ids
}

func bootIn(t *testing.T, lines []string) string {
	t.Helper()
	for _, l := range lines {
		if boot, ok := strings.CutPrefix(l, "boot "); ok {
			return boot
		}
	}
	t.Fatalf("no boot in %v", lines)
	return ""
}

func TestKilledAgentDeliversAfterItsRestart(t *testing.T) {
	const n = 200
	if os.Getenv(childRole) != "" {
		h := startWith(t, os.Getenv(childURL), withSpool(os.Getenv(childSpool), 1<<30))
		fmt.Printf("boot %s\n", h.Boot())
		h.publish(n)
		eventually(t, "all batches are on disk", func() bool { return h.metric("spool_written_batches_total") == n })
		fmt.Println("on disk")
		time.Sleep(time.Minute)
		return
	}
	port, dir := freePort(t), filepath.Join(t.TempDir(), "spool")
	first := bootIn(t, child(t, urlOf(port), dir, "on disk"))
	second := bootIn(t, child(t, urlOf(port), dir, "on disk"))
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	h := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	h.publish(10)
	eventually(t, "everything is stored", func() bool { return messages(t, stream) >= 2*n+10 })
	h.finish()
	want := slices.Concat(idsOf(first, n), idsOf(second, n), idsOf(h.Boot(), 10))
	if got := arrived(t, stream); !slices.Equal(got, want) {
		t.Errorf("%d arrived: %v", len(got), got)
	}
}

func TestAgentKilledWhileItCatchesUpSendsNothingTwice(t *testing.T) {
	const n = 2000
	if os.Getenv(childRole) != "" {
		h := startWith(t, os.Getenv(childURL), withSpool(os.Getenv(childSpool), 1<<30))
		fmt.Printf("boot %s\n", h.Boot())
		if found := h.metric("spool_batches"); found == 0 {
			h.publish(n)
		}
		eventually(t, "all batches are on disk", func() bool { return h.metric("spool_batches") == n || h.metric("published_batches_total") > 0 })
		fmt.Println("on disk")
		eventually(t, "some are delivered", func() bool { return h.metric("published_batches_total") > n/4 })
		fmt.Println("some delivered")
		time.Sleep(time.Minute)
		return
	}
	port, dir := freePort(t), filepath.Join(t.TempDir(), "spool")
	boot := bootIn(t, child(t, urlOf(port), dir, "on disk"))
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	child(t, urlOf(port), dir, "some delivered")
	h := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	eventually(t, "everything is stored", func() bool { return messages(t, stream) >= n })
	h.finish()
	var got []string
	for _, id := range arrived(t, stream) { // the second child may have had batches of its own
		if strings.HasPrefix(id, boot) {
			got = append(got, id)
		}
	}
	if !slices.Equal(got, idsOf(boot, n)) {
		t.Errorf("%d of %d arrived in order and once", len(got), n)
	}
}

func TestEndWithoutNATSLeavesAllToTheNextStart(t *testing.T) {
	port, dir := freePort(t), filepath.Join(t.TempDir(), "spool")
	h := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	h.publish(40)
	begin := time.Now()
	h.finish()
	if d := time.Since(begin); d > 900*time.Millisecond {
		t.Errorf("took %v to end, although all is on disk", d)
	}
	first := h.Boot()
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	h = startWith(t, urlOf(port), withSpool(dir, 1<<30))
	h.publish(3)
	eventually(t, "everything is stored", func() bool { return messages(t, stream) == 43 })
	h.finish()
	if got := arrived(t, stream); !slices.Equal(got, append(idsOf(first, 40), idsOf(h.Boot(), 3)...)) {
		t.Errorf("arrived: %v", got)
	}
}

func TestHealthTellsOfAnOutageWithinSeconds(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	s := startNATS(t, dir, port)
	stream := streamOf(t, s, -1)
	h := startWith(t, urlOf(port), withSpool(t.TempDir(), 1<<30))
	h.publish(1)
	eventually(t, "the agent knows that the first batch is stored", func() bool { return messages(t, stream) == 1 && h.metric("published_batches_total") == 1 })
	if err := h.Health(t.Context()); err != nil {
		t.Fatalf("health before the outage: %v", err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	began := time.Now()
	eventually(t, "health tells of it without a batch to send", func() bool { return h.Health(t.Context()) != nil })
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("health tells of it after %v", took)
	}
	h.publish(3)
	eventually(t, "health tells what waits and since when", func() bool {
		said := fmt.Sprint(h.Health(t.Context()))
		return strings.Contains(said, "not connected to NATS; waiting batches: 3 (") && strings.Contains(said, "in the spool, 0 (0 bytes) in memory") &&
			strings.Contains(said, "nothing delivered since "+began.UTC().Format("2006-01-02T15:"))
	})
	stream = streamOf(t, startNATS(t, dir, port), -1)
	eventually(t, "health is well again", func() bool { return h.Health(t.Context()) == nil && messages(t, stream) == 4 })
	h.finish()
}

func TestUnusableSpoolMeansMemoryAndSaysSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startNATS(t, t.TempDir(), 0)
	stream := streamOf(t, s, -1)
	h := startWith(t, s.ClientURL(), withSpool(file, 1<<30))
	eventually(t, "health tells of the spool", func() bool {
		err := h.Health(t.Context())
		return err != nil && strings.Contains(err.Error(), "the spool cannot be used") && strings.Contains(err.Error(), file)
	})
	if h.metric("spool_usable") != 0 || h.metric("spool_errors_total") == 0 {
		t.Error("the metrics do not tell of the spool")
	}
	h.publish(10)
	h.finish()
	if got, _ := stored(t, stream); !slices.Equal(got, upTo(10)) {
		t.Errorf("stored %v", got)
	}
}

func TestSpoolFolderRemovedWhileItRunsIsSaidAndMended(t *testing.T) {
	port, dir := freePort(t), filepath.Join(t.TempDir(), "spool")
	h := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	h.publish(5)
	eventually(t, "the first batches are on disk", func() bool { return h.metric("spool_batches") == 5 && h.metric("spool_usable") == 1 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // nobody can make it again
		t.Fatal(err)
	}
	eventually(t, "the agent says so", func() bool {
		err := h.Health(t.Context())
		return h.metric("spool_usable") == 0 && err != nil && strings.Contains(err.Error(), dir)
	})
	h.publish(5)
	if n := h.metric("queue_batches"); n != 5 {
		t.Errorf("%d batches wait in memory", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the spool is used again", func() bool { return h.metric("spool_usable") == 1 && h.metric("spool_batches") == 10 })
	if err := h.Health(t.Context()); err != nil && strings.Contains(err.Error(), "cannot be used") {
		t.Errorf("mended: %v", err)
	}
	h.finish()
	first := h.Boot()
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	h = startWith(t, urlOf(port), withSpool(dir, 1<<30))
	eventually(t, "everything is stored", func() bool { return messages(t, stream) == 10 })
	h.finish()
	if got := arrived(t, stream); !slices.Equal(got, idsOf(first, 10)) {
		t.Errorf("arrived: %v", got)
	}
}

func TestTwoAgentsOnOneFolderBothDeliver(t *testing.T) {
	port, dir := freePort(t), filepath.Join(t.TempDir(), "spool")
	first := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	eventually(t, "the first has the folder", func() bool { return first.metric("spool_usable") == 1 })
	first.publish(5)
	eventually(t, "it uses it", func() bool { return first.metric("spool_batches") == 5 })
	second := startWith(t, urlOf(port), withSpool(dir, 1<<30))
	second.publish(5)
	eventually(t, "the second has not", func() bool { return second.Health(t.Context()) != nil && second.metric("queue_batches") == 5 })
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	eventually(t, "everything is stored", func() bool { return messages(t, stream) == 10 })
	first.finish()
	second.finish()
}

// A batch that the server can never take must not hold up those behind it.
func TestBatchThatIsTooLargeForTheServerIsCountedAndPassedOver(t *testing.T) {
	for name, limit := range map[string]struct{ payload, message int32 }{
		"by the server's max_payload":      {8192, -1},
		"by the stream's max_message_size": {1 << 20, 8192},
	} {
		t.Run(name, func(t *testing.T) { tooLarge(t, limit.payload, limit.message) })
	}
}

func tooLarge(t *testing.T, payload, message int32) {
	s := startServer(t, &server.Options{Port: server.RANDOM_PORT, StoreDir: t.TempDir(), MaxPayload: payload})
	stream := streamOf(t, s, -1)
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = message
	var err error
	if stream, err = jetStream(t, s.ClientURL()).UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	h := startWith(t, s.ClientURL(), withSpool(filepath.Join(t.TempDir(), "spool"), 1<<30))
	h.batch(time.Now(), 1)
	h.batch(time.Now(), 3000)
	h.batch(time.Now(), 1)
	eventually(t, "the others are stored", func() bool { return messages(t, stream) == 2 })
	h.batch(time.Now(), 1)
	h.finish()
	got, last := stored(t, stream)
	if !slices.Equal(got, []uint64{1, 3, 4}) || h.loss(last.Losses, "refused_batches") != 1 || h.metric("refused_batches_total") != 1 {
		t.Errorf("stored %v, told %v", got, last.Losses)
	}
}
