package app_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

// With many drains while segments are sent again, each of those stands in one record.
func TestWhatASocketSendsAgainIsToldOnce(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	peer.run(func() error {
		far, err := netlink.LinkByName("w1")
		if err != nil {
			return err
		}
		losstest.DropEvery(t, far.Attrs().Index, 20, 1000)
		return serveTCP(t, "10.1.0.2:7000", 0)
	})
	r := runAgent(t, func(c *app.Config) { c.DrainInterval = 100 * time.Millisecond })
	r.watches(1)
	c, err := net.Dial("tcp", "10.1.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for begin := time.Now(); time.Since(begin) < 4*time.Second; time.Sleep(time.Millisecond) {
		if _, err := c.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // what is lost last is sent again by a timer
	want := totalRetrans(t, c.(*net.TCPConn))
	r.drains(3)
	flows, _ := r.finish(ebbwatch.Counter{})
	var got uint64
	intervals := 0
	for i := range flows {
		if flows[i].DstPort == 7000 {
			got += uint64(flows[i].SrcHealth.Retransmits)
			intervals++
		}
	}
	if got != want || want < 100 || intervals < 20 {
		t.Errorf("%d segments were sent again in %d intervals, the socket says %d", got, intervals, want)
	}
}

// totalRetrans is how many segments the socket has sent again.
func totalRetrans(t *testing.T, c *net.TCPConn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return uint64(info.Total_retrans)
}
