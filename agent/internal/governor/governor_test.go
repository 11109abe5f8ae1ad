package governor

import (
	"log/slog"
	"testing"
	"time"
)

type datapath uint32

func (d *datapath) Sampling() uint32 { return uint32(*d) }

func (d *datapath) SetSampling(n uint32) error {
	*d = datapath(n)
	return nil
}

func TestRateFollowsTheProgramsTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget float64
		rate   uint32
		run    time.Duration // of a second
		want   uint32
	}{
		{"within the budget nothing changes", 50, 1, 400 * time.Millisecond, 1},
		{"a little too much halves what is counted", 50, 1, 600 * time.Millisecond, 2},
		{"nine times too much needs one in sixteen", 10, 1, 900 * time.Millisecond, 16},
		{"it rises from where it is", 10, 4, 150 * time.Millisecond, 8},
		{"never above the limit", 1, 512, 20 * time.Second, 1024},
		{"half the budget is no reason to count more", 50, 8, 250 * time.Millisecond, 8},
		{"below a quarter of it, it falls by a half", 50, 8, 100 * time.Millisecond, 4},
		{"not below every packet", 50, 1, 0, 1},
		{"without a budget it never moves", 0, 1, 10 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.CPUPercent = c.budget
			d := datapath(c.rate)
			New(cfg, &d, slog.New(slog.DiscardHandler)).Observe(c.run, time.Second)
			if uint32(d) != c.want {
				t.Errorf("1 in %d, want 1 in %d", d, c.want)
			}
		})
	}
}

// A load of constant packets costs fixed/1 when all are counted, and a part of
// that for a packet that is left out.
func TestRateSettlesUnderASteadyLoad(t *testing.T) {
	const budget = 10
	for _, load := range []float64{0.05, 0.2, 0.5, 1.5} { // cores, unsampled
		for _, skip := range []float64{0, 0.1, 0.3} { // cost of a packet left out against one counted
			cfg := DefaultConfig()
			cfg.CPUPercent = budget
			d := datapath(1)
			g := New(cfg, &d, slog.New(slog.DiscardHandler))
			changes := 0
			for range 50 {
				before := d
				used := load * (skip + (1-skip)/float64(d))
				g.Observe(time.Duration(used*float64(time.Second)), time.Second)
				if d != before {
					changes++
				}
			}
			if changes > 10 { // to the limit at most, one doubling at a time
				t.Errorf("load %v, skip %v: %d changes, the last to 1 in %d: it swings", load, skip, changes, d)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Config{{CPUPercent: -1, MaxSampling: 1}, {MaxSampling: 0}, {MaxSampling: 3}, {MaxSampling: 1 << 17}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
