// Package privilege lets the agent's process give up what it does not need once
// its programs are loaded: all capabilities but a few, on every thread, for good.
//
// The agent parses nothing that comes from the network but what NATS answers,
// yet it runs on every host, often as root. What it cannot do, nobody can make
// it do.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrThreads says that this binary cannot act on all its threads at once: it is
// linked with C, or as if. Restart does it another way.
var ErrThreads = errors.New("this binary cannot change all of its threads")

// Need is a capability that somebody needs, and why.
type Need struct {
	Capability Capability
	Purpose    string
}

// Needed returns the set of the needs' capabilities.
func Needed(needs []Need) Set {
	var s Set
	for _, n := range needs {
		s |= Of(n.Capability)
	}
	return s
}

// keepable is what of keep a process with these permitted capabilities can keep:
// where it has CAP_SYS_ADMIN in place of CAP_BPF or CAP_PERFMON, which were
// split off from it, that.
func keepable(keep, permitted Set) Set {
	for _, c := range []Capability{BPF, Perfmon} {
		if keep.Has(c) && !permitted.Has(c) {
			keep |= Of(SysAdmin)
		}
	}
	return keep & permitted
}

// CanDrop reports whether Drop works in this binary.
func CanDrop() bool { return everyThread(unix.SYS_GETPID, 0, 0, 0) == nil }

// Drop gives up all capabilities but keep on every thread, and the way to get
// any by executing a program. It returns the state after it, which every thread
// that is made later has, too. It keeps no capability that the process does not
// have.
//
// Without CAP_SETPCAP the bounding set stays as it is, which is of no use to
// anybody: it limits what executing a program can give, and nothing can any more.
//
// It returns ErrThreads, and has changed nothing, in a binary that is linked
// with C, and if the threads differ in what they may do the runtime ends the
// process.
func Drop(keep Set) (State, error) {
	if err := everyThread(unix.SYS_GETPID, 0, 0, 0); err != nil {
		return State{}, err
	}
	before, err := Read()
	if err != nil {
		return State{}, err
	}
	if err := drop(keepable(keep, before.Permitted), before, 0, everyThread); err != nil {
		return State{}, fmt.Errorf("give up privileges: %w", err)
	}
	after, err := Read()
	if err != nil {
		return State{}, err
	}
	if after.Effective != keepable(keep, before.Permitted) || after.Permitted != after.Effective || !after.NoNewPrivs {
		return after, fmt.Errorf("give up privileges: the kernel left %s", after.Permitted)
	}
	return after, nil
}

// Restart executes this program again with the capabilities keep and no others:
// the way for a binary in which Drop returns ErrThreads. It returns nil if
// there is nothing to give up, so that the program executed again goes on. The
// process id, the arguments and the open files without close-on-exec stay.
func Restart(keep Set) error {
	runtime.LockOSThread() // the thread that executes is the one that counts
	defer runtime.UnlockOSThread()
	before, err := Read()
	if err != nil {
		return err
	}
	if keep = keepable(keep, before.Permitted); before.Permitted == keep && before.NoNewPrivs {
		return nil
	}
	// Inheritable and ambient, because executing takes the rest away from who is not root.
	if err := drop(keep, before, keep, thisThread); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	for c := range Capability(64) {
		if keep.Has(c) {
			if err := thisThread(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c)); err != nil {
				return fmt.Errorf("give up privileges: pass %s on: %w", c, err)
			}
		}
	}
	return fmt.Errorf("execute again: %w", syscall.Exec(self(), os.Args, os.Environ())) //nolint:gosec // this very program
}

// self is the path of the running program: by its own name, which process lists
// show, unless another file has that name by now.
func self() string {
	const link = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return link
	}
	named, err1 := os.Stat(path)
	running, err2 := os.Stat(link)
	if err1 != nil || err2 != nil || !os.SameFile(named, running) {
		return link
	}
	return path
}

// apply makes a system call on one thread or on all.
type apply func(trap, a1, a2, a3 uintptr) error

// drop sets the sets in the order in which each step is still allowed.
func drop(keep Set, before State, inheritable Set, call apply) error {
	if before.Permitted.Has(unix.CAP_SETPCAP) {
		for c := range Capability(64) {
			if before.Bounding.Has(c) && !keep.Has(c) {
				if err := call(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
					return fmt.Errorf("bounding set: %w", err)
				}
			}
		}
	}
	if err := call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: the calling thread
	var data [2]unix.CapUserData
	for i := range data {
		half := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: half, Permitted: half, Inheritable: uint32(inheritable >> (32 * i))}
	}
	err := call(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if err != nil {
		return fmt.Errorf("permitted set: %w", err)
	}
	if err := call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

func thisThread(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.Syscall6(trap, a1, a2, a3, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// everyThread makes a system call on all threads of the process. Its threads
// inherit what it changed, as a new thread is always a copy of another.
func everyThread(trap, a1, a2, a3 uintptr) (err error) {
	// The runtime panics where it is linked with C without the C library's wrapper.
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", ErrThreads, reason)
		}
	}()
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3)
	if errno == syscall.ENOTSUP {
		return ErrThreads
	}
	if errno != 0 {
		return errno
	}
	return nil
}
