package flowbpf

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// Links returns the interfaces of the calling thread's network namespace. While
// they change, the kernel's list can lack some and it says so: then it is asked
// again, for up to a tenth of a second. After that the last answer comes with
// netlink.ErrDumpInterrupted.
func Links() ([]netlink.Link, error) { return steady(netlink.LinkList) }

// listTries is how often a list that changes is asked for, a little later each time.
const listTries = 14

func steady(list func() ([]netlink.Link, error)) ([]netlink.Link, error) {
	for try := 1; ; try++ {
		links, err := list()
		if try == listTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return links, err
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
}
