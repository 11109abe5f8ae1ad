package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// errGone says that a network namespace is no longer where it was found.
var errGone = errors.New("network namespace is gone")

// space is a network namespace other than the agent's. Nothing of it is kept open:
// a descriptor or a socket would keep the namespace alive after its container, and
// the other ends of its interfaces with it.
type space struct {
	number uint32 // for its lifetime, never used again
	inode  uint64 // can be used again at once, by another namespace
	cookie uint64 // the kernel's own number, never used again
	path   string // where it can be opened
	name   string // for people
	named  bool   // by somebody, not by its number

	devices []device       // as listed last
	ids     map[int]uint32 // what its ids of other namespaces mean
	learned int            // the generation of namespaces that ids is about
	err     error          // why it cannot be entered
	watched uint64         // the cookie that Losses was told, 0 for none
}

// enter calls f on a thread that is in the namespace, and waits for it. It
// returns errGone if another namespace is there now. f must not keep sockets.
func (w *world) enter(s *space, f func() error) error {
	if s.number == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := s.move()
		if err == nil {
			err = f()
		}
		w.back()
		done <- err
	}()
	return <-done
}

// back returns the thread to where the process is. A thread that cannot return
// ends with its goroutine, which is still locked to it.
func (w *world) back() {
	if unix.Setns(int(w.home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}

// move brings the calling thread into the namespace.
func (s *space) move() error {
	fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", s.path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != s.inode {
		return errGone
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", s.path, err)
	}
	cookie, err := netCookie()
	switch {
	case err != nil:
		return fmt.Errorf("identify network namespace %s: %w", s.path, err)
	case s.cookie != 0 && s.cookie != cookie:
		return errGone
	}
	s.cookie = cookie
	return nil
}

// netCookie returns the number of the thread's network namespace: unlike the
// inode, none has it again before the next boot (Linux 5.14, socket(7) SO_NETNS_COOKIE).
func netCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// list looks at the interfaces of the namespace.
func (w *world) list(s *space) error {
	return w.enter(s, func() error {
		links, err := flowbpf.Links()
		switch {
		case errors.Is(err, netlink.ErrDumpInterrupted) && s.devices != nil:
			return nil // changes do not end: what was known holds until the next look, which the last of them brings
		case errors.Is(err, netlink.ErrDumpInterrupted): // better some than none
		case err != nil:
			return fmt.Errorf("list interfaces: %w", err)
		}
		w.learn(s, links)
		s.devices = devices(s.number, links, func(nsid int) (uint32, bool) { n, ok := s.ids[nsid]; return n, ok })
		return nil
	})
}

// learn finds out which namespaces the links of s tell about. It is called on a
// thread that is in s. What cannot be found is looked for again when a namespace
// comes.
func (w *world) learn(s *space, links []netlink.Link) {
	missing := make(map[int]bool)
	for _, l := range links {
		id := l.Attrs().NetNsID
		if _, known := s.ids[id]; id >= 0 && !known {
			missing[id] = true
		}
	}
	if len(missing) == 0 || s.learned == w.generation {
		return
	}
	known := make(map[uint32]bool, len(s.ids))
	for _, n := range s.ids {
		known[n] = true
	}
	for _, other := range w.all() {
		if len(missing) == 0 {
			break
		}
		if known[other.number] || other == s {
			continue
		}
		if id, ok := w.idOf(other); ok {
			s.ids[id] = other.number
			delete(missing, id)
		}
	}
	s.learned = w.generation
}

// idOf returns the id of a namespace in the thread's own.
func (w *world) idOf(other *space) (int, bool) {
	f := w.home
	if other.number != 0 {
		var err error
		if f, err = os.Open(other.path); err != nil {
			return 0, false
		}
		defer f.Close()
	}
	id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
	return id, err == nil && id >= 0
}
