package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// replay has a collector refuse batches that another, with wider limits, takes.
func replay(t *testing.T, ch *chtest.Server) {
	b := newBed(t, ch)
	narrow := b.cfg.Ingest
	b.cfg.Ingest.MaxAge = time.Hour
	stop := b.run()
	now := time.Now()
	old := make([][]byte, 3)
	for i := range old {
		old[i] = b.at(now.Add(-2*time.Hour-time.Duration(i)*time.Minute), now)
		b.publish(ebbwatch.FlowSubject("web-1"), old[i], fmt.Sprint("old-", i))
	}
	b.publish(ebbwatch.FlowSubject("web-2"), []byte("poison"), "bad")
	count := func(want int) {
		t.Helper()
		eventually(t, 20*time.Second, "the letters are there", func() error {
			if n := len(b.letters()); n != want {
				return fmt.Errorf("%d letters, want %d", n, want)
			}
			return nil
		})
	}
	count(4)
	out, err := b.command("dlq", "show", "1", "4")
	if err != nil || !strings.Contains(out, "this build would store it now") || !strings.Contains(out, "agent web-1") || !strings.Contains(out, "1 flows") ||
		!strings.Contains(out, "this build would refuse it now: undecodable") || strings.Count(out, "  do          ") != 1 || !strings.Contains(out, "do          no agent sends such bytes") || !strings.Contains(out, "|poison|") {
		t.Errorf("show prints %v\n%s", err, out)
	}
	// Refused again: the same letters stay.
	before := b.letters()
	out, err = b.command("dlq", "replay", "--reason", "ancient")
	var exit *cli.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || !strings.Contains(out, "3 letters: 0 stored, 3 refused again, 0 waiting, 0 skipped\nrefused again: 1, 2, 3.") || !strings.Contains(out, "`dlq show 1`") {
		t.Errorf("a replay in vain ends with %v and prints\n%s", err, out)
	}
	after := b.letters()
	for i := range before {
		if len(after) != len(before) || after[i].ID != before[i].ID || after[i].Reason != before[i].Reason {
			t.Fatalf("a replay in vain changed the letters: %d and %d", len(before), len(after))
		}
	}
	stop()

	// Nobody runs: they wait, and a second replay makes second copies.
	out, err = b.command("dlq", "replay", "--agent", "web-1", "--wait", "200ms", "--limit", "2")
	if !errors.As(err, &exit) || exit.Code != 3 || !strings.Contains(out, "2 letters: 0 stored, 0 refused again, 2 waiting") {
		t.Errorf("a replay without a collector ends with %v and prints\n%s", err, out)
	}
	if out, err = b.command("dlq", "replay", "--agent", "web-1", "--wait", "0"); err != nil || !strings.Contains(out, "3 waiting") {
		t.Errorf("a replay that does not wait ends with %v and prints\n%s", err, out)
	}
	b.cfg.Ingest = narrow // not narrow: seven days
	stop = b.run()
	b.sent = sums{3, 6, 600, 3, 300, 3}
	b.rows["refused_batches"] = 4 + 3
	b.wantExact()
	count(1)
	if out, err = b.command("dlq", "replay", "2"); err == nil || !errors.Is(err, consume.ErrNoLetter) {
		t.Errorf("a letter that is stored is replayed: %v\n%s", err, out)
	}

	// An old copy of a letter whose batch is stored: it goes, nothing is stored.
	stop()
	b.cfg.Ingest.MaxAge = time.Hour
	stop = b.run()
	b.publish(ebbwatch.FlowSubject("web-1"), old[0], "again")
	count(2)
	stop()
	b.cfg.Ingest = narrow
	b.run()
	out, err = b.command("dlq", "replay", "--agent", "web-1", "--json")
	var result replayResult
	if err != nil || json.Unmarshal([]byte(out), &result) != nil || result.Outcome != consume.Stored {
		t.Errorf("a batch that is stored is replayed with %v and\n%s", err, out)
	}
	b.rows["refused_batches"]++
	b.wantExact()
	count(1)

	// Somebody sets the header: nothing but his own batch is touched.
	msg := nats.NewMsg(ebbwatch.FlowSubject("web-9"))
	msg.Header.Set(consume.ReplayHeader, "1")
	batch := b.envelope("web-9")
	flow := plainFlow()
	batch.Append(&flow)
	msg.Data = b.encode(batch)
	if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	b.sent = sums{4, 8, 800, 4, 400, 4}
	b.wantExact()
	count(1)
}

