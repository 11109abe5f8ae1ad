package app_test

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

func TestRecordsNameTheProcessesAndWhoOpened(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	// Open before the agent: one each way.
	peer.run(func() error { return echo(t, "10.1.0.2:7000") })
	if err := echo(t, "10.1.0.1:7001"); err != nil {
		t.Fatal(err)
	}
	oldOut, err := net.Dial("tcp", "10.1.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer oldOut.Close()
	var oldIn net.Conn
	peer.run(func() (err error) { oldIn, err = net.Dial("tcp", "10.1.0.1:7001"); return err })
	defer oldIn.Close()
	ping(t, oldOut)
	ping(t, oldIn)

	r := runAgent(t, nil)
	r.watches(1)
	r.drains(2) // the first looks for what was open
	ping(t, oldOut)
	ping(t, oldIn)
	newOut, err := net.Dial("tcp", "10.1.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer newOut.Close()
	ping(t, newOut)
	peer.run(func() error { return serveUDP(t, "10.1.0.2:7003") })
	query, err := sendUDP("10.1.0.2:7003", 2, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := serveUDP(t, "10.1.0.1:7004"); err != nil {
		t.Fatal(err)
	}
	var asked string
	peer.run(func() (err error) { asked, err = sendUDP("10.1.0.1:7004", 2, 100, 1); return err })
	r.drains(2)
	flows, _ := r.finish(ebbwatch.Counter{})

	here := uint32(os.Getpid()) // the peer's sockets too, though in another namespace
	for _, c := range []struct {
		name      string
		proto     uint8
		src, dst  string
		initiator ebbwatch.Initiator
	}{
		{"TCP out, open before", ebbwatch.ProtoTCP, oldOut.LocalAddr().String(), "10.1.0.2:7000", ebbwatch.InitiatorSocket},
		{"TCP in, open before", ebbwatch.ProtoTCP, oldIn.LocalAddr().String(), "10.1.0.1:7001", ebbwatch.InitiatorSocket},
		{"TCP out", ebbwatch.ProtoTCP, newOut.LocalAddr().String(), "10.1.0.2:7000", ebbwatch.InitiatorSYN},
		{"UDP out", ebbwatch.ProtoUDP, query, "10.1.0.2:7003", ebbwatch.InitiatorFirst},
		{"UDP in", ebbwatch.ProtoUDP, asked, "10.1.0.1:7004", ebbwatch.InitiatorFirst},
	} {
		f := conversation(t, flows, c.proto, c.src, c.dst)
		for side, own := range []ebbwatch.Owner{f.SrcOwner, f.DstOwner} {
			if f.Initiator != c.initiator || own.PID != here || !strings.HasPrefix(own.Process, "app.test") || own.UID != 0 {
				t.Errorf("%s: initiator %v, owner of side %d %+v, want process %d", c.name, f.Initiator, side, own, here)
			}
		}
	}
}

// echo sends everything back.
func echo(t *testing.T, address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return nil
}

func ping(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}
