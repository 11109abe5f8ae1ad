package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnInsertWithoutAPartIsForgotten(t *testing.T) {
	folder := t.TempDir()
	table := filepath.Join(folder, "store", "681", "68161c7c-e9b3-47c6-9faf-168b70fea683")
	for _, dir := range []string{
		"deduplication_logs", "detached", "tmp_insert_20261121_17_17_0", // the part of block 91 before it has its name
		"20261121_1_90_16", "20261122_3_3_0", "20261121_92_92_0", "20261120_5_9_2_14",
	} {
		if err := os.MkdirAll(filepath.Join(table, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(table, "deduplication_logs", "deduplication_log_1.txt")
	const (
		merged  = "1\t20261121_2_2_0\t20261121_2_2\n"
		mutated = "1\t20261120_7_7_0\t20261120_1_1\n"
		dropped = "2\t20261119_1_1_0\t20261119_8_8\n"
		lost    = "1\t20261121_91_91_0\t20261121_5844356744541255120_14538171452371047988\n"
		alive   = "1\t20261121_92_92_0\t20261121_3_3\n"
		other   = "1\t20261122_91_91_0\t20261122_4_4\n" // block 91 of another partition
		strange = "what is this\n"
	)
	if err := os.WriteFile(log, []byte(merged+mutated+dropped+lost+alive+other+strange), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 0} {
		if n, err := forgetLostInserts(folder); n != want || err != nil {
			t.Fatalf("%d inserts are forgotten (%v), want %d", n, err, want)
		}
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := merged + mutated + dropped + alive + strange; string(got) != want {
		t.Errorf("the log holds\n%swant\n%s", got, want)
	}
	if n, err := forgetLostInserts(t.TempDir()); n != 0 || err != nil {
		t.Errorf("a folder without tables gives %d, %v", n, err)
	}
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
	_, stop = start(t, cfg, dir)
	defer stop()
	insert("1", "[1]")
	insert("2", "[1,2]")
	insert("2", "[1,2]")
	insert("3", "[1,2,3]")
}
