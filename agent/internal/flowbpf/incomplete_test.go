package flowbpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// breakMap lets drains of a generation fail, by an array of another shape in the
// place of its map. It returns what mends it.
func breakMap(t *testing.T, d *Datapath, generation uint32, family int) (mend func()) {
	t.Helper()
	whole := d.inner[generation][family]
	broken, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	d.inner[generation][family] = broken
	return func() {
		d.inner[generation][family] = whole
		if err := broken.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Over the whole story every packet stands in one record and one account, and
// each account balances by itself.
func TestAfterAFailedDrainNothingCountsTwiceOrVanishes(t *testing.T) {
	d := load(t, nil)
	if err := d.Pretend(loopback, false); err != nil {
		t.Fatal(err)
	}
	four := ether(typeIP4, ip4{proto: 17}.with(udp(5000, 53, 20)))
	six := ether(typeIP6, ip6{next: 17}.with(udp(5000, 53, 20)))
	arp := ether(0x0806, make([]byte, 28))
	send := func(times int, frames ...[]byte) {
		for _, f := range frames {
			for range times {
				mustRun(t, d, &TestRun{Frame: f, Ifindex: loopback})
			}
		}
	}
	size := func(n4, n6 int) Counters {
		return Counters{uint64(n4 + n6), uint64(n4*len(four) + n6*len(six))}
	}
	attempt := func() (visited Counters, account Totals, err error) {
		t.Helper()
		totals, err := d.Drain(func(group []Entry) {
			for i := range group {
				visited.Add(group[i].Side[0].Counters)
				visited.Add(group[i].Side[1].Counters)
			}
		})
		for i := range totals {
			if !totals[i].Balanced() {
				t.Errorf("totals do not balance: %+v", totals[i])
			}
		}
		return visited, sum(totals), err
	}

	first := d.generation
	mend := breakMap(t, d, first, family6)
	send(3, four, six, arp)
	visited, account, err := attempt()
	if err == nil {
		t.Fatal("the drain did not fail")
	}
	if visited != size(3, 0) || account != (Totals{Seen: size(3, 0), Recorded: size(3, 0)}) {
		t.Errorf("failed drain: visited %+v, account %+v", visited, account)
	}

	// The other generation is whole. An interface that goes meanwhile keeps its
	// slot, because the first generation still has totals of it.
	send(5, four)
	if err := d.Detach(here(loopback)); err != nil {
		t.Fatal(err)
	}
	visited, account, err = attempt()
	if err != nil || visited != size(5, 0) || account != (Totals{Seen: size(5, 0), Recorded: size(5, 0)}) {
		t.Errorf("the drain between: visited %+v, account %+v, %v", visited, account, err)
	}
	if slot, kept := loopbackSlot(d); !kept {
		t.Error("the slot of the interface is free too early")
	} else if !d.points.table[slot].retired {
		t.Error("the slot of the interface is not to be freed")
	}

	// Fails again: what came since is told, and the rest still waits.
	send(2, four) // no longer attached: slot 0, another account
	visited, account, err = attempt()
	if err == nil || visited != size(2, 0) || account != (Totals{Seen: size(2, 0), Recorded: size(2, 0)}) {
		t.Errorf("failed again: visited %+v, account %+v, %v", visited, account, err)
	}
	mend()
	if _, account, err = attempt(); err != nil || account != (Totals{}) {
		t.Errorf("a quiet interval: account %+v, %v", account, err)
	}
	send(1, four)
	visited, account, err = attempt()
	other := Counters{3, uint64(3 * len(arp))}
	seen := size(1, 3)
	seen.Add(other)
	if err != nil || visited != size(1, 3) || account != (Totals{Seen: seen, Recorded: size(1, 3), Other: other, Reasons: [reasons]uint64{3}}) {
		t.Errorf("mended: visited %+v, account %+v, %v; want %+v recorded and %+v other", visited, account, err, size(1, 3), other)
	}
	if _, kept := loopbackSlot(d); kept {
		t.Error("the slot of the interface is not freed")
	}
}

// loopbackSlot returns the slot of the loopback interface.
func loopbackSlot(d *Datapath) (slot int, ok bool) {
	for slot := 1; slot < len(d.points.table); slot++ {
		if d.points.table[slot].place == here(loopback) {
			return slot, true
		}
	}
	return 0, false
}
