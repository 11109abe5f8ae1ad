package flowbpf

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// randomFlow has any of its words: all of them and none, too.
func randomFlow(rnd *rand.Rand) (f flow) {
	share := rnd.IntN(11)
	words := (*[flowWords]uint64)(unsafe.Pointer(&f))
	for i := range words {
		if rnd.IntN(10) < share {
			words[i] = rnd.Uint64()
		}
	}
	return f
}

func TestArenaKeepsEveryWord(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	a := newArena()
	for _, n := range []int{10_000, 100, 30_000} { // memory is used again
		a.reset()
		var keys []key6
		var flows []flow
		for range n {
			k, f := key6{A: [2]uint64{rnd.Uint64(), 0}, B: [2]uint64{0, rnd.Uint64()}}, randomFlow(rnd)
			put(&a, &k, &f)
			keys, flows = append(keys, k), append(flows, f)
		}
		i := 0
		for _, chunk := range a.chunks[:a.used] {
			for at := 0; at < len(chunk); i++ {
				var f flow
				unpack[key6](chunk[at:], &f)
				if f != flows[i] || *recordKey[key6](chunk[at:]) != keys[i] {
					t.Fatalf("record %d is %+v, want %+v", i, f, flows[i])
				}
				at += recordWords[key6](chunk[at:])
			}
		}
		if i != n || a.records != n {
			t.Errorf("%d records, %d counted, want %d", i, a.records, n)
		}
	}
}

// Entries of one conversation come together, those of CPUs merged.
func TestArenaGathersConversations(t *testing.T) {
	const cpus, slots = 4, 3
	rnd := rand.New(rand.NewPCG(3, 4))
	a := newArena()
	for _, conversations := range []uint32{0, 1, 20_000, 300} {
		a.reset()
		var entries []key4
		for c := range conversations {
			for i := range uint32(1 + rnd.IntN(cpus*slots)) {
				entries = append(entries, key4{A: 1 + c, B: 7, Rest: objects.FlowEbbRest{Place: i%slots<<placeSlot | i/slots, Tags: 17}})
			}
		}
		type member struct{ conversation, slot uint32 }
		want := make(map[member]uint64) // packets
		rnd.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		for i := range entries {
			f := flow{FirstNs: 1 + rnd.Uint64N(1000)}
			f.Side[1].Packets = rnd.Uint64N(10)
			want[member{entries[i].A, entries[i].Rest.Place >> placeSlot}] += f.Side[1].Packets
			put(&a, &entries[i], &f)
		}
		chain(&a, plain4)
		visited := make(map[netip.Addr]bool)
		visitChained(&a, plain4, (*Entry).setKey4, func(group []Entry) {
			if visited[group[0].A] {
				t.Fatalf("%v is visited twice", group[0].A)
			}
			visited[group[0].A] = true
			for i := range group {
				e := &group[i]
				address := e.A.As4()
				m := member{binary.NativeEndian.Uint32(address[:]), e.slot}
				if packets, ok := want[m]; !ok || packets != e.Side[1].Packets || e.A != group[0].A {
					t.Fatalf("%+v has %d packets, want %d (%v) in one group", m, e.Side[1].Packets, packets, ok)
				}
				delete(want, m)
			}
		})
		if len(want) != 0 || len(visited) != int(conversations) {
			t.Errorf("%d members missing, %d conversations, want %d", len(want), len(visited), conversations)
		}
	}
}

// A flood of tunnels between the same endpoints must not take time that grows
// with its square.
func TestLargeGroupsAreVisitedInParts(t *testing.T) {
	a := newArena()
	a.reset()
	const members = 10*maxGroup + 1
	for i := range uint32(members) {
		put(&a, &key4{A: 1, B: 2, Rest: objects.FlowEbbRest{Tags: 17, Tunnel: i}}, &flow{FirstNs: 1})
	}
	chain(&a, plain4)
	seen := make(map[uint32]bool)
	visitChained(&a, plain4, (*Entry).setKey4, func(group []Entry) {
		if len(group) == 0 || len(group) > maxGroup {
			t.Fatalf("a group of %d", len(group))
		}
		for i := range group {
			seen[group[i].TunnelID] = true
		}
	})
	if len(seen) != members {
		t.Errorf("%d tunnels, want %d", len(seen), members)
	}
}