func TestLetterTools(t *testing.T) {
	b := newBed(t, chtest.Start(t))
	if _, err := b.command("dlq", "list"); err == nil || !strings.Contains(err.Error(), "no collector has run") {
		t.Errorf("without a stream dlq list fails with %v", err)
	}
	stop := b.run()
	for i := range 5 {
		b.publish(ebbwatch.FlowSubject(fmt.Sprint("web-", i%2)), []byte(fmt.Sprint("poison \x1b[31m", i)), fmt.Sprint(i))
	}
	eventually(t, 20*time.Second, "the letters are there", func() error {
		if n := len(b.letters()); n != 5 {
			return fmt.Errorf("%d letters", n)
		}
		return nil
	})
	stop()
	for name, test := range map[string]struct{ args, fails string }{
		"a limit of 0":           {"list --limit 0", "--limit"},
		"a word for a number":    {"show one", `"one" is no number`},
		"a number of 0":          {"show 0", `"0" is no number`},
		"a number unheard of":    {"show 99", "no such dead letter: 99"},
		"an unknown reason":      {"list --reason bad", "none of subject, undecodable"},
		"an agent with a dot":    {"list --agent a.b", "--agent"},
		"a time in words":        {"list --since yesterday", "2026-01-31T08:00:00Z"},
		"drop without a choice":  {"drop", "--all"},
		"replay without one":     {"replay", "--all"},
		"all and some":           {"drop --all 1", "--all"},
		"a wait before the past": {"replay --all --wait -1s", "--wait"},
	} {
		if out, err := b.command(append([]string{"dlq"}, strings.Fields(test.args)...)...); err == nil || !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %v, want %s\n%s", name, err, test.fails, out)
		}
	}
	for args, want := range map[string]string{
		"":                                 "1 2 3 4 5",
		"--agent web-0":                    "1 3 5",
		"--limit 2":                        "4 5",
		"--reason undecodable --limit 1":   "5",
		"--since 1h 2 3":                   "2 3",
		"--since 2200-01-01T00:00:00Z":     "",
		"--agent web-1 --reason ancient":   "",
		"--agent web-1 --since 1h --limit": "4",
	} {
		if strings.HasSuffix(args, "--limit") {
			args += " 1"
		}
		out, err := b.command(append([]string{"dlq", "list", "--json"}, strings.Fields(args)...)...)
		if err != nil {
			t.Errorf("list %s: %v", args, err)
		}
		var ids []string
		for line := range strings.Lines(out) {
			var h head
			if err := json.Unmarshal([]byte(line), &h); err != nil || h.Bytes != 13 || h.Reason == "" || h.Sequence != h.ID {
				t.Errorf("list %s prints %s", args, line)
			}
			ids = append(ids, fmt.Sprint(h.ID))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("list %s gives %s, want %s", args, got, want)
		}
	}
	out, err := b.command("dlq", "list")
	if err != nil || strings.Count(out, "\n") != 6 || !strings.Contains(out, "undecodable:") || strings.Contains(out, "\x1b") {
		t.Errorf("list prints %v\n%s", err, out)
	}
	if out, err = b.command("dlq", "export", "3"); err != nil {
		t.Error(err)
	}
	var exported struct {
		head
		Data []byte `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &exported); err != nil || exported.ID != 3 || string(exported.Data) != "poison \x1b[31m2" {
		t.Errorf("export prints %v\n%s", err, out)
	}
	if out, err = b.command("dlq", "show", "3"); err != nil || strings.Contains(out, "\x1b") || !strings.Contains(out, "letter 3\n") {
		t.Errorf("show prints %v\n%s", err, out)
	}
	if out, err = b.command("dlq", "drop", "--agent", "web-1"); err != nil || out != "2 letters dropped\n" {
		t.Errorf("drop prints %v\n%s", err, out)
	}
	if out, err = b.command("dlq", "drop", "--all"); err != nil || out != "3 letters dropped\n" || len(b.letters()) != 0 {
		t.Errorf("drop of all prints %v\n%s", err, out)
	}
}
