package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Entry is a line of the journal: a batch that an agent made, or that it published
// a batch once more, or what it gave up in a run.
type Entry struct {
	Agent    int               `json:"agent"`
	Name     string            `json:"name"`
	Boot     string            `json:"boot,omitempty"`
	Sequence uint64            `json:"sequence,omitempty"` // from 1 in each run
	First    uint64            `json:"first,omitempty"`    // number of the first flow record, see agent.next
	Flows    uint64            `json:"flows,omitempty"`
	Bytes    uint64            `json:"bytes,omitempty"`
	Made     time.Time         `json:"made,omitzero"`
	Copy     bool              `json:"copy,omitempty"`
	Lost     map[string]uint64 `json:"lost,omitempty"` // by counter
}

// journal is safe for concurrent use.
type journal struct{ *os.File }

// openJournal opens the journal to go on with it. last becomes the number of the
// last flow record of each agent that is in it.
func openJournal(path string, last map[int]uint64) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var e Entry
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return &journal{f}, nil
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		last[e.Agent] = max(last[e.Agent], e.First+e.Flows-min(e.Flows, 1))
	}
}

func (j *journal) note(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.Write(append(line, '\n')) // in one piece, as it is appended
	return err
}
