package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// entry is a line of the fleet's journal, as agent/internal/fleettest writes it.
type entry struct {
	Agent                         uint16
	Name, Boot                    string
	Sequence, First, Flows, Bytes uint64
	Made                          time.Time
	Copy                          bool
	Lost                          map[string]uint64
}

// agentRun is one run of an agent.
type agentRun struct{ agent, boot string }

// sent is what the fleet says about itself.
type sent struct {
	batches []entry
	copies  uint64
}

// collectSent ends the fleet, which delivers everything first, and reads its journal.
func (p *play) collectSent(ctx context.Context) (*sent, error) {
	progress("waiting for the agents to deliver everything")
	p.fleet.CloseInput()
	select {
	case <-p.fleet.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if code := p.fleet.ExitCode(); code != 0 {
		return nil, fmt.Errorf("the fleet ended with status %d: %s", code, p.fleet.Output())
	}
	f, err := os.Open(p.journal())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s sent
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var e entry
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return &s, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what was sent: %w", err)
		}
		for what, count := range e.Lost {
			if !p.power || !strings.HasPrefix(what, "spool_damaged_") { // what a power cut tore is looked for among the rest
				return nil, fmt.Errorf("an agent gave up batches, so that nothing can be compared: %s %d", what, count)
			}
		}
		switch {
		case e.Copy:
			s.copies++
		case e.Flows > 0:
			s.batches = append(s.batches, e)
		}
	}
}

// address returns the src_ip of a batch's flow record of that number; it has an
// address of its own, see agent.next of the fleet.
func (e *entry) address(number uint64) [16]byte {
	src := [16]byte{0: 0xfd}
	binary.BigEndian.PutUint16(src[6:], e.Agent)
	binary.BigEndian.PutUint64(src[8:], number)
	return src
}

// missing returns the batches of which flow records are not stored, and how many.
func (p *play) missing(ctx context.Context, batches []entry) (map[*entry]uint64, error) {
	rows, err := p.clickhouse.Conn.Query(ctx, "SELECT DISTINCT src_ip FROM "+database+".flows")
	if err != nil {
		return nil, fmt.Errorf("look for what is missing: %w", err)
	}
	defer rows.Close()
	there := make(map[[16]byte]bool)
	for rows.Next() {
		var ip net.IP
		if err := rows.Scan(&ip); err != nil {
			return nil, fmt.Errorf("look for what is missing: %w", err)
		}
		there[[16]byte(ip.To16())] = true
	}
	missing := make(map[*entry]uint64)
	for i := range batches {
		e := &batches[i]
		for n := range e.Flows {
			if !there[e.address(e.First+n)] {
				missing[e]++
			}
		}
		if lost := missing[e]; lost > 0 && lost < e.Flows {
			progress("of the %d flow records of batch %d of %s, %d are missing", e.Flows, e.Sequence, e.Name, lost)
		}
	}
	return missing, rows.Err()
}
