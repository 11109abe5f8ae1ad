package engine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A library engine is `clickhouse local`. Unless that is interactive, it ends
// itself at the first exception that no handler of a connection caught (its
// KillingErrorHandler), and a wrong password or bytes that are no greeting, on
// the native port, make one. So it is given a terminal and these arguments. It
// runs its query as ever, asks the terminal then what comes next, and reads
// leave, which was typed before it began.
func interactive() []string {
	return []string{
		"--interactive",
		"--disable_suggestion",     // else it asks for all names, as the user default
		"--history_file=/dev/null", // else it looks for a home folder
		"--progress=off", "--progress-table=off",
	}
}

const leave = "exit\n"

// openTerminal returns the ends of a new pseudo-terminal, which controls no
// process. Both are closed by an exec. The caller owns them.
func openTerminal() (master, slave int, err error) {
	const multiplexer = "/dev/ptmx"
	master, err = unix.Open(multiplexer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open %s: %w", multiplexer, err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		_ = unix.Close(master)
		return 0, 0, fmt.Errorf("unlock a terminal of %s: %w", multiplexer, err)
	}
	// Not by its path, as /dev/pts may be another instance (Linux 4.13).
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		_ = unix.Close(master)
		return 0, 0, fmt.Errorf("open a terminal of %s: %w", multiplexer, errno)
	}
	return master, int(fd), nil
}

// checkTerminal returns why no terminal can be had, or nil.
func checkTerminal() error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	_ = unix.Close(slave)
	return unix.Close(master)
}

// readTerminal makes standard input a terminal where leave is typed, also for the
// program that the process executes. The other end is open as long as the process.
func readTerminal() error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	if _, err := unix.Write(master, []byte(leave)); err != nil {
		return fmt.Errorf("type into a terminal: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(master), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep a terminal: %w", err)
	}
	if err := unix.Dup3(slave, 0, 0); err != nil {
		return fmt.Errorf("read a terminal: %w", err)
	}
	return unix.Close(slave)
}
