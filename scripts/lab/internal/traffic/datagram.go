package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"
)

// serveNames answers every query for an address with one.
func (p *Player) serveNames(ctx context.Context, group *errgroup.Group) error {
	for _, addr := range []netip.Addr{p.Services.IPv4[0], p.Services.IPv6[0]} {
		conn, err := p.Services.ListenPacket(ctx, "udp", netip.AddrPortFrom(addr, dnsPort).String())
		if err != nil {
			return fmt.Errorf("serve names: %w", err)
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		group.Go(func() error {
			buf := make([]byte, 1500)
			for {
				n, from, err := conn.ReadFrom(buf)
				if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return nil
				}
				if err != nil {
					continue // an ICMP error of an earlier answer
				}
				if answer, err := answerName(buf[:n], p.Services.IPv4[0]); err == nil {
					_, _ = conn.WriteTo(answer, from) // lost like any datagram
				}
			}
		})
	}
	return nil
}

func answerName(query []byte, addr netip.Addr) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	if len(m.Questions) != 1 || m.Response {
		return nil, errors.New("not a query")
	}
	m.Response, m.RecursionAvailable = true, true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.AResource{A: addr.As4()},
	}}
	return m.Pack()
}

// resolve asks for a handful of names, as a program does that begins some work.
func (p *Player) resolve(ctx context.Context, dice *rand.Rand) error {
	resolver := p.Services.IPv4[0]
	if dice.IntN(2) == 0 {
		resolver = p.Services.IPv6[0]
	}
	conn, err := p.Watched.Dialer(netip.Addr{})(ctx, "udp", netip.AddrPortFrom(resolver, dnsPort).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 1500)
	for range 1 + dice.IntN(4) {
		name, err := dnsmessage.NewName(fmt.Sprintf("host%d.example.", dice.IntN(200)))
		if err != nil {
			return err
		}
		query := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: uint16(dice.Uint32()), RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		}
		packed, err := query.Pack()
		if err != nil {
			return err
		}
		if _, err := conn.Write(packed); err != nil {
			return fmt.Errorf("ask for a name: %w", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Read(buf); err != nil {
			return fmt.Errorf("ask for a name: %w", err)
		}
		p.Counts.Queries.Add(1)
	}
	return nil
}

// ping sends one to five echo requests to the watched host.
func (p *Player) ping(ctx context.Context, dice *rand.Rand) error {
	network, local, target := "ip4:icmp", p.Client.IPv4[0], p.Watched.IPv4[0]
	var kind, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if dice.IntN(2) == 0 {
		network, local, target = "ip6:ipv6-icmp", p.Client.IPv6[0], p.Watched.IPv6[0]
		kind, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var conn *icmp.PacketConn
	if err := p.Client.Do(func() (err error) {
		conn, err = icmp.ListenPacket(network, local.String())
		return err
	}); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer conn.Close()
	id, buf := int(uint16(dice.Uint32())), make([]byte, 1500)
	for seq := range 1 + dice.IntN(5) {
		request, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, 56)}}).Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(request, &net.IPAddr{IP: target.AsSlice()}); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		for { // the socket also sees what is not for it
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
			m, err := icmp.ParseMessage(kind.Protocol(), buf[:n])
			if echo, ok := m.Body.(*icmp.Echo); err == nil && ok && m.Type == reply && echo.ID == id && echo.Seq == seq {
				break
			}
		}
		p.Counts.Pings.Add(1)
		if err := sleep(ctx, time.Second); err != nil {
			return nil
		}
	}
	return nil
}
