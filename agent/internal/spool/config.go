package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Config says where batches wait, and how many.
type Config struct {
	// Dir is the folder, made if it is not there, for one agent alone. "" keeps
	// batches in memory only.
	Dir string `yaml:"dir"`
	// MaxBytes bounds the files in Dir, in bytes. The oldest batches are dropped,
	// and counted, beyond it. The spool also stops growing when less than 5 % of
	// the disk, or 1 GiB, is free.
	MaxBytes int64 `yaml:"max_bytes"`
}

// DefaultConfig returns a spool of 1 GiB in the usual place.
func DefaultConfig() Config {
	return Config{Dir: "/var/lib/ebbwatch/agent/spool", MaxBytes: 1 << 30}
}

// minBytes holds four segments of one batch of the largest size.
const minBytes = 4 * (segmentHeader + maxRecord)

// Validate names the first key that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Dir != "" && !filepath.IsAbs(c.Dir):
		return fmt.Errorf("dir: %q is not an absolute path", c.Dir)
	case c.MaxBytes < minBytes:
		return fmt.Errorf("max_bytes: %d is below %d", c.MaxBytes, minBytes)
	}
	return nil
}

const (
	// maxSegment is where a segment ends; one is dropped as a whole.
	maxSegment = 8 << 20
	// syncEvery bounds how often records are forced to the disk.
	syncEvery = time.Second
)

// Errors that callers decide on.
var (
	// ErrInUse says that another process holds the folder.
	ErrInUse = errors.New("spool is in use by another process")
	// ErrNoRoom says that the disk is so full that not one record may be added.
	ErrNoRoom = errors.New("no room on the disk")
	errClosed = errors.New("spool is not open")
)

// Record is one batch in the spool.
type Record struct {
	ID    string // agent:boot:sequence
	Data  []byte
	Flows int
	// Sent says that the batch was on its way before and the answer is not known:
	// it may be stored already.
	Sent bool

	segment *segment
	offset  int64
}

// Tally is a number of batches, the flow records in them, and their bytes.
type Tally struct{ Batches, Flows, Bytes uint64 }

func (t *Tally) add(o Tally) {
	t.Batches, t.Flows, t.Bytes = t.Batches+o.Batches, t.Flows+o.Flows, t.Bytes+o.Bytes
}

func (t *Tally) sub(o Tally) {
	t.Batches, t.Flows, t.Bytes = t.Batches-o.Batches, t.Flows-o.Flows, t.Bytes-o.Bytes
}

// Stats is what a spool holds and what became of the rest, since New.
type Stats struct {
	Waiting   Tally  // in the spool now
	FileBytes int64  // size of the files
	Written   Tally  // appended
	Dropped   Tally  // for want of room
	Damaged   Tally  // unreadable: torn by the end of a process, or spoiled on the disk; batches and flows are the least it can be
	Foreign   uint64 // files that are not the spool's, left alone
	Errors    uint64 // of the file system
	Usable    bool   // left to the owner to set
}
