package drain_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/drain"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
)

// alarm warns at every other call.
type alarm struct{ calls, accounts int }

func (a *alarm) Warn(b *ebbwatch.Batch, _, _ time.Duration) bool {
	a.calls++
	if a.calls%2 == 0 {
		return false
	}
	b.Features = append(b.Features, ebbwatch.Feature{Interface: "eth0", Seen: ebbwatch.Counter{Packets: 1, Bytes: 60}})
	return true
}

func (a *alarm) Account(b *ebbwatch.Batch, _ time.Duration) {
	a.accounts++
	b.Sources = append(b.Sources, ebbwatch.Source{Flows: uint64(a.accounts)})
}

func TestWarningsComeBetweenDrainsInOneSequence(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Second} {
		t.Run(interval.String(), func(t *testing.T) {
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			publisher, err := publish.New(publish.Config{Agent: "host-a", QueueMaxBytes: 1 << 20}, &nats.Conn{}, prometheus.NewRegistry(), log)
			if err != nil {
				t.Fatal(err)
			}
			out, bell := &sink{Publisher: publisher}, &alarm{}
			synctest.Test(t, func(t *testing.T) {
				d := &drain.Drainer{Interval: 4500 * time.Millisecond, Datapath: &script{}, Table: conn.NewTable(conn.DefaultConfig(), interfaces{}),
					Sink: out, Interfaces: interfaces{}, Log: log, Warner: bell, WarnInterval: interval}
				d.Register(prometheus.NewRegistry())
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
				defer cancel()
				if err := d.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			// Warnings at 1, 3, 5, 7, 9 s; drains at 4.5, 9 and 10 s. The one and the
			// other at 9 s are in any order.
			want, warnings, drains := 3, 0, 0
			if interval > 0 {
				want = 3 + 5
			}
			var decoder ebbwatch.Decoder
			for i, m := range out.messages {
				var b ebbwatch.Batch
				if err := decoder.Decode(m.Data, &b); err != nil {
					t.Fatal(err)
				}
				if b.Sequence != uint64(i+1) || b.Len() != 0 {
					t.Errorf("message %d: sequence %d, %d flows", i, b.Sequence, b.Len())
				}
				switch {
				case len(b.Features) == 1 && len(b.Sources) == 0 && b.IntervalMS == 0:
					warnings++
				case len(b.Features) == 0 && len(b.Sources) == 1:
					drains++
				default:
					t.Errorf("message %d: %+v", i, b.Envelope)
				}
			}
			if len(out.messages) != want || drains != 3 || warnings != want-3 {
				t.Errorf("%d messages, %d warnings, %d drains", len(out.messages), warnings, drains)
			}
		})
	}
}
