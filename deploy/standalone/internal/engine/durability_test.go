package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// writesThrough reports whether a file or folder has the attribute S.
func writesThrough(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	return flags&0x8 != 0
}

func TestDeduplicationLogsAreWrittenThroughAndPartsAreNot(t *testing.T) {
	folder := t.TempDir()
	if err := canWriteThrough(folder); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}
	table := filepath.Join(folder, "store", "abc", "abc0")
	logs := filepath.Join(table, deduplicationLogs)
	for _, dir := range []string{logs, filepath.Join(table, "all_1_1_0")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, after := filepath.Join(logs, "deduplication_log_1.txt"), filepath.Join(logs, "deduplication_log_2.txt")
	part := filepath.Join(table, "all_1_1_0", "data.bin")
	write(before)
	if writesThrough(t, before) {
		t.Fatal("a file has the attribute S from the beginning")
	}
	for range 2 { // and again, as every second
		if err := syncLogs(folder); err != nil {
			t.Fatal(err)
		}
	}
	write(after)
	write(part)
	for path, want := range map[string]bool{logs: true, before: true, after: true, table: false, part: false} {
		if got := writesThrough(t, path); got != want {
			t.Errorf("%s is written through: %v, want %v", path, got, want)
		}
	}
	if err := writeThrough(filepath.Join(logs, "gone")); err != nil {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestSyncAlwaysReachesTheTables(t *testing.T) {
	needEngine(t)
	for _, always := range []bool{false, true} {
		cfg, dir := freeConfig(t), openDir(t)
		cfg.SyncAlways = always
		_, stop := start(t, cfg, dir)
		mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
		mustQuery(t, cfg, dir, Collector, "CREATE TABLE ebbwatch.t (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 10")
		mustQuery(t, cfg, dir, Collector, "INSERT INTO ebbwatch.t VALUES (1)")
		var logs []string
		through := func() bool {
			logs, _ = filepath.Glob(dir.Path(dataFolder, "store", "*", "*", deduplicationLogs, "*"))
			return len(logs) > 0 && writesThrough(t, logs[0])
		}
		if always {
			eventually(t, 10*syncLogsEvery, "the log of a new table is written through", through)
		} else if through() || len(logs) == 0 {
			t.Errorf("without sync_always the logs %q are written through", logs)
		}
		stop()
		text, err := os.ReadFile(dir.Path("clickhouse.xml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, setting := range []string{"fsync_after_insert", "fsync_part_directory"} {
			if got := strings.Contains(string(text), "<"+setting+">1</"+setting+">"); got != always {
				t.Errorf("sync_always %v: the configuration has %s: %v", always, setting, got)
			}
		}
	}
}
