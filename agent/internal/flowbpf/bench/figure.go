package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// figure is one line of the output.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// group is figures that are measured together; measure returns the samples of each.
type group struct {
	figures []figure
	measure func(d *flowbpf.Datapath, rounds int) ([][]float64, error)
}

func (g *group) has(prefix string) bool {
	return slices.ContainsFunc(g.figures, func(f figure) bool { return strings.HasPrefix(f.Name, prefix) })
}

func groups() []group {
	return []group{
		{[]figure{
			{Name: "datapath_empty_ns", Unit: "ns/packet"},
			{Name: "datapath_tcp_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_tcp6_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_udp_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_options_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_qinq_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_vxlan_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_geneve_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_gre_hot_ns", Unit: "ns/packet"},
			{Name: "datapath_ipip_hot_ns", Unit: "ns/packet"},
		}, measureHot},
		{[]figure{
			{Name: "datapath_new_flow_ns", Unit: "ns/packet"},
			{Name: "drain_ns_per_flow", Unit: "ns/flow"},
			{Name: "drain_wait_ns", Unit: "ns/drain"},
		}, measureFlows},
		{[]figure{{Name: "datapath_features_ns", Unit: "ns/packet"}}, measureFeatures},
		{switchFigures(), measureSwitches},
		{[]figure{
			{Name: "datapath_overflow_ns", Unit: "ns/packet"},
			{Name: "datapath_overflow_spoofed_ns", Unit: "ns/packet"},
		}, measureOverflow},
		{[]figure{
			{Name: "scan_20k_accounted_percent", Unit: "percent"},
			{Name: "scan_20k_targets_error_percent", Unit: "percent"},
			{Name: "scan_20k_small_map_accounted_percent", Unit: "percent"},
			{Name: "scan_20k_small_map_targets_error_percent", Unit: "percent"},
		}, measureScan},
		{[]figure{{Name: "datapath_map_bytes", Unit: "bytes"}}, func(d *flowbpf.Datapath, _ int) ([][]float64, error) {
			return [][]float64{{float64(d.MapBytes())}}, nil
		}},
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// measureHot runs each frame on a flow that exists, in turns with the empty program.
func measureHot(d *flowbpf.Datapath, rounds int) ([][]float64, error) {
	const repeat = 50_000 // some milliseconds: short enough to fit between two ticks of a busy host
	frames := [][]byte{hotTCP(), hotTCP(), hotTCP6(), hotUDP(), hotOptions(), hotQinQ(), hotVXLAN(), hotGeneve(), hotGRE(), hotIPIP()}
	samples := make([][]float64, len(frames))
	for range rounds {
		for i, frame := range frames {
			ns, err := d.Benchmark(frame, repeat, i == 0)
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], float64(ns.Nanoseconds()))
		}
	}
	return samples, discard(d)
}

func discard(d *flowbpf.Datapath) error {
	_, err := d.Drain(func([]flowbpf.Entry) {})
	return err
}

// threadTime is the processor time of this thread, in the kernel and outside:
// what else the host does, and the wait for the grace period, is not in it.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // cannot happen: the clock exists since Linux 2.6
	}
	return time.Duration(ts.Nano())
}

// measureFlows fills the map with distinct flows, one SYN each, and drains it
// on this thread.
func measureFlows(d *flowbpf.Datapath, rounds int) ([][]float64, error) {
	const flows = 50_000
	samples := make([][]float64, 3)
	for range min(rounds, 7) {
		var spent time.Duration
		frame := hotTCP()
		frame[47] = 2 // SYN
		for i := range uint32(flows) {
			binary.BigEndian.PutUint32(frame[30:], 0x0a000000+i)
			ns, err := d.Benchmark(frame, 1, false)
			if err != nil {
				return nil, err
			}
			spent += ns
		}
		visited := 0
		start := threadTime()
		if _, err := d.Drain(func([]flowbpf.Entry) { visited++ }); err != nil {
			return nil, err
		}
		took := threadTime() - start
		if visited != flows {
			return nil, fmt.Errorf("drained %d flows, want %d", visited, flows)
		}
		samples[0] = append(samples[0], float64(spent.Nanoseconds())/flows)
		samples[1] = append(samples[1], float64(took.Nanoseconds())/flows)
		samples[2] = append(samples[2], float64(d.LastWait().Nanoseconds()))
	}
	return samples, nil
}
