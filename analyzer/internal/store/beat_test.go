package store_test

import (
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// beatsOf returns what an agent that drains every 5 s sent in the two minutes
// before now, less the missing sequences; skew tells how old each batch is.
func beatsOf(agent string, skew func(received time.Time) time.Duration, missing ...uint64) []storetest.Beat {
	var beats []storetest.Beat
	sequence := uint64(0)
	for at := now.Add(-2 * time.Minute); !at.After(now); at = at.Add(5 * time.Second) {
		sequence++
		lost := false
		for _, m := range missing {
			lost = lost || m == sequence
		}
		if !lost {
			beats = append(beats, storetest.Beat{Agent: agent, Time: at.Add(-skew(at)), Received: at, Boot: agent, Sequence: sequence, Interface: "eth0"})
		}
	}
	return beats
}

// warned returns what an agent sent in the two minutes before now that drains
// every 5 s, the last time 3 s ago, and warns in each second between, less the
// batches that are missing. Drains have sequences 1, 6, 11, …, 121.
func warned(agent string, missing func(at time.Time, drain bool) bool) []storetest.Beat {
	var beats []storetest.Beat
	sequence := uint64(0)
	for at := now.Add(-123 * time.Second); !at.After(now); at = at.Add(time.Second) {
		sequence++
		drain := sequence%5 == 1
		if missing(at, drain) {
			continue
		}
		b := storetest.Beat{Agent: agent, Time: at, Received: at, Boot: agent, Sequence: sequence, Warning: !drain}
		if drain {
			b.Interface = "eth0"
		}
		beats = append(beats, b)
	}
	return beats
}

func TestBeats(t *testing.T) {
	server := chtest.Start(t)
	fixed := func(d time.Duration) func(time.Time) time.Duration { return func(time.Time) time.Duration { return d } }
	before := func(seconds int) time.Time { return now.Add(-time.Duration(seconds) * time.Second) }
	backlog := func(received time.Time) time.Duration { return time.Minute + 5*now.Sub(received) }
	for _, test := range []struct {
		name    string
		beats   [][]storetest.Beat
		want    time.Duration // of the watermark before now
		late    bool          // agent b
		lost    uint64        // gaps of b
		missing uint64
	}{
		{"agents that are on time", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", fixed(time.Second))}, time.Second, false, 0, 0},
		{"a clock that is two hours slow holds nobody", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", fixed(2*time.Hour))}, 0, true, 0, 0},
		{"an agent that works off what it kept is waited for", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", backlog)}, time.Minute, false, 0, 0},
		{"where all clocks are slow the windows follow them", [][]storetest.Beat{beatsOf("b", fixed(2*time.Hour))}, 2 * time.Hour, true, 0, 0},
		{"a batch that is under way is waited for", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", fixed(0), 20)}, 35 * time.Second, false, 0, 1},
		{"a batch that is long lost is not", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", fixed(0), 3)}, 0, false, 1, 1},
		{"nor are more of an agent that loses them", [][]storetest.Beat{beatsOf("a", fixed(0)), beatsOf("b", fixed(0), 3, 20, 21)}, 0, false, 1, 3},
		{"early warnings move the watermark not at all", [][]storetest.Beat{warned("b", func(time.Time, bool) bool { return false })}, 3 * time.Second, false, 0, 0},
		{"a missing batch among warnings is waited for before the last drain in front", [][]storetest.Beat{warned("b", func(at time.Time, _ bool) bool { return at.Equal(before(1)) })}, 8 * time.Second, false, 0, 1},
		{"a missing drain between warnings is waited for before the drain in front", [][]storetest.Beat{warned("b", func(at time.Time, _ bool) bool { return at.Equal(before(3)) })}, 13 * time.Second, false, 0, 1},
		{
			"a gap behind warnings alone is waited for as if a drain were as long as the others",
			[][]storetest.Beat{warned("b", func(at time.Time, _ bool) bool { return at.Before(before(10)) || at.Equal(before(8)) })}, 14 * time.Second, false, 0, 1,
		},
		{"an agent that warns but drains no more holds nobody", [][]storetest.Beat{beatsOf("a", fixed(0)), warned("b", func(at time.Time, drain bool) bool { return drain && at.After(before(100)) })}, 0, false, 2, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			db := storetest.New(t, server)
			for _, b := range test.beats {
				db.Beats(t, b...)
			}
			beats, err := db.Open(t).Beats(t.Context(), store.DefaultWatermark(now.Add(time.Second)))
			if err != nil {
				t.Fatal(err)
			}
			if got := now.Sub(store.WatermarkOf(beats)); got != test.want {
				t.Errorf("the watermark is %v old, want %v: %+v", got, test.want, beats)
			}
			b := beats[len(beats)-1]
			if b.Agent != "b" || b.Late != test.late || b.LostGaps != test.lost || b.Missing != test.missing {
				t.Errorf("got %+v, want late %v, %d missing, %d gaps given up", b, test.late, test.missing, test.lost)
			}
		})
	}
}
