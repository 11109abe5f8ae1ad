package engine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// leaveStatus makes a folder look as if the engine had been killed.
func leaveStatus(t *testing.T, folder string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "status"), []byte("PID: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeLogs makes a table of these parts and deduplication logs, in a folder whose
// engine was killed.
func writeLogs(t *testing.T, parts []string, logs ...string) string {
	t.Helper()
	folder := t.TempDir()
	leaveStatus(t, folder)
	table := filepath.Join(folder, "store", "681", "68161c7c-e9b3-47c6-9faf-168b70fea683")
	for _, dir := range append(parts, "deduplication_logs", "detached") {
		if err := os.MkdirAll(filepath.Join(table, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range logs {
		if err := os.WriteFile(filepath.Join(table, "deduplication_logs", fmt.Sprintf("deduplication_log_%d.txt", i+9)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// readLogs returns the logs of all tables below a folder, by file.
func readLogs(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "store", "*", "*", "deduplication_logs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	logs := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		logs[filepath.Base(file)] = string(text)
	}
	return logs
}

func TestAnInsertWithoutAPartIsForgotten(t *testing.T) {
	const (
		merged  = "1\t20261121_2_2_0\t20261121_2_2\n"
		mutated = "1\t20261120_7_7_0\t20261120_1_1\n"
		dropped = "2\t20261119_1_1_0\t20261119_8_8\n"
		lost    = "1\t20261121_91_91_0\t20261121_5844356744541255120_14538171452371047988\n"
		alive   = "1\t20261121_92_92_0\t20261121_3_3\n"
		other   = "1\t20261122_91_91_0\t20261122_4_4\n" // block 91 of another partition
		strange = "what is this\n"
	)
	folder := writeLogs(t, []string{
		"tmp_insert_20261121_17_17_0", // the part of block 91 before it has its name
		"20261121_1_90_16", "20261122_3_3_0", "20261121_92_92_0", "20261120_5_9_2_14",
	}, merged+mutated+dropped+lost+alive+other+strange)
	for _, want := range []int{2, 0} {
		if n, err := forgetLostInserts(folder); n != want || err != nil {
			t.Fatalf("%d inserts are forgotten (%v), want %d", n, err, want)
		}
	}
	if got, want := readLogs(t, folder), merged+mutated+dropped+alive+strange; len(got) != 1 || got["deduplication_log_9.txt"] != want {
		t.Errorf("the log holds\n%s\nwant\n%s", got, want)
	}
	if n, err := forgetLostInserts(t.TempDir()); n != 0 || err != nil {
		t.Errorf("a folder without tables gives %d, %v", n, err)
	}
}

func TestWhatNoKillLeftIsKept(t *testing.T) {
	const first = "1\t20261101_1_1_0\t20261101_1_1\n"
	drop := strings.Replace(first, "1", "2", 1)
	var later strings.Builder // inserts whose part is there
	for i := range newestInserts {
		fmt.Fprintf(&later, "1\t20261121_%d_%d_0\t20261121_%d_1\n", i+2, i+2, i)
	}
	parts := []string{fmt.Sprintf("20261121_2_%d_7", newestInserts+1)}
	for _, c := range []struct {
		name string
		logs []string
		want int
	}{
		{"a part that was dropped", []string{first + drop}, 0},
		{"a part that was dropped, as the next log says", []string{first, drop}, 0},
		{"an insert after the same was dropped", []string{first + drop, first}, 1},
		{"an insert after the same was dropped, dropped again", []string{first + drop, first + drop}, 0},
		{"a part that fell out of the window before it was dropped", []string{first, later.String()}, 0},
		{"an insert with nearly as many after it", []string{first, later.String()[strings.IndexByte(later.String(), '\n')+1:]}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := writeLogs(t, parts, c.logs...)
			before := readLogs(t, folder)
			if n, err := forgetLostInserts(folder); n != c.want || err != nil {
				t.Fatalf("%d inserts are forgotten (%v), want %d", n, err, c.want)
			}
			if same := maps.Equal(readLogs(t, folder), before); same != (c.want == 0) {
				t.Errorf("the logs are the same: %t; they were %v", same, before)
			}
		})
	}
	t.Run("an engine that ended in good order", func(t *testing.T) {
		folder := writeLogs(t, parts, first)
		if err := os.Remove(filepath.Join(folder, "status")); err != nil {
			t.Fatal(err)
		}
		if n, err := forgetLostInserts(folder); n != 0 || err != nil {
			t.Errorf("%d inserts are forgotten (%v), want none", n, err)
		}
	})
}

// What ClickHouse itself writes when a TTL drops parts.
func TestWhatATTLDroppedIsKept(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	folder := dir.Path(dataFolder)
	_, stop := start(t, cfg, dir)
	if _, err := os.Stat(filepath.Join(folder, "status")); err != nil {
		t.Errorf("an engine that runs has no status: %v", err)
	}
	mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
	mustQuery(t, cfg, dir, Collector, `CREATE TABLE ebbwatch.t (time DateTime, a UInt32) ENGINE = MergeTree PARTITION BY a % 2 ORDER BY a TTL time + INTERVAL 2 SECOND
		SETTINGS non_replicated_deduplication_window = 100, ttl_only_drop_parts = 1, merge_with_ttl_timeout = 1, old_parts_lifetime = 1,
		cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 1`)
	for i := range 4 {
		mustQuery(t, cfg, dir, Collector, fmt.Sprintf("INSERT INTO ebbwatch.t SETTINGS insert_deduplication_token = '%d', async_insert = 0 SELECT now() + if(%[1]d = 3, 3600, 0), %[1]d", i))
	}
	eventually(t, 60*time.Second, "the TTL drops three of four parts", func() bool {
		return len(partFolders(t, folder)) == 1
	})
	stop()
	if _, err := os.Stat(filepath.Join(folder, "status")); err == nil {
		t.Error("an engine that was stopped left its status")
	}
	before := readLogs(t, folder)
	if text := slices.Collect(maps.Values(before)); len(text) != 1 || strings.Count(text[0], "\n1\t")+1 != 4 || strings.Count(text[0], "\n2\t") != 3 {
		t.Fatalf("the log says %q, want four inserts and three dropped", text)
	}
	leaveStatus(t, folder)
	if n, err := forgetLostInserts(folder); n != 0 || err != nil || !maps.Equal(readLogs(t, folder), before) {
		t.Errorf("%d inserts are forgotten (%v), want none", n, err)
	}
}

// partFolders returns the parts of all tables below folder.
func partFolders(t *testing.T, folder string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(folder, "store", "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(path string) bool {
		_, ok := parsePart([]byte(filepath.Base(path)))
		return !ok
	})
}

// What a kill between the log and the name of the part leaves, made by hand: the
// moment is too short to be hit at will.
func TestAnInsertThatWasLostIsTakenWhenItIsRepeated(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	insert := func(n, want string) {
		t.Helper()
		mustQuery(t, cfg, dir, Collector, "INSERT INTO ebbwatch.t SETTINGS insert_deduplication_token = 'token-"+n+"', async_insert = 0 VALUES ("+n+")")
		if got := mustQuery(t, cfg, dir, Collector, "SELECT arraySort(groupArray(a)) FROM ebbwatch.t"); got != want {
			t.Errorf("after the insert of %s the table holds %s, want %s", n, got, want)
		}
	}
	_, stop := start(t, cfg, dir)
	mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
	mustQuery(t, cfg, dir, Collector, "CREATE TABLE ebbwatch.t (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	insert("1", "[1]")
	insert("2", "[1,2]")
	insert("2", "[1,2]")
	stop()
	lost, err := filepath.Glob(filepath.Join(dir.Path(dataFolder), "store", "*", "*", "all_2_2_0"))
	if err != nil || len(lost) != 1 {
		t.Fatalf("parts of the second insert: %v, %v", lost, err)
	}
	if err := os.Rename(lost[0], filepath.Join(filepath.Dir(lost[0]), "tmp_insert_all_9_9_0")); err != nil {
		t.Fatal(err)
	}
	leaveStatus(t, dir.Path(dataFolder))
	_, stop = start(t, cfg, dir)
	defer stop()
	insert("1", "[1]")
	insert("2", "[1,2]")
	insert("2", "[1,2]")
	insert("3", "[1,2,3]")
}
