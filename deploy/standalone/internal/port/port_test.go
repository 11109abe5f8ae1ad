package port

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestATakenPortNamesTheKeyAndTheFlag(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := Port{Address: ln.Addr().String(), Key: "nats.listen", Flag: "--nats-port"}
	err = p.Check(t.Context())
	if !errors.Is(err, ErrTaken) {
		t.Fatalf("Check: %v, want ErrTaken", err)
	}
	for _, want := range []string{p.Address, p.Key, p.Flag} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	ln.Close()
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check of a free port: %v", err)
	}
}

func TestAPortThatIsJustBeingFreedIsWaitedFor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() { ln.Close() })
	if err := (Port{Address: ln.Addr().String()}).Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestAnAddressOfAnotherHostIsNotCalledTaken(t *testing.T) {
	err := Port{Address: "192.0.2.1:80", Key: "nats.listen"}.Check(t.Context())
	if err == nil || errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "nats.listen") {
		t.Errorf("Check: %v", err)
	}
}

func TestOnePortForTwoPartsIsFoundOnAnyAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, number, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, other := range []string{"127.0.0.1", "localhost", "0.0.0.0", ""} {
		err := CheckAll(t.Context(), []Port{{Address: "127.0.0.1:" + number, Key: "a.listen"}, {Key: "off.listen"}, {Address: other + ":" + number, Key: "b.listen", Flag: "--b"}})
		if err == nil || errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "a.listen and b.listen both want port "+number+": change b.listen (or --b)") {
			t.Errorf("%q: %v", other, err)
		}
	}
	if err := CheckAll(t.Context(), []Port{{Address: "127.0.0.1:" + number}, {Address: "127.0.0.2:" + number}}); err != nil {
		t.Errorf("one port of two addresses: %v", err)
	}
}
