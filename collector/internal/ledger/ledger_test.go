package ledger

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/ranges"
)

func TestLedger(t *testing.T) {
	nats := natstest.Start(t)
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	stored := created.Add(time.Hour)
	open := func(t *testing.T, shard string) *Ledger {
		t.Helper()
		l, err := Open(t.Context(), nats.JetStream(t), shard, 1)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	load := func(t *testing.T, l *Ledger, stream time.Time) *Intent {
		t.Helper()
		left, before, err := l.Load(t.Context(), stream, "one")
		if err != nil {
			t.Fatal(err)
		}
		if left != nil && before != "one" {
			t.Errorf("the intent was left in store %q", before)
		}
		return left
	}
	begin := func(t *testing.T, l *Ledger, token string, sequences ...uint64) {
		t.Helper()
		for _, s := range sequences {
			l.Hold(s, stored)
		}
		if err := l.Begin(t.Context(), Intent{token, ranges.Of(sequences), stored}); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("an intent that was not committed is found by the next", func(t *testing.T) {
		l := open(t, "a")
		load(t, l, created)
		begin(t, l, "t1", 1, 2, 5)
		l.Commit()
		begin(t, l, "t2", 3, 4)
		heir := open(t, "a")
		left := load(t, heir, created)
		if left == nil || left.Token != "t2" || left.Sequences.Count() != 2 {
			t.Fatalf("left is %+v", left)
		}
		for seq, want := range map[uint64]Status{1: Done, 2: Done, 3: New, 5: Done, 6: New} {
			if got := heir.Status(seq, stored); got != want {
				t.Errorf("status of %d is %d, want %d", seq, got, want)
			}
		}
		heir.Commit()
		if got := heir.Status(3, stored); got != Done {
			t.Errorf("after the commit the status of 3 is %d", got)
		}
		if err := heir.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := load(t, open(t, "a"), created); left != nil {
			t.Errorf("after the end %+v is left", left)
		}
	})
	t.Run("the one who was overtaken learns it before its insert", func(t *testing.T) {
		slow, fast := open(t, "b"), open(t, "b")
		load(t, slow, created)
		load(t, fast, created)
		begin(t, fast, "fast", 1)
		if err := slow.Begin(t.Context(), Intent{"slow", ranges.Of([]uint64{1}), stored}); !errors.Is(err, ErrOvertaken) {
			t.Errorf("begin gives %v", err)
		}
	})
	t.Run("a write whose answer got lost is recognized", func(t *testing.T) {
		l := open(t, "c")
		load(t, l, created)
		begin(t, l, "t1", 1)
		l.Commit()
		before := l.revision
		state := l.state
		begin(t, l, "t2", 2)
		l.revision, l.state = before, state // as if Begin had failed after the write
		l.Discard(7, stored)                // a copy that came meanwhile
		begin(t, l, "t2", 2)
		l.Commit()
		begin(t, l, "t3", 3)
	})
	t.Run("sequences of another stream mean nothing", func(t *testing.T) {
		l := open(t, "d")
		load(t, l, created)
		begin(t, l, "t1", 1, 2, 3)
		other := open(t, "d")
		if left := load(t, other, created.Add(time.Second)); left != nil {
			t.Errorf("left is %+v", left)
		}
		if got := other.Status(2, stored); got != New {
			t.Errorf("status is %d", got)
		}
		begin(t, other, "t2", 1) // and the key can be written
	})
	t.Run("a sequence that the stream gave out again is new", func(t *testing.T) {
		l := open(t, "e")
		load(t, l, created)
		begin(t, l, "t1", 1)
		left := load(t, open(t, "e"), created)
		if !left.Has(1, stored) || left.Has(1, stored.Add(time.Nanosecond)) || left.Has(2, stored) {
			t.Error("the intent has a message that it has not, or has not one of its own")
		}
		l.Commit()
		if got := l.Status(1, stored.Add(time.Nanosecond)); got != New {
			t.Errorf("status is %d", got)
		}
	})
	t.Run("none of the sequences that the stream gives out again is taken for done", func(t *testing.T) {
		l := open(t, "h")
		load(t, l, created)
		begin(t, l, "t1", 1, 2, 3)
		l.Commit()
		begin(t, l, "t2", 4, 5) // on its way when the stream loses all from 3 on
		again := func(sequence uint64) time.Time { return stored.Add(time.Duration(sequence) * time.Second) }
		if l.Status(4, stored) != Held || l.Status(4, again(4)) != New {
			t.Error("a message of the block on its way is not told from another under its sequence")
		}
		l.Hold(4, again(4))
		l.Commit() // the block of old
		if got := l.Status(4, again(4)); got != Held {
			t.Errorf("the other message under the sequence has the status %d", got)
		}
		l.Hold(6, again(6))
		if err := l.Begin(t.Context(), Intent{"t3", ranges.Of([]uint64{4, 6}), again(6)}); err != nil {
			t.Fatal(err)
		}
		l.Commit()
		for _, sequence := range []uint64{3, 5} { // late, after one that is newer is done
			if got := l.Status(sequence, again(sequence)); got != New {
				t.Errorf("message %d has the status %d", sequence, got)
			}
		}
		if l.Status(4, again(4)) != Done || l.Status(6, again(6)) != Done {
			t.Error("what is done since is not known")
		}
		heir := open(t, "h")
		load(t, heir, created)
		if got := heir.Status(5, again(5)); got != New {
			t.Errorf("to the next session message 5 has the status %d", got)
		}
	})
	t.Run("held and discarded messages are known", func(t *testing.T) {
		l := open(t, "f")
		load(t, l, created)
		l.Hold(1, stored)
		l.Hold(2, stored)
		l.Discard(2, stored)
		if l.Status(1, stored) != Held || l.Status(2, stored) != Done {
			t.Error("not known")
		}
		load(t, l, created) // a new session holds nothing
		if l.Status(1, stored) != New {
			t.Error("held after Load")
		}
	})
	t.Run("gaps below the floor are forgotten", func(t *testing.T) {
		l := open(t, "g")
		load(t, l, created)
		for s := uint64(2); s < 100; s += 2 {
			l.Discard(s, stored)
		}
		if l.Fragments() != 49 {
			t.Fatalf("%d fragments", l.Fragments())
		}
		l.CoverTo(90)
		if l.Fragments() != 5 || l.Status(33, stored) != Done || l.Status(93, stored) != New {
			t.Errorf("%d fragments: %v", l.Fragments(), l.state.Done)
		}
	})
	t.Run("a damaged ledger is an error, not a fresh start", func(t *testing.T) {
		l := open(t, "h")
		for _, value := range []string{"no json", `{"done":[[5,1]]}`, `{"intent":{"token":"x","sequences":[[1,99999999999]]}}`, `{"intent":{"token":""}}`} {
			if _, err := l.kv.Put(t.Context(), l.key, []byte(value)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := l.Load(context.Background(), created, "one"); err == nil {
				t.Errorf("%s loads", value)
			}
		}
	})
	t.Run("an intent that was left in another store is told of as such", func(t *testing.T) {
		l := open(t, "j")
		load(t, l, created)
		begin(t, l, "t1", 1)
		for range 2 { // looking changes nothing
			left, before, err := open(t, "j").Load(t.Context(), created, "two")
			if err != nil || left == nil || before != "one" {
				t.Errorf("left is %+v, before %q, %v", left, before, err)
			}
		}
	})
	t.Run("a key that somebody deleted can be written again", func(t *testing.T) {
		l := open(t, "i")
		load(t, l, created)
		begin(t, l, "t1", 1)
		if err := l.kv.Delete(t.Context(), l.key); err != nil {
			t.Fatal(err)
		}
		load(t, l, created)
		begin(t, l, "t2", 2)
	})
}
