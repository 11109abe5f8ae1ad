package engine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errCannotConfine says that the kernel has no Landlock, or one before ABI 2
// (Linux 5.19), which would forbid the hard links and renames of a table.
var errCannotConfine = errors.New("this kernel cannot confine a process (Landlock of Linux 5.19 or later)")

// Access rights of Landlock's ABI 2 (kernel, Documentation/userspace-api/landlock.rst).
// EXECUTE is left out of what is handled: nothing is gained by forbidding it.
const (
	readAccess  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fileAccess  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	writeAccess = readAccess | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
)

// systemPaths is what a program needs to start, and what the engine reads to know
// the size of the host. Where one does not exist it is left out.
func systemPaths() []string {
	return []string{
		"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo",
		"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/dev/urandom", "/dev/random",
		"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/sys/vm", "/proc/sys/kernel",
		"/sys/fs/cgroup", "/sys/devices/system",
	}
}

// confine forbids the calling thread, and what it executes, every file but the
// readable and the writable ones and the system's own. A folder stands for all
// below it. The goroutine stays locked to its thread.
//
// A library engine cannot do it itself: in its kind of process the function
// file() reads whatever the process may, for every user that may SELECT.
func confine(readable, writable []string) error {
	runtime.LockOSThread()
	if !canConfine() {
		return errCannotConfine
	}
	abi := landlockABI()
	rules := unix.LandlockRulesetAttr{Handled_access_fs: writeAccess}
	if abi >= 3 {
		rules.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("create landlock rules: %w", errno)
	}
	defer unix.Close(int(set))
	for _, path := range append(systemPaths(), readable...) {
		if err := allow(int(set), path, readAccess); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, path := range append(writable, "/dev/null") {
		if err := allow(int(set), path, rules.Handled_access_fs); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("confine by landlock: %w", errno)
	}
	return nil
}

// landlockABI returns the version of the kernel's Landlock, 0 if it has none.
func landlockABI() uintptr {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return abi
}

func canConfine() bool { return landlockABI() >= 2 }

// allow adds a rule for path and all below it.
func allow(set int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR { // rights about folders are refused for a file
		access &= fileAccess | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
