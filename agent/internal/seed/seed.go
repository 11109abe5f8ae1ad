// Package seed lists the TCP connections that exist before the agent sees a
// packet of theirs, and tells which side opened each.
//
// The evidence is the kernel's, never a port number. An accepted socket is a
// clone of its listener and still has that one's backlog, and a socket that
// connected has had its own SYN acknowledged, one sequence number more than it
// sent data (RFC 9293 3.4): tcp_sock's bytes_acked has it on that side only.
// Where the two contradict each other, or say nothing, the opener is unknown.
package seed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Opener is the side of a connection that sent the first SYN.
type Opener uint8

// The openers.
const (
	OpenerUnknown Opener = iota
	OpenerLocal
	OpenerRemote
)

// String returns "unknown", "local" or "remote".
func (o Opener) String() string {
	switch o {
	case OpenerLocal:
		return "local"
	case OpenerRemote:
		return "remote"
	default:
		return "unknown"
	}
}

// Connection is one TCP socket, as seen from the host that has it. Both ends of
// a connection over loopback are listed.
type Connection struct {
	Local, Remote netip.AddrPort // never IPv4-mapped, without zone
	State         uint8          // the kernel's number: 1 is ESTABLISHED (include/net/tcp_states.h)
	Opener        Opener
}

// Lister lists connections. Make it with Open; it is safe for concurrent use.
type Lister struct {
	objs objects.SeedObjects
	iter *link.Iter
}

// Open loads the iterator over TCP sockets. It needs CAP_BPF and CAP_PERFMON,
// and a kernel with BTF of itself.
func Open() (*Lister, error) {
	l := &Lister{}
	if err := objects.LoadSeedObjects(&l.objs, nil); err != nil {
		return nil, fmt.Errorf("load iterator over TCP sockets: %w", err)
	}
	var err error
	if l.iter, err = link.AttachIter(link.IterOptions{Program: l.objs.EbbSeed}); err != nil {
		return nil, errors.Join(fmt.Errorf("attach iterator over TCP sockets: %w", err), l.objs.Close())
	}
	return l, nil
}

// Close frees the iterator.
func (l *Lister) Close() error {
	if err := errors.Join(l.iter.Close(), l.objs.Close()); err != nil {
		return fmt.Errorf("close iterator over TCP sockets: %w", err)
	}
	return nil
}

const recordSize = int(unsafe.Sizeof(objects.SeedEbbOpenSocket{}))

// List returns the connections of the network namespace of the calling thread
// (see runtime.LockOSThread where that matters): whatever is not listening,
// closed or in TIME_WAIT. Connections that come or go meanwhile may be missing.
func (l *Lister) List(ctx context.Context) ([]Connection, error) {
	r, err := l.iter.Open()
	if err != nil {
		return nil, fmt.Errorf("list TCP sockets: %w", err)
	}
	defer r.Close()
	var list []Connection
	buf := make([]byte, 512*recordSize)
	filled := 0
	for ctx.Err() == nil {
		n, err := r.Read(buf[filled:])
		filled += n
		whole := filled / recordSize * recordSize
		for at := 0; at < whole; at += recordSize {
			list = append(list, decode(buf[at:at+recordSize]))
		}
		filled = copy(buf, buf[whole:filled])
		switch {
		case errors.Is(err, io.EOF):
			return list, nil
		case errors.Is(err, unix.EAGAIN): // the kernel has looked at many sockets and wants to be asked again
		case err != nil:
			return nil, fmt.Errorf("list TCP sockets: %w", err)
		}
	}
	return nil, fmt.Errorf("list TCP sockets: %w", context.Cause(ctx))
}

// decode reads a struct ebb_open_socket of bpf/lib/seed.h.
func decode(b []byte) Connection {
	local, remote := netip.AddrFrom16([16]byte(b[0:16])), netip.AddrFrom16([16]byte(b[16:32]))
	state := binary.NativeEndian.Uint32(b[36:])
	return Connection{
		Local:  netip.AddrPortFrom(local.Unmap(), binary.NativeEndian.Uint16(b[32:])),
		Remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(b[34:])),
		State:  uint8(state),
		Opener: opener(uint8(state), binary.NativeEndian.Uint32(b[40:]), binary.NativeEndian.Uint32(b[44:])),
	}
}

const stateSYNSent = 2

// opener weighs the evidence: the backlog of the listener that a socket was
// cloned from (0 if there was none, or its backlog was 0), and the balance of
// sequence numbers (1: connected, 0: accepted, else it says nothing).
func opener(state uint8, backlog, balance uint32) Opener {
	switch {
	case state == stateSYNSent:
		return OpenerLocal
	case backlog > 0 && balance != 1:
		return OpenerRemote
	case backlog == 0 && balance == 0:
		return OpenerRemote
	case backlog == 0 && balance == 1:
		return OpenerLocal
	}
	return OpenerUnknown
}

// Probe tries to list connections and leaves nothing behind.
func Probe(privileged bool) []flowbpf.Feature {
	f := flowbpf.Feature{Name: "seed", Need: "know who opened the connections of before the start", Err: flowbpf.ErrNotTested}
	if privileged {
		l, err := Open()
		if err == nil {
			err = l.Close()
		}
		f.Err = err
	}
	return []flowbpf.Feature{f}
}
