package seed

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *Lister {
	t.Helper()
	losstest.Namespace(t)
	l, err := Open()
	losstest.Need(t, err == nil, fmt.Sprintf("an iterator over TCP sockets: %v", err))
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// listener listens with a backlog, which Go's own cannot choose.
func listener(t testing.TB, address string, backlog int) net.Listener {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())})
	if at.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	s, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(s), "listener")
	defer f.Close()
	must(t, unix.Bind(s, to))
	must(t, unix.Listen(s, backlog))
	l, err := net.FileListener(f)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// pair is a connection of before the listing.
type pair struct{ client, server *net.TCPConn }

func connect(t testing.TB, l net.Listener, bind *net.TCPAddr) pair {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	c, err := net.DialTCP("tcp", bind, l.Addr().(*net.TCPAddr))
	must(t, err)
	p := pair{c, (<-accepted).(*net.TCPConn)}
	t.Cleanup(func() { _ = p.client.Close(); _ = p.server.Close() })
	return p
}

// check lists and compares who opened each end.
func (p pair) check(t *testing.T, l *Lister, when string, ends int) {
	t.Helper()
	list, err := l.List(t.Context())
	must(t, err)
	client, server := p.client.LocalAddr().(*net.TCPAddr).AddrPort(), p.client.RemoteAddr().(*net.TCPAddr).AddrPort()
	found := 0
	for _, c := range list {
		want := OpenerLocal
		switch {
		case c.Local == client && c.Remote == server:
		case c.Local == server && c.Remote == client:
			want = OpenerRemote
		default:
			continue
		}
		found++
		if c.Opener != want {
			t.Errorf("%s: %v to %v in state %d was opened by %v, want %v", when, c.Local, c.Remote, c.State, c.Opener, want)
		}
	}
	if found != ends {
		t.Errorf("%s: %d ends of %d are listed: %v", when, found, ends, list)
	}
}

func TestWhoOpenedConnectionsOfBeforeTheStart(t *testing.T) {
	l := open(t)
	for _, c := range []struct {
		name, address string
		backlog       int
		bind          *net.TCPAddr
	}{
		{"over IPv4", "127.0.0.1:0", 128, nil},
		{"over IPv6", "[::1]:0", 128, nil},
		{"from a listener without backlog", "127.0.0.1:0", 0, nil},
		{"from a low port to a high one", "127.0.0.1:61000", 16, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 22}},
	} {
		p := connect(t, listener(t, c.address, c.backlog), c.bind)
		p.check(t, l, c.name, 2)
		// The reader is slow: data lies in both queues, and more waits.
		for _, end := range []*net.TCPConn{p.client, p.server} {
			must(t, end.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
			_, _ = end.Write(make([]byte, 16<<20))
		}
		p.check(t, l, c.name+", with data in flight", 2)
		go func() { _, _ = io.Copy(io.Discard, p.server) }()
		must(t, p.client.CloseWrite())
		time.Sleep(20 * time.Millisecond)
		p.check(t, l, c.name+", with a FIN of the client", 2)
		go func() { _, _ = io.Copy(io.Discard, p.client) }()
		must(t, p.server.CloseWrite())
	}
}

func TestWhoOpenedAConnectionThatRetransmits(t *testing.T) {
	for _, backlog := range []int{128, 0} {
		l := open(t)
		dropped, stop := losstest.DropEvery(t, losstest.Loopback, 7, 1000)
		p := connect(t, listener(t, "127.0.0.1:0", backlog), nil)
		for _, end := range []*net.TCPConn{p.client, p.server} {
			go func() { _, _ = io.Copy(io.Discard, end) }()
		}
		for range 20 {
			_, err := p.client.Write(make([]byte, 100_000))
			must(t, err)
			_, err = p.server.Write(make([]byte, 100_000))
			must(t, err)
			p.check(t, l, "while packets are lost", 2)
		}
		if dropped() < 3 {
			t.Errorf("%d packets were dropped: the test tests too little", dropped())
		}
		stop()
	}
}

func TestOpenersFromTheEvidence(t *testing.T) {
	const established = 1
	for _, c := range []struct {
		name             string
		state            uint8
		backlog, balance uint32
		want             Opener
	}{
		{"a SYN under way", stateSYNSent, 0, 1, OpenerLocal},
		{"a SYN and nothing else counted", stateSYNSent, 0, 7, OpenerLocal},
		{"one sequence number for the SYN", established, 0, 1, OpenerLocal},
		{"none for the SYN", established, 0, 0, OpenerRemote},
		{"a listener's backlog", established, 128, 0, OpenerRemote},
		{"a listener's backlog, and sends that the device refused", established, 128, 1<<32 - 1448, OpenerRemote},
		{"evidence for both", established, 128, 1, OpenerUnknown},
		{"no evidence, since the device refused sends", established, 0, 1<<32 - 1448, OpenerUnknown},
	} {
		if got := opener(c.state, c.backlog, c.balance); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestManyConnectionsAreAllListed(t *testing.T) {
	l := open(t)
	ln := listener(t, "127.0.0.1:0", 4096)
	const n = 1500 // more than a buffer
	for range n {
		connect(t, ln, nil)
	}
	list, err := l.List(t.Context())
	must(t, err)
	if len(list) != 2*n {
		t.Errorf("%d sockets are listed, want %d", len(list), 2*n)
	}
	opened := map[Opener]int{}
	for _, c := range list {
		opened[c.Opener]++
	}
	if opened[OpenerLocal] != n || opened[OpenerRemote] != n {
		t.Errorf("openers are %v", opened)
	}
}

func TestAListingEndsWithItsContext(t *testing.T) {
	l := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.List(ctx); err == nil {
		t.Error("a listing without time worked")
	}
}

func FuzzRecordsOfTheKernel(f *testing.F) {
	f.Add(make([]byte, recordSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < recordSize {
			return
		}
		if c := decode(b[:recordSize]); c.Local.Addr().Is4In6() || !c.Remote.Addr().IsValid() {
			t.Errorf("%v", c)
		}
	})
}
