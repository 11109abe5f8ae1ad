// Package governor keeps the processor time of the BPF programs within a budget
// by sampling packets.
package governor

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"time"
)

// Config is the budget.
type Config struct {
	// CPUPercent is how much of one core the BPF programs may take on packets. At
	// 60 ns a packet, 50 are some eight million packets a second. Beyond it, packets
	// are sampled 1 in N, and records are scaled by N. 0 never samples.
	CPUPercent float64 `yaml:"cpu_percent"`
	// MaxSampling is the highest N, a power of two.
	MaxSampling uint32 `yaml:"max_sampling"`
}

// DefaultConfig allows half a core.
func DefaultConfig() Config { return Config{CPUPercent: 50, MaxSampling: 1024} }

// maxSampling is what the datapath can do.
const maxSampling = 1 << 16

// Validate reports the first value out of range, by its yaml key.
func (c *Config) Validate() error {
	switch {
	case math.IsNaN(c.CPUPercent) || c.CPUPercent < 0 || c.CPUPercent > 1e6:
		return errors.New("cpu_percent: must be 0 to 1000000, in percent of one core")
	case c.MaxSampling < 1 || c.MaxSampling > maxSampling || c.MaxSampling&(c.MaxSampling-1) != 0:
		return fmt.Errorf("max_sampling: must be a power of two from 1 to %d", maxSampling)
	}
	return nil
}

// Datapath is what is governed: a *flowbpf.Datapath.
type Datapath interface {
	Sampling() uint32
	SetSampling(n uint32) error
}

// Governor moves the sampling rate. It is not safe for concurrent use.
type Governor struct {
	cfg      Config
	datapath Datapath
	log      *slog.Logger
}

// New returns a governor.
func New(cfg Config, datapath Datapath, log *slog.Logger) *Governor {
	return &Governor{cfg: cfg, datapath: datapath, log: log}
}

// Observe is told how long the programs ran during an interval, and sets the
// rate from the next one on.
//
// The rate rises at once by as much as is needed if every packet that is left
// out cost nothing. It falls by one half at a time, and only when the programs
// took less than a quarter of the budget: with half the rate they take twice as
// much at most, so that it does not swing.
func (g *Governor) Observe(run, interval time.Duration) {
	if g.cfg.CPUPercent == 0 || interval <= 0 {
		return
	}
	rate := g.datapath.Sampling()
	next := rate
	switch used := 100 * float64(run) / float64(interval) / g.cfg.CPUPercent; { // 1 is the whole budget
	case used > 1:
		next = min(rate<<bits.Len32(uint32(min(used, maxSampling))), g.cfg.MaxSampling)
		next = max(next, rate) // a rate above the limit is somebody else's wish
	case used < 0.25 && rate > 1:
		next = rate / 2
	}
	if next == rate {
		return
	}
	if err := g.datapath.SetSampling(next); err != nil {
		g.log.Error("sampling rate cannot be set", "rate", next, "error", err)
		return
	}
	g.log.Info("sampling rate changes", "from", rate, "to", next, "program_time", run, "interval", interval, "budget_percent", g.cfg.CPUPercent)
}
