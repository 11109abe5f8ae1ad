package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// syncLogsEvery is how often the engine looks for deduplication logs of new tables.
const syncLogsEvery = time.Second

// syncLogs makes the file system write what goes into the deduplication logs of the
// tables in folder, the engine's data, to the disk itself before the write returns, as
// chattr +S does. ClickHouse never syncs them, whatever its settings: a power cut takes
// tokens of inserts whose parts are on the disk, and their repetition would be stored
// once more. Files that ClickHouse makes there later inherit it.
func syncLogs(folder string) error {
	logs, err := filepath.Glob(filepath.Join(folder, "store", "*", "*", deduplicationLogs))
	if err != nil {
		return fmt.Errorf("find deduplication logs: %w", err)
	}
	for _, log := range logs {
		err := writeThrough(log) // first, so that no file comes between
		files, globErr := filepath.Glob(filepath.Join(log, "*"))
		err = errors.Join(err, globErr)
		for _, file := range files {
			err = errors.Join(err, writeThrough(file))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// canWriteThrough returns why the file system of folder cannot do what syncLogs wants.
func canWriteThrough(folder string) error {
	probe, err := os.MkdirTemp(folder, "write-through-")
	if err != nil {
		return fmt.Errorf("write to data folder: %w", err)
	}
	defer os.Remove(probe)
	return writeThrough(probe)
}

const deduplicationLogs = "deduplication_logs"

// writeThrough sets the attribute S of a file or folder, and syncs what was written
// before. One that is gone, as with its table, is no error.
func writeThrough(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write deduplication logs through: %w", err)
	}
	defer f.Close()
	const syncFlag = 0x8 // FS_SYNC_FL of linux/fs.h
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&syncFlag != 0 {
		return nil
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|syncFlag))
	}
	if err != nil {
		return fmt.Errorf("clickhouse.sync_always: the file system of %s cannot write through (chattr +S): put data_dir on ext4, XFS or Btrfs: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write deduplication logs through: %w", err)
	}
	return nil
}
