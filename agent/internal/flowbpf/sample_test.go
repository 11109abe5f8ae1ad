package flowbpf

import (
	"math"
	"testing"
)

func TestSamplingIsUnbiasedAndAccountedFor(t *testing.T) {
	const packets, rate = 400_000, 16
	d := load(t, nil)
	if err := d.Pretend(loopback, false); err != nil {
		t.Fatal(err)
	}
	must(t, d.SetSampling(rate))
	small := ether(typeIP4, ip4{proto: 17}.with(udp(5000, 53, 20)))
	large := ether(typeIP6, ip6{next: 17}.with(udp(5000, 443, 1200)))
	drain(t, d) // the rate holds from here
	for _, f := range [][]byte{small, large} {
		mustRun(t, d, &TestRun{Frame: f, Ifindex: loopback, Repeat: packets})
	}
	entries, totals := drain(t, d)
	tot := sum(totals)
	// A signal can make the kernel repeat more often than asked.
	if tot.Seen.Packets < 2*packets || tot.Skipped.Packets == 0 {
		t.Fatalf("seen %+v, skipped %+v", tot.Seen, tot.Skipped)
	}
	if len(entries) != 2 {
		t.Fatalf("%d entries", len(entries))
	}
	for _, e := range entries {
		if e.Sampling != rate {
			t.Errorf("sampling %d, want %d", e.Sampling, rate)
		}
		got := e.Side[e.FirstSide].Packets
		// Binomial: five standard deviations are a failure in two million runs.
		mean, dev := packets/float64(rate), math.Sqrt(packets/float64(rate)*(1-1/float64(rate)))
		if math.Abs(float64(got)-mean) > 5*dev+1 {
			t.Errorf("%d of %d packets were counted at 1 in %d, want %.0f ± %.0f", got, packets, rate, mean, 5*dev)
		}
	}
	must(t, d.SetSampling(1))
	drain(t, d)
	mustRun(t, d, &TestRun{Frame: small, Ifindex: loopback, Repeat: 100})
	if _, totals := drain(t, d); sum(totals).Skipped.Packets != 0 {
		t.Error("packets are left out at rate 1")
	}
	for _, bad := range []uint32{0, 3, MaxSampling * 2} {
		if d.SetSampling(bad) == nil {
			t.Errorf("rate %d is accepted", bad)
		}
	}
}

// A super-packet that sampling leaves out is as many packets as its segments.
func TestSampledSuperPacketsAreSkippedInFull(t *testing.T) {
	d := load(t, nil)
	must(t, d.SetSampling(MaxSampling))
	frame := ether(typeIP4, ip4{proto: 6}.with(tcp(1, 2, ack, 3000)))
	drain(t, d)
	for range 100 {
		mustRun(t, d, &TestRun{Frame: frame, GSOSegs: 3, GSOSize: 1000})
	}
	_, totals := drain(t, d)
	if tot := sum(totals); tot.Seen.Packets != 300 || tot.Seen.Bytes != uint64(100*(len(frame)+2*54)) {
		t.Errorf("seen %+v", tot.Seen)
	}
}

func TestTimeOfTheProgramsIsEstimated(t *testing.T) {
	d := load(t, nil)
	frame := ether(typeIP4, ip4{proto: 17}.with(udp(5000, 53, 20)))
	const packets = 1_000_000
	mean, err := d.Benchmark(frame, packets, false)
	must(t, err)
	_, totals := drain(t, d)
	got := float64(totals[0].RunNS) / float64(totals[0].Seen.Packets)
	// The clock itself takes its time, and the kernel's mean includes the call.
	if got < 0.2*float64(mean) || got > 5*float64(mean) {
		t.Errorf("%.0f ns a packet are estimated, the kernel measures %v", got, mean)
	}
}
