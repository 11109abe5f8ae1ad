package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// smallMap is too small for the scan.
const smallMap = 1000

// measureScan sends a scan of 20,000 ports through the default map and through
// a small one: what part of its packets and bytes stands in records or in the
// overflow of the scanner, and by how much the number of its targets is off: the
// worst of all rounds.
func measureScan(d *flowbpf.Datapath, rounds int) ([][]float64, error) {
	small, err := other(func(c *flowbpf.Config) { c.MaxFlows = smallMap })
	if err != nil {
		return nil, err
	}
	var samples [][]float64
	for _, d := range []*flowbpf.Datapath{d, small} {
		least, wrong := math.Inf(1), 0.0
		for round := range rounds {
			accounted, off, err := scan(d, byte(round))
			if err != nil {
				return nil, errors.Join(err, small.Close())
			}
			least, wrong = min(least, accounted), max(wrong, off)
		}
		samples = append(samples, []float64{least}, []float64{wrong})
	}
	return samples, small.Close()
}

// other loads a second datapath, for a comparison.
func other(change func(*flowbpf.Config)) (*flowbpf.Datapath, error) {
	cfg := flowbpf.DefaultConfig()
	change(&cfg)
	d, err := flowbpf.Load(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return nil, err
	}
	return d, d.Pretend(1, false)
}

// scan sends SYNs from 10.0.0.1 to 20,000 ports of a host of its own for each
// round, whose sketches are therefore independent.
func scan(d *flowbpf.Datapath, host byte) (accountedPercent, errorPercent float64, err error) {
	const ports = 20_000
	frame := hotTCP()
	frame[47], frame[33] = 2, 2+host // SYN, and the last byte of the target's address
	for port := range uint16(ports) {
		binary.BigEndian.PutUint16(frame[36:], port)
		if _, err := d.Benchmark(frame, 1, false); err != nil {
			return 0, 0, err
		}
	}
	var accounted flowbpf.Counters
	if _, err := d.Drain(func(group []flowbpf.Entry) {
		for i := range group {
			accounted.Add(group[i].Side[0].Counters)
		}
	}); err != nil {
		return 0, 0, err
	}
	for _, s := range d.DrainedSources() {
		if s.Addr == netip.AddrFrom4([4]byte{10, 0, 0, 1}) {
			accounted.Add(s.Overflow)
			errorPercent = 100 * math.Abs(float64(s.Targets)/ports-1)
			part := min(float64(accounted.Packets)/ports, float64(accounted.Bytes)/float64(ports*len(frame)))
			return 100 * part, errorPercent, nil
		}
	}
	return 0, 0, fmt.Errorf("the scanner is not among %d sources", len(d.DrainedSources()))
}

// measureFeatures runs one hot flow through a datapath with features of early
// warning and one without, in turns: the difference is their cost.
func measureFeatures(d *flowbpf.Datapath, rounds int) ([][]float64, error) {
	without, err := other(func(c *flowbpf.Config) { c.NoFeatures = true })
	if err != nil {
		return nil, err
	}
	const repeat = 50_000
	var samples []float64
	for range rounds {
		var ns [2]float64
		for i, d := range []*flowbpf.Datapath{d, without} {
			mean, err := d.Benchmark(hotTCP(), repeat, false)
			if err != nil {
				return nil, errors.Join(err, without.Close())
			}
			ns[i] = float64(mean.Nanoseconds())
		}
		samples = append(samples, ns[0]-ns[1])
	}
	return [][]float64{samples}, errors.Join(discard(d), without.Close())
}

// measureOverflow floods a full map, once from one address and once from as
// many as there are packets: not counting those that became sources, which are
// so many at most in an interval, they find no room among these.
func measureOverflow(_ *flowbpf.Datapath, rounds int) ([][]float64, error) {
	d, err := other(func(c *flowbpf.Config) { c.MaxFlows = 1 })
	if err != nil {
		return nil, err
	}
	const packets, warm = 50_000, 10_000
	samples := make([][]float64, 2)
	for range min(rounds, 7) {
		for i, spoofed := range []bool{false, true} {
			frame := hotTCP()
			frame[47] = 2 // SYN
			var spent float64
			for n := range uint32(warm + packets) {
				if spoofed {
					binary.BigEndian.PutUint32(frame[26:], 0x0b000000+n)
				} else {
					binary.BigEndian.PutUint16(frame[36:], uint16(n))
				}
				ns, err := d.Benchmark(frame, 1, false)
				if err != nil {
					return nil, errors.Join(err, d.Close())
				}
				if n >= warm {
					spent += float64(ns.Nanoseconds())
				}
			}
			samples[i] = append(samples[i], spent/packets)
			if err := discard(d); err != nil {
				return nil, errors.Join(err, d.Close())
			}
		}
	}
	return samples, d.Close()
}
