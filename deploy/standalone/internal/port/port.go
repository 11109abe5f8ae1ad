// Package port checks that an address can be listened on before the part that
// needs it starts, and says which key to change if not.
package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// ErrTaken is wrapped when another process listens on the address.
var ErrTaken = errors.New("port is taken")

// Port is an address that a part will listen on, and how to change it.
type Port struct {
	Address string // host:port
	Key     string // of the configuration
	Flag    string // of the command, "" if there is none
}

// Loopback returns the address of a port on 127.0.0.1.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Check reports why the address cannot be listened on. It waits up to a second
// for a process that is just ending.
func (p Port) Check(ctx context.Context) error {
	deadline := time.Now().Add(time.Second)
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Address)
		if err == nil {
			return ln.Close()
		}
		hint := "change " + p.Key
		if p.Flag != "" {
			hint += " (or " + p.Flag + ")"
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("cannot listen on %s: %w: %s", p.Address, err, hint)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: something else listens on %s: stop it, or %s", ErrTaken, p.Address, hint)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
