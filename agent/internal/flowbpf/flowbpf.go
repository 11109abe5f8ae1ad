// Package flowbpf owns the BPF datapath: it loads the programs of bpf/,
// attaches them to interfaces, and drains what they counted.
package flowbpf

import (
	"errors"
	"fmt"
	"log/slog"
)

// errTODO marks what the datapath cannot do yet.
var errTODO = errors.New("not implemented yet")

// Datapath is a loaded set of programs and maps. Attach, Detach, Drain, Full
// and MapBytes may be called from several goroutines; Close must be the last call.
type Datapath struct {
	cfg Config
	log *slog.Logger
}

// Load loads programs and maps into the kernel; nothing is attached yet.
// It needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or root.
func Load(cfg Config, log *slog.Logger) (*Datapath, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("load datapath: %w", err)
	}
	return &Datapath{cfg: cfg, log: log}, nil
}

// Close detaches everything and frees programs and maps.
func (d *Datapath) Close() error { return nil }

// Attach hooks both directions of the interface. It returns ErrAttached if it
// is attached already, and ErrTooMany beyond MaxInterfaces.
func (d *Datapath) Attach(ifindex int) error { return errTODO }

// Detach unhooks the interface. What it counted until now is part of the next
// drain. Detaching what is not attached, or is gone, is no error.
func (d *Datapath) Detach(ifindex int) error { return nil }

// Mode returns the attach mechanism in use: tcx or tc.
func (d *Datapath) Mode() AttachMode { return d.cfg.Attach }

// MapBytes returns the kernel memory that the maps take when full, in bytes.
func (d *Datapath) MapBytes() uint64 { return 0 }

// Full reports whether the active buffer has refused a flow since the last
// drain. It costs a memory read.
func (d *Datapath) Full() bool { return false }

// Drain ends the interval: it swaps the buffers, waits until no CPU writes
// into the old one, calls visit once for each conversation in it, in no
// particular order, and returns the account of every attach point. The Entry
// belongs to Drain and is overwritten after visit returns.
//
// After an error the interval's entries that were not visited are lost and the
// totals say so: they do not balance.
func (d *Datapath) Drain(visit func(*Entry)) ([]Totals, error) { return nil, errTODO }

// Errors that callers decide on.
var (
	ErrAttached = errors.New("interface is attached already")
	ErrTooMany  = errors.New("too many interfaces attached")
)
