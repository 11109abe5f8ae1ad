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

// CheckAll reports the first address that cannot be listened on beside those
// before it. It holds them all for a moment, so that the kernel tells: a port on
// one address and on all of them is one too. An empty address is passed over.
func CheckAll(ctx context.Context, ports []Port) error {
	var held []net.Listener
	defer func() {
		for _, ln := range held {
			_ = ln.Close() // nobody has connected
		}
	}()
	keys := make(map[string]string, len(ports)) // of the ports that are held
	for _, p := range ports {
		if p.Address == "" { // a part that serves nothing
			continue
		}
		_, number, err := net.SplitHostPort(p.Address)
		if err != nil {
			return fmt.Errorf("%s: %q is not host:port", p.Key, p.Address)
		}
		ln, err := listen(ctx, p.Address, keys[number] == "")
		if key := keys[number]; key != "" && errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s and %s both want port %s: %s", key, p.Key, number, p.hint())
		}
		if err != nil {
			return p.problem(err)
		}
		held = append(held, ln)
		if number != "0" {
			keys[number] = p.Key
		}
	}
	return nil
}

// Check reports why the address cannot be listened on.
func (p Port) Check(ctx context.Context) error { return CheckAll(ctx, []Port{p}) }

// listen listens on address. If it is to be patient it waits up to a second for
// a process that is just ending.
func listen(ctx context.Context, address string, patient bool) (net.Listener, error) {
	deadline := time.Now().Add(time.Second)
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil || !patient || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return ln, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p Port) problem(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: something else listens on %s: stop it, or %s", ErrTaken, p.Address, p.hint())
	}
	return fmt.Errorf("cannot listen on %s: %w: %s", p.Address, err, p.hint())
}

// hint says how to change the address.
func (p Port) hint() string {
	hint := "change " + p.Key
	if p.Flag != "" {
		hint += " (or " + p.Flag + ")"
	}
	return hint
}
