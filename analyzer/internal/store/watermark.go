package store

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// WatermarkQuery says which coverage rows count for a watermark.
type WatermarkQuery struct {
	Now        time.Time
	Settle     time.Duration // rows received within this time before Now may not be committed yet, so they do not count
	StaleAfter time.Duration // an agent that is silent for this long while others are not does not hold the rest
}

// DefaultWatermark returns the query that the scheduler uses unless configured otherwise.
func DefaultWatermark(now time.Time) WatermarkQuery {
	return WatermarkQuery{Now: now, Settle: time.Second, StaleAfter: 15 * time.Second}
}

// Watermark returns the time up to which the data of every live agent is
// stored, the zero time if there is no agent. See Beats and WatermarkOf.
func (s *Store) Watermark(ctx context.Context, q WatermarkQuery) (time.Time, error) {
	beats, err := s.Beats(ctx, q)
	if err != nil {
		return time.Time{}, wrap("read watermark", err)
	}
	return WatermarkOf(beats), nil
}

// NextData returns the end of the first drain interval after t, the zero time
// if there is none: the scheduler passes over the time in which no agent ran.
func (s *Store) NextData(ctx context.Context, t time.Time) (time.Time, error) {
	var (
		next time.Time
		n    uint64
	)
	err := s.queryRow(ctx, "SELECT min(time), count() FROM coverage WHERE "+isDrain+" AND time > "+at("after"), params{"after": t}, &next, &n)
	if err != nil || n == 0 {
		return time.Time{}, wrap("find next data", err)
	}
	return next.UTC(), nil
}

// address scans an IPv6 column; String prints IPv4 addresses as such.
type address struct{ netip.Addr }

// Scan implements sql.Scanner.
func (a *address) Scan(src any) error {
	switch v := src.(type) {
	case net.IP:
		ip, _ := netip.AddrFromSlice(v)
		a.Addr = ip.Unmap()
	case netip.Addr:
		a.Addr = v.Unmap()
	}
	return nil
}
