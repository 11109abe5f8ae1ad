// Package disktest makes disks for tests whose power can be cut: what was not
// synced is gone then, which no kill of a process shows.
package disktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnavailable is wrapped by the error of New where disks cannot be made: this
// process is not root, or the host has no loop devices or no mkfs.ext4.
var ErrUnavailable = errors.New("cannot make disks whose power can be cut")

// Disk is an ext4 file system on a loop device. Its methods may not be called
// concurrently.
type Disk struct {
	Dir  string   // where it is mounted
	loop *os.File // keeps the device, and with it the data, while it is not mounted
}

// New makes a disk of so many bytes, of which only those that are written take
// room in the folder for temporary files, and mounts it at dir, a folder that is
// there. Nothing has to be cleaned up after a process that ends without Close but
// the mount, which ends with its mount namespace (see Isolate).
func New(dir string, bytes int64) (_ *Disk, err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: run it as root", ErrUnavailable)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		return nil, fmt.Errorf("%w: install e2fsprogs: %w", ErrUnavailable, err)
	}
	image, err := os.CreateTemp("", "ebbwatch-disk-")
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	defer image.Close()
	defer os.Remove(image.Name()) // the device holds it, and nobody else needs its name
	if err := image.Truncate(bytes); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	// ClickHouse makes many small files, and keeps those of parts that a cut broke.
	if out, err := exec.Command(mkfs, "-q", "-m", "0", "-i", "4096", image.Name()).CombinedOutput(); err != nil { //nolint:gosec // found on PATH
		return nil, fmt.Errorf("make disk: %w: %s", err, out)
	}
	d := &Disk{Dir: dir}
	if d.loop, err = attach(image); err != nil {
		return nil, fmt.Errorf("%w: no loop device: %w", ErrUnavailable, err)
	}
	if err := d.mount(); err != nil {
		d.loop.Close()
		return nil, err
	}
	return d, nil
}

// attach makes a loop device of the file. It detaches itself when nobody has it
// open or mounted.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return nil, fmt.Errorf("configure %s: %w", loop.Name(), err)
		}
	}
}

func (d *Disk) mount() error {
	if err := unix.Mount(d.loop.Name(), d.Dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount disk: %w", err)
	}
	return nil
}

// unmountWithin is how long the files of a process that was killed may stay open.
const unmountWithin = 10 * time.Second

func (d *Disk) unmount() error {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Unmount(d.Dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Since(began) > unmountWithin {
			return fmt.Errorf("unmount disk: %w", err)
		}
	}
}

// Cut cuts the power and gives it back: what was not synced is lost, and the file
// system is as the next mount finds it. The processes that used it must have been
// killed just before; none of them can have seen anything that is not on the disk,
// as it could if the disk went first.
func (d *Disk) Cut() error {
	root, err := os.Open(d.Dir)
	if err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	// EXT4_IOC_SHUTDOWN of fs/ext4/ext4.h, _IOR('X', 125, __u32), with
	// EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written out.
	const shutdown, noLogFlush = 0x8004587d, 2
	err = unix.IoctlSetPointerInt(int(root.Fd()), shutdown, noLogFlush)
	root.Close()
	if err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	return errors.Join(d.unmount(), d.mount())
}

// Close unmounts the disk and forgets what is on it. Nobody may use it.
func (d *Disk) Close() error { return errors.Join(d.unmount(), d.loop.Close()) }

const isolated = "DISKTEST_ISOLATED"

// Isolate gives this process, which it runs again for that, a mount namespace of its
// own, so that what it mounts is unmounted when it has ended with its children,
// whatever ended it. It returns only in the new one, or with an error. Call it first in main.
func Isolate() error {
	if os.Getenv(isolated) != "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: run it as root", ErrUnavailable)
	}
	runtime.LockOSThread() // the namespace is that of the thread, until it becomes the process
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("%w: make a mount namespace: %w", ErrUnavailable, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: keep mounts private: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("run again: %w", syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), isolated+"=1"))) //nolint:gosec // itself
}
