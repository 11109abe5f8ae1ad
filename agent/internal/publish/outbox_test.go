package publish

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

func newOutbox(t *testing.T, queueBytes int64, dir string) *outbox {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	o := &outbox{queue: newQueue(queueBytes), spool: spool.New(spool.Config{Dir: dir, MaxBytes: 1 << 30}, log), log: log}
	t.Cleanup(func() { o.close() })
	return o
}

func batch(sequence string, size int) Message {
	return Message{ID: "host-a:6ba7b810-9dad-41d1-80b4-00c04fd430c8:" + sequence, Data: make([]byte, size), Flows: 1}
}

func TestMemoryHoldsOnlyWhatHasNothingBeforeIt(t *testing.T) {
	o := newOutbox(t, 1<<20, filepath.Join(t.TempDir(), "spool"))
	o.queue.push(batch("1", 100))
	o.tend(false)
	if n, _, _ := o.queue.size(); n != 1 || o.spool.Len() != 0 {
		t.Errorf("while all goes well %d wait in memory and %d on disk", n, o.spool.Len())
	}
	group := o.take()
	o.resolve(nil, group) // it failed
	if n, _, _ := o.queue.size(); n != 0 || o.spool.Len() != 1 {
		t.Errorf("after a failure %d wait in memory and %d on disk", n, o.spool.Len())
	}
	o.queue.push(batch("2", 100))
	o.tend(false) // not failing any more, but not done with what is older
	if n, _, _ := o.queue.size(); n != 0 || o.spool.Len() != 2 {
		t.Errorf("while it catches up %d wait in memory and %d on disk", n, o.spool.Len())
	}
	if got := sequencesOf(o.take()); got != "1 2" {
		t.Errorf("took %s", got)
	}
}

func TestSpoolThatFailsLeavesMemoryInOrderAndWithinItsLimit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	o := newOutbox(t, 4*(100+overhead), dir)
	o.queue.push(batch("1", 100), batch("2", 100))
	o.tend(true)
	if o.spool.Len() != 2 {
		t.Fatalf("%d on disk", o.spool.Len())
	}
	if err := o.spool.Close(); err != nil { // every use of it is an error now
		t.Fatal(err)
	}
	for _, s := range strings.Fields("3 4 5 6 7 8") {
		o.queue.push(batch(s, 100))
		o.tend(true)
	}
	if n, bytes, lost := o.queue.size(); n != 4 || bytes > o.queue.maxBytes || lost.Batches != 2 {
		t.Errorf("%d wait in memory, %d bytes, lost %+v", n, bytes, lost)
	}
	if err := o.trouble(); err == nil || o.usable() {
		t.Errorf("trouble: %v", err)
	}
	if got := sequencesOf(o.queue.take(10, 1<<20)); got != "5 6 7 8" {
		t.Errorf("left in memory: %s", got)
	}
}

func sequencesOf(messages []Message) string {
	var s []string
	for _, m := range messages {
		_, sequence := splitID(m.ID)
		s = append(s, string(rune('0'+sequence)))
	}
	return strings.Join(s, " ")
}
