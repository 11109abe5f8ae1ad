package batch

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

func TestDecode(t *testing.T) {
	stored := time.Now().UTC().Truncate(time.Microsecond)
	limits := Limits{MaxAhead: 10 * time.Minute, MaxAge: time.Hour}
	flow := func(start, end time.Time) *ebbwatch.Batch {
		b := &ebbwatch.Batch{Envelope: ebbwatch.Envelope{Agent: "web-1", Boot: "0b5a7e8e-3c1f-4b7a-9d2e-5f60718293a4", Sequence: 1, Time: stored}}
		b.Append(&ebbwatch.Flow{Start: start, End: end, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Sampling: 1})
		return b
	}
	late := flow(stored, stored)
	late.Time = stored.Add(11 * time.Minute)
	long := flow(stored.Add(-time.Minute), stored.Add(-time.Minute))
	long.Duration[0] = 1 << 50
	for name, test := range map[string]struct {
		subject string
		message []byte
		want    Reason // "": accepted
	}{
		"an ordinary batch is accepted":                   {"ebbwatch.flows.v1.web-1", pack(t, flow(stored.Add(-time.Second), stored)), ""},
		"times at both limits are accepted":               {"ebbwatch.flows.v1.web-1", pack(t, flow(stored.Add(-time.Hour), stored.Add(10*time.Minute))), ""},
		"an end beyond the limit is refused":              {"ebbwatch.flows.v1.web-1", pack(t, flow(stored, stored.Add(10*time.Minute+time.Microsecond))), Future},
		"a start beyond the limit is refused":             {"ebbwatch.flows.v1.web-1", pack(t, flow(stored.Add(-time.Hour-time.Microsecond), stored)), Ancient},
		"an envelope from the future is refused":          {"ebbwatch.flows.v1.web-1", pack(t, late), Future},
		"a duration of years is refused":                  {"ebbwatch.flows.v1.web-1", pack(t, long), Future},
		"another agent's name in the envelope is refused": {"ebbwatch.flows.v1.web-2", pack(t, flow(stored, stored)), ForgedAgent},
		"a subject without an agent is refused":           {"ebbwatch.flows.v1.", pack(t, flow(stored, stored)), Subject},
		"a subject of another stream is refused":          {"ebbwatch.flows.v2.web-1", pack(t, flow(stored, stored)), Subject},
		"bytes that are no frame are refused":             {"ebbwatch.flows.v1.web-1", []byte("hello"), Undecodable},
		"a frame of nothing is refused":                   {"ebbwatch.flows.v1.web-1", compress(t, nil), Invalid},
		"a batch of a newer version is refused":           {"ebbwatch.flows.v1.web-1", compress(t, []byte{0x08, 0x7f}), Version},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(limits)
			b, err := d.Decode(test.subject, test.message, stored)
			if test.want == "" {
				if err != nil || b.Len() != 1 {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != test.want {
				t.Errorf("error is %v, want reason %s", err, test.want)
			}
		})
	}
}

func TestARefusalDoesNotSpoilTheNextBatch(t *testing.T) {
	d := NewDecoder(Limits{MaxAhead: time.Hour, MaxAge: 1e6 * time.Hour})
	b := sample()
	message, subject := pack(t, b), ebbwatch.FlowSubject(b.Agent)
	for range 3 {
		if _, err := d.Decode(subject, message[:len(message)/2], b.Time); err == nil {
			t.Fatal("half a message decodes")
		}
		got, err := d.Decode(subject, message, b.Time)
		if err != nil || got.Len() != b.Len() || got.Start[7] != b.Start[7] || !slices.Equal(ebbwatch.UnpackPlain[uint16](nil, got.PlainColumns[ebbwatch.PlainSrcPort], got.Len()), b.SrcPort) {
			t.Fatalf("after a refusal: %v", err)
		}
	}
}
