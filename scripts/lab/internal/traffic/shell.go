package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// A shell session has the shape of SSH: both sides send a banner, exchange keys,
// and then every keystroke is echoed while some commands print a screenful.

const (
	banner      = "SSH-2.0-lab\r\n"
	keyExchange = 1500 // bytes each way
	keystroke   = 36   // bytes of a packet with one key
	screenful   = 0xff // first byte of a keystroke that is answered with a screenful
)

func (p *Player) serveShells(ctx context.Context, group *errgroup.Group) error {
	listeners, err := listenBoth(ctx, p.Watched, ShellPort)
	if err != nil {
		return err
	}
	for _, ln := range listeners {
		group.Go(func() error {
			for {
				conn, err := ln.Accept()
				if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("serve shells: %w", err)
				}
				group.Go(func() error { serveShell(ctx, conn); return nil })
			}
		})
	}
	return nil
}

// serveShell echoes until the other side leaves. Scanners come here too.
func serveShell(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, 4096)
	greeting := make([]byte, len(banner)+keyExchange)
	if _, err := io.WriteString(conn, banner); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // cannot fail on an open socket
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return
	}
	if _, err := conn.Write(buf[:keyExchange]); err != nil {
		return
	}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(conn, buf[:keystroke]); err != nil {
			return
		}
		answer := buf[:keystroke]
		if buf[0] == screenful {
			answer = buf[:2000]
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// shell logs in, types for a while, and leaves.
func (p *Player) shell(source, target netip.Addr) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, dice *rand.Rand) error {
		ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
		defer cancel()
		conn, err := p.Client.Dialer(source)(ctx, "tcp", netip.AddrPortFrom(target, ShellPort).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		buf := make([]byte, 4096)
		if _, err := io.WriteString(conn, banner+string(buf[:keyExchange])); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, buf[:len(banner)+keyExchange]); err != nil {
			return err
		}
		p.Counts.Shells.Add(1)
		keys := pause{median: 180 * time.Millisecond, spread: 0.7, limit: 5 * time.Second}
		for range 20 + dice.IntN(100) {
			if !keys.wait(ctx, dice) {
				return nil // logged out by the end of the day
			}
			answer := keystroke
			buf[0] = 0
			if dice.IntN(12) == 0 {
				buf[0], answer = screenful, 2000
			}
			if _, err := conn.Write(buf[:keystroke]); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, buf[:answer]); err != nil {
				return err
			}
			p.Counts.Keystrokes.Add(1)
		}
		return nil
	}
}
