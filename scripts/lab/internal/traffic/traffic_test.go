package traffic

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

func TestEveryKindOfTrafficFlowsWithoutFailure(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.Build([]netlab.Plan{
		{Name: "watched", Numbers: []byte{10}}, {Name: "client", Numbers: []byte{20, 21, 22, 23}}, {Name: "services", Numbers: []byte{50}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	p := &Player{Seed: 7, Watched: lab.Host("watched"), Client: lab.Host("client"), Services: lab.Host("services")}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	enough := func() bool {
		c := &p.Counts
		return c.Pages.Load() > 20 && c.Queries.Load() > 2 && c.Keystrokes.Load() > 10 && c.Downloads.Load() > 0 && c.Pings.Load() > 2
	}
	for ctx.Err() == nil && !enough() {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !enough() {
		t.Errorf("only %s", &p.Counts)
	}
	if n := p.Counts.Failed.Load(); n != 0 {
		t.Errorf("%d exchanges failed", n)
	}
}

func TestPausesAreSeededAndBounded(t *testing.T) {
	p := pause{median: time.Second, spread: 2, limit: 5 * time.Second}
	one, two := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	below := 0
	for range 10_000 {
		d := p.next(one)
		if d != p.next(two) {
			t.Fatal("the same seed gave two pauses")
		}
		if d < 0 || d > p.limit {
			t.Fatalf("pause of %s", d)
		}
		if d < p.median {
			below++
		}
	}
	if below < 4800 || below > 5200 {
		t.Errorf("%d of 10000 pauses are below the median", below)
	}
}

func TestNamesAreAnsweredAndNoiseIsNot(t *testing.T) {
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	addr := netlab.Prefix4.Addr().Next()
	answer, err := answerName(packed, addr)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	if a, ok := m.Answers[0].Body.(*dnsmessage.AResource); !ok || a.A != addr.As4() || m.ID != 7 {
		t.Errorf("answered %v", m)
	}
	if _, err := answerName(answer, addr); err == nil {
		t.Error("an answer was answered")
	}
	if _, err := answerName([]byte("noise"), addr); err == nil {
		t.Error("noise was answered")
	}
}
