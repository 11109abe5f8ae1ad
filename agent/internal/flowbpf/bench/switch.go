package main

import (
	"encoding/binary"
	"errors"
	"log/slog"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// switches are the features that can be turned off, and what is measured without them.
func switches() []struct {
	name string
	off  func(*flowbpf.Config)
} {
	return []struct {
		name string
		off  func(*flowbpf.Config)
	}{
		{"all", func(*flowbpf.Config) {}},
		{"no_health", func(c *flowbpf.Config) { c.Health = false }},
		{"no_owner", func(c *flowbpf.Config) { c.Owner = false }},
		{"no_hints", func(c *flowbpf.Config) { c.Hints = flowbpf.Hints{} }},
		{"plain", func(c *flowbpf.Config) {
			c.Health, c.Owner, c.Hints, c.NoFeatures = false, false, flowbpf.Hints{}, true
		}},
	}
}

func switchFigures() (figures []figure) {
	for _, s := range switches() {
		figures = append(figures, figure{Name: "switch_tcp_hot_" + s.name + "_ns", Unit: "ns/packet"}, figure{Name: "switch_new_dns_flow_" + s.name + "_ns", Unit: "ns/packet"})
	}
	return figures
}

// measureSwitches measures, in turns, what each feature costs a packet of a hot
// flow and the first packet of a DNS query, whose payload is handed on: the
// difference between the figures of "all" and of the datapath without it.
func measureSwitches(_ *flowbpf.Datapath, rounds int) (samples [][]float64, err error) {
	var paths []*flowbpf.Datapath
	defer func() {
		for _, d := range paths {
			err = errors.Join(err, d.Close())
		}
	}()
	for _, s := range switches() {
		cfg := flowbpf.DefaultConfig()
		s.off(&cfg)
		d, err := flowbpf.Load(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		paths = append(paths, d)
		if err := d.Pretend(1, false); err != nil {
			return nil, err
		}
	}
	samples = make([][]float64, 2*len(paths))
	for range rounds {
		for i, d := range paths {
			ns, err := d.Benchmark(hotTCP(), 50_000, false)
			if err != nil {
				return nil, err
			}
			samples[2*i] = append(samples[2*i], float64(ns.Nanoseconds()))
			query, err := newQueries(d)
			if err != nil {
				return nil, err
			}
			samples[2*i+1] = append(samples[2*i+1], query)
			if err := discard(d); err != nil {
				return nil, err
			}
		}
	}
	return samples, nil
}

// newQueries runs DNS queries of as many flows, and returns the mean nanoseconds of one.
func newQueries(d *flowbpf.Datapath) (float64, error) {
	const flows = 1000
	frame := hotUDP()
	binary.BigEndian.PutUint16(frame[36:], 53)
	sum := 0.0
	for i := range uint32(flows) {
		binary.BigEndian.PutUint32(frame[30:], 0x0a000000+i)
		ns, err := d.Benchmark(frame, 1, false)
		if err != nil {
			return 0, err
		}
		sum += float64(ns.Nanoseconds())
	}
	return sum / flows, d.Hints(func(*flowbpf.Hint) {})
}
