package probe

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// listener tells that interfaces changed, not how: whoever hears it looks at all
// of them. So nothing is lost where the kernel has no room for what it tells.
type listener struct {
	socket  *nl.NetlinkSocket
	changed chan struct{} // has room for one, which stands for any number
	broken  chan error    // nothing more comes
	ended   chan struct{}
}

// listen hears of changes in the process' network namespace and, if everywhere,
// in those that have an id in it, as the other ends of its veth pairs do. The
// latter needs CAP_NET_BROADCAST; err is about it alone if the listener is there.
func listen(everywhere bool, overflow func()) (*listener, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, fmt.Errorf("subscribe to link changes: %w", err)
	}
	l := &listener{socket: s, changed: make(chan struct{}, 1), broken: make(chan error, 1), ended: make(chan struct{})}
	if everywhere {
		if err = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
			err = fmt.Errorf("listen to all network namespaces: %w", err)
		}
	}
	go l.receive(overflow)
	return l, err
}

func (l *listener) receive(overflow func()) {
	defer close(l.ended)
	for {
		_, _, err := l.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			overflow()
			err = nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.broken <- err
			return
		}
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// close ends the listener and waits for it.
func (l *listener) close() {
	l.socket.Close()
	<-l.ended
}
