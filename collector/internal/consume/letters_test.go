package consume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
)

func refuse(t *testing.T, s *Streams, js jetstream.JetStream, l *Letter) Dropped {
	t.Helper()
	dropped, err := s.Refuse(t.Context(), js, l)
	if err != nil {
		t.Fatal(err)
	}
	return dropped
}

func open(t *testing.T, js jetstream.JetStream) *Letters {
	t.Helper()
	l, err := OpenLetters(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func list(t *testing.T, js jetstream.JetStream, f Filter) []*Letter {
	t.Helper()
	var all []*Letter
	for l, err := range open(t, js).All(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func TestLettersAreListedAndFound(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	if _, err := OpenLetters(t.Context(), js); err == nil || !strings.Contains(err.Error(), "no collector has run") {
		t.Errorf("without a stream: %v", err)
	}
	s := ensure(t, js, small())
	if got := list(t, js, Filter{}); len(got) != 0 {
		t.Errorf("an empty stream lists %d letters", len(got))
	}
	stored := time.Now().UTC().Truncate(time.Nanosecond)
	letters := []*Letter{
		{Subject: "ebbwatch.flows.v1.web-1", Reason: "undecodable: x", Data: []byte{0, 1, 2}, MessageID: "id-1", Origin: 1, Stored: stored},
		{Subject: "ebbwatch.flows.v1.a b\r\nEvil: 1", Reason: "subject: \"a\r\nNats-Rollup: all\x00\xff" + strings.Repeat("y", 2000), Origin: 2, Stored: stored},
		{Subject: "ebbwatch.flows.v1.web-2", Reason: "future: y", Data: bytes.Repeat([]byte{7}, 100_000), Origin: 3, Stored: stored},
		{Subject: "ebbwatch.flows.v1.web-1", Reason: "undecodable: x", Data: []byte{0, 1, 3}, MessageID: "id-2", Origin: 4, Stored: stored},
	}
	for i := range 2 { // refused twice, kept once, whatever number it comes under
		for _, l := range letters {
			l.Origin += uint64(i) * 100
			refuse(t, s, js, l)
		}
	}
	for _, l := range letters {
		l.Origin -= 100
	}
	got := list(t, js, Filter{})
	if len(got) != len(letters) {
		t.Fatalf("the list holds %d letters, want %d", len(got), len(letters))
	}
	for i, want := range letters {
		l := got[i]
		if l.ID != uint64(i+1) || l.Size != len(want.Data) || l.Data != nil || l.Reason != Printable(want.Reason) || l.Subject != Printable(want.Subject) ||
			l.MessageID != want.MessageID || l.Origin != want.Origin || !l.Stored.Equal(stored) {
			t.Errorf("letter %d is listed as %+v", i, l)
		}
		full, err := open(t, js).Get(t.Context(), l.ID)
		if err != nil || !bytes.Equal(full.Data, want.Data) {
			t.Errorf("letter %d holds %d bytes, %v", i, len(full.Data), err)
		}
	}
	between := got[1].Time.Add(1)
	for name, test := range map[string]struct {
		filter Filter
		want   string
	}{
		"of an agent":          {Filter{Agent: "web-1"}, "[1 4]"},
		"of an agent unheard":  {Filter{Agent: "web"}, "[]"},
		"without an agent":     {Filter{Agent: "invalid"}, "[2]"},
		"for a reason":         {Filter{Reason: "undecodable"}, "[1 4]"},
		"since a time":         {Filter{Since: between}, "[3 4]"},
		"in the future":        {Filter{Since: time.Now().Add(time.Hour)}, "[]"},
		"by number":            {Filter{IDs: []uint64{3, 1, 99}}, "[1 3]"},
		"by all of it at once": {Filter{Agent: "web-1", Reason: "undecodable", Since: between}, "[4]"},
	} {
		var ids []uint64
		for _, l := range list(t, js, test.filter) {
			ids = append(ids, l.ID)
		}
		if fmt.Sprint(ids) != test.want {
			t.Errorf("letters %s: %v, want %s", name, ids, test.want)
		}
	}
	if err := open(t, js).Drop(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, js).Get(t.Context(), 3); !errors.Is(err, ErrNoLetter) {
		t.Errorf("a dropped letter is read: %v", err)
	}
	if err := s.Settle(t.Context(), letters[0].Subject, letters[0].Data); err != nil {
		t.Fatal(err)
	}
	if left := list(t, js, Filter{}); len(left) != 2 || left[0].ID != 2 || left[1].ID != 4 {
		t.Errorf("after one is dropped and one settled %d letters are left", len(left))
	}
}

func TestALetterThatDoesNotFitIsCutAndNotReplayed(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	cfg := small()
	cfg.DeadLetterMaxBytes = 4 << 20
	s := ensure(t, js, cfg)
	data := bytes.Repeat([]byte{7, 8}, 1<<19)
	for range 2 {
		refuse(t, s, js, &Letter{Subject: "ebbwatch.flows.v1.web-1", Reason: "invalid: large", Data: data, Origin: 3, Stored: time.Now()})
	}
	l, err := open(t, js).Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Data) >= len(data) || !bytes.HasPrefix(data, l.Data) || l.Truncated != len(data) {
		t.Errorf("the letter has %d bytes and says that they were %d", len(l.Data), l.Truncated)
	}
	if _, err := open(t, js).Replay(t.Context(), l); !errors.Is(err, ErrIncomplete) {
		t.Errorf("it is replayed: %v", err)
	}
	if n := len(list(t, js, Filter{})); n != 1 {
		t.Errorf("refused twice it is %d letters", n)
	}
}

// What floods the letters gives way, not what others left.
func TestFullDeadLettersLetGoOfTheLargestSender(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	s := ensure(t, js, small()) // 1 MiB
	number := uint64(0)
	letter := func(agent string, size int) Dropped {
		number++
		data := make([]byte, size)
		copy(data, fmt.Sprint(number))
		return refuse(t, s, js, &Letter{Subject: ebbwatch.FlowSubject(agent), Reason: "version: 2", Data: data, Origin: number, Stored: time.Now()})
	}
	for range 50 { // many small letters, older than the flood
		letter("quiet", 500)
	}
	var dropped Dropped
	for range 100 { // 5 MB
		d := letter("flood", 50_000)
		if d.Letters > 0 && d.Agent != "flood" {
			t.Fatalf("letters of %q gave way", d.Agent)
		}
		dropped.Letters += d.Letters
		dropped.Bytes += d.Bytes
	}
	quiet, flood := list(t, js, Filter{Agent: "quiet"}), list(t, js, Filter{Agent: "flood"})
	if len(quiet) != 50 || uint64(len(flood))+dropped.Letters != 100 || len(flood) < 15 {
		t.Errorf("%d of the quiet agent are left, and %d of the flood, with %d dropped", len(quiet), len(flood), dropped.Letters)
	}
	if newest := flood[len(flood)-1].ID; newest != 150 {
		t.Errorf("the newest letter is %d", newest)
	}
	if _, bytes, limit := open(t, js).Usage(); bytes > limit || limit != 1<<20 {
		t.Errorf("%d of %d bytes", bytes, limit)
	}
	// Where nobody stands out, the oldest go.
	for i := range 3000 {
		letter(fmt.Sprintf("agent-%d", i), 2000)
	}
	if left := list(t, js, Filter{Agent: "agent-2999"}); len(left) != 1 {
		t.Error("the newest of many agents is not there")
	}
	if left := list(t, js, Filter{Agent: "agent-0"}); len(left) != 0 {
		t.Error("the oldest of many agents is still there")
	}
}

// The first of many letters may take all of the time.
func TestALetterThatIsLookedForTooLateWaits(t *testing.T) {
	js := natstest.Start(t).JetStream(t)
	refuse(t, ensure(t, js, small()), js, &Letter{Subject: "ebbwatch.flows.v1.web-1", Reason: "future: y", Data: []byte{1}, Origin: 1, Stored: time.Now()})
	letters := open(t, js)
	l, err := letters.Get(t.Context(), list(t, js, Filter{})[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := letters.Replay(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if outcome, err := letters.Outcome(ctx, r); outcome != Waiting || err != nil {
		t.Errorf("got %q, %v", outcome, err)
	}
}
