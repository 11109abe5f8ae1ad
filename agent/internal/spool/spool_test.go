package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, cfg Config) *Spool {
	t.Helper()
	s := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func record(sequence, size int) Record {
	return Record{ID: fmt.Sprintf("host-a:%s:%d", bootA, sequence), Data: bytes.Repeat([]byte{byte(sequence)}, size), Flows: 10}
}

func add(t *testing.T, s *Spool, from, to, size int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if n, err := s.Append(record(i, size)); n != 1 || err != nil {
			t.Fatalf("append %d: %d, %v", i, n, err)
		}
	}
}

// sequences names records by the end of their ids, and ! after those that may
// be stored already.
func sequences(records []Record) string {
	var s []string
	for _, r := range records {
		name := r.ID[strings.LastIndex(r.ID, ":")+1:]
		if r.Sent {
			name += "!"
		}
		s = append(s, name)
	}
	return strings.Join(s, " ")
}

func files(t *testing.T, dir string) (names []string, bytes int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != lockName {
			names = append(names, e.Name())
			bytes += info.Size()
		}
	}
	return names, bytes
}

func config(t *testing.T) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "a", "spool"), MaxBytes: minBytes}
}

func TestRecordsComeBackInOrderAndOnce(t *testing.T) {
	s := open(t, config(t))
	add(t, s, 1, 5, 100)
	first := s.Take(2, 1<<20)
	if got := sequences(first); got != "1 2" || !bytes.Equal(first[1].Data, record(2, 100).Data) || first[0].Flows != 10 {
		t.Errorf("took %s: %+v", got, first)
	}
	s.Done(first...)
	add(t, s, 6, 6, 100)
	rest := s.Take(100, 1<<20)
	if got := sequences(rest); got != "3 4 5 6" {
		t.Errorf("took %s", got)
	}
	s.Done(rest...)
	if names, _ := files(t, s.cfg.Dir); len(names) != 0 || s.Len() != 0 || s.Stats().FileBytes != 0 {
		t.Errorf("an empty spool has files %v, %+v", names, s.Stats())
	}
	add(t, s, 7, 7, 100)
	if got := sequences(s.Take(100, 1<<20)); got != "7" {
		t.Errorf("took %s after it was empty", got)
	}
}

func TestTakeStopsAtTheBytesAskedFor(t *testing.T) {
	s := open(t, config(t))
	add(t, s, 1, 5, 1000)
	if got := sequences(s.Take(100, 2000)); got != "1 2" {
		t.Errorf("took %s", got)
	}
}

func TestWhatIsPutBackComesAgainMarked(t *testing.T) {
	s := open(t, config(t))
	add(t, s, 1, 5, 100)
	r := s.Take(4, 1<<20)
	r[1].Sent = true // no answer
	s.Done(r[0], r[3])
	s.PutBack(r[1], r[2])
	if got := sequences(s.Take(100, 1<<20)); got != "2! 3 5" {
		t.Errorf("took %s", got)
	}
}

func TestNextRunFindsWhatTheLastOneLeft(t *testing.T) {
	cfg := config(t)
	s := open(t, cfg)
	add(t, s, 1, 3, 100)
	add(t, s, 4, 9, 300_000) // several segments
	s.Done(s.Take(1, 1)...)
	taken := s.Take(2, 1<<20) // and the process ends before the answer
	if len(taken) != 2 {
		t.Fatal("took", sequences(taken))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if st := s.Stats(); st.Waiting.Batches != 8 || st.Waiting.Flows != 80 || st.Waiting.Bytes != 200+6*300_000 || st.Damaged != (Tally{}) {
		t.Errorf("found %+v", st)
	}
	add(t, s, 10, 10, 100)
	if got := sequences(s.Take(100, 1<<30)); got != "2! 3! 4 5 6 7 8 9 10" {
		t.Errorf("took %s", got)
	}
}

func TestFullSpoolDropsTheOldestAndCountsThem(t *testing.T) {
	s := open(t, config(t))
	const n, size = 1000, 10_000
	for i := 1; i <= n; i++ {
		add(t, s, i, i, size)
		if _, b := files(t, s.cfg.Dir); b > s.cfg.MaxBytes || b != s.Stats().FileBytes {
			t.Fatalf("%d bytes of files, counted %d, at most %d", b, s.Stats().FileBytes, s.cfg.MaxBytes)
		}
	}
	st := s.Stats()
	left := s.Take(n, 1<<30)
	dropped := uint64(n - len(left))
	if dropped == 0 || st.Dropped != (Tally{Batches: dropped, Flows: 10 * dropped, Bytes: size * dropped}) {
		t.Errorf("%d left, dropped %+v", len(left), st.Dropped)
	}
	if st.FileBytes < s.cfg.MaxBytes/2 {
		t.Errorf("%d bytes kept of %d", st.FileBytes, s.cfg.MaxBytes)
	}
	if want := record(int(dropped)+1, 1).ID; left[0].ID != want {
		t.Errorf("the oldest left is %s, want %s", left[0].ID, want)
	}
}

func TestDamagedFilesAreCountedAndPassedOver(t *testing.T) {
	cfg := config(t)
	s := open(t, cfg)
	add(t, s, 1, 4, 500)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := segmentPath(cfg.Dir, 1)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[segmentHeader+100] ^= 1                                          // in the first record's data
	if err := os.WriteFile(path, data[:len(data)-1], 0o600); err != nil { // the last record is torn
		t.Fatal(err)
	}
	s = open(t, cfg)
	if got := sequences(s.Take(100, 1<<20)); got != "2 3" {
		t.Errorf("took %s", got)
	}
	if st := s.Stats(); st.Damaged.Batches != 2 || st.Damaged.Flows != 10 || st.Waiting.Batches != 2 {
		t.Errorf("%+v", st)
	}
}

func TestDamageWhileItRunsIsCountedToo(t *testing.T) {
	s := open(t, config(t))
	add(t, s, 1, 4, 500)
	if _, err := s.active.file.WriteAt(make([]byte, 20), int64(segmentHeader+recordHeader+len(record(1, 0).ID)+490)); err != nil { // the end of the first and the start of the second
		t.Fatal(err)
	}
	taken := s.Take(100, 1<<20)
	if got := sequences(taken); got != "3 4" {
		t.Errorf("took %s", got)
	}
	s.Done(taken...)
	if st := s.Stats(); st.Damaged != (Tally{Batches: 2, Flows: 20, Bytes: 1000}) || st.Waiting != (Tally{}) || st.FileBytes != 0 {
		t.Errorf("%+v", st)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "0000000000000009.spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	data, _ := segmentOf(1, 100)
	for path, content := range map[string][]byte{
		filepath.Join(cfg.Dir, "notes.txt"): []byte("mine"), segmentPath(cfg.Dir, 3): []byte("not a segment at all, but named so"), secret: data, segmentPath(cfg.Dir, 7): nil,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, segmentPath(cfg.Dir, 4)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(segmentPath(cfg.Dir, 5), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	add(t, s, 1, 1, 100)
	if got := sequences(s.Take(100, 1<<20)); got != "1" || s.Stats().Foreign != 6 {
		t.Errorf("took %s, %+v", got, s.Stats())
	}
	if names, _ := files(t, cfg.Dir); len(names) != 7 {
		t.Errorf("left: %v", names)
	}
}

func TestOnlyOneProcessHasTheFolder(t *testing.T) {
	cfg := config(t)
	first := open(t, cfg)
	second := New(cfg, slog.New(slog.DiscardHandler))
	if err := second.Open(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("second: %v", err)
	}
	if _, err := second.Append(record(1, 1)); err == nil {
		t.Error("the second one writes")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Open(); err != nil {
		t.Errorf("after the first ended: %v", err)
	}
	second.Close()
}

// What is open survives its folder: the segment that is read and the one that is written.
func TestFolderThatIsRemovedIsMadeAgain(t *testing.T) {
	cfg := config(t)
	s := open(t, cfg)
	for n := range 3 { // each fills more than half of a segment
		add(t, s, n, n, minBytes/7)
	}
	s.PutBack(s.Take(1, 1)...) // opens the first one
	add(t, s, 3, 3, 1000)
	if again, err := s.Hold(); again || err != nil {
		t.Fatalf("the folder is there: %v, %v", again, err)
	}
	if names, _ := files(t, cfg.Dir); len(names) != 3 {
		t.Fatalf("segments: %v", names)
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Dir, nil, 0o600); err != nil { // in its place
		t.Fatal(err)
	}
	for range 2 {
		if again, err := s.Hold(); again || err == nil || !strings.Contains(err.Error(), "removed") {
			t.Fatalf("no folder can be made: %v, %v", again, err)
		}
	}
	if n, err := s.Append(record(9, 10)); n != 0 || err == nil {
		t.Fatalf("a record was put nowhere: %d, %v", n, err)
	}
	if err := os.Remove(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Hold(); !again || err != nil {
		t.Fatalf("made again: %v, %v", again, err)
	}
	if again, err := s.Hold(); again || err != nil {
		t.Fatalf("and held: %v, %v", again, err)
	}
	lost := Tally{Batches: 1, Flows: 10, Bytes: minBytes / 7}
	if st := s.Stats(); st.Damaged != lost || st.Waiting.Batches != 3 {
		t.Errorf("lost %+v, want %+v; waiting %+v", st.Damaged, lost, st.Waiting)
	}
	add(t, s, 4, 4, 1000)
	if _, bytes := files(t, cfg.Dir); bytes != s.Stats().FileBytes {
		t.Errorf("%d bytes of files, told are %d", bytes, s.Stats().FileBytes)
	}
	s.Close()
	if got := sequences(open(t, cfg).Take(10, 1<<30)); got != "0 2 3 4" {
		t.Errorf("the next run finds %s", got)
	}
}

func TestFolderAndFilesArePrivate(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(cfg.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	add(t, s, 1, 1, 100)
	for path, want := range map[string]fs.FileMode{cfg.Dir: 0o700, segmentPath(cfg.Dir, 1): 0o600, filepath.Join(cfg.Dir, lockName): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode().Perm())
		}
	}
}

func TestUnusableFolderIsAClearError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Dir: file, MaxBytes: minBytes}, slog.New(slog.DiscardHandler)).Open(); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Dir: dir, MaxBytes: minBytes}, slog.New(slog.DiscardHandler)).Open(); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("of another user: %v", err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// smallDisk mounts a disk of size bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestSpoolKeepsAPartOfTheDiskFree(t *testing.T) {
	const disk = 40 << 20
	s := open(t, Config{Dir: smallDisk(t, disk), MaxBytes: 1 << 30})
	add(t, s, 1, 1000, 100_000)
	st := s.Stats()
	if st.Dropped.Batches == 0 || st.FileBytes > disk-disk/20 || st.FileBytes < disk/2 || st.Errors != 0 {
		t.Errorf("%+v", st)
	}
	if left := s.Take(1, 1); left[0].ID != record(int(st.Dropped.Batches)+1, 1).ID {
		t.Errorf("the oldest left is %s of %+v", left[0].ID, st)
	}
}

func TestDiskFilledByOthersIsAnErrorAndNothingTears(t *testing.T) {
	dir := smallDisk(t, 2<<20)
	cfg := Config{Dir: filepath.Join(dir, "spool"), MaxBytes: minBytes}
	s := open(t, cfg)
	add(t, s, 1, 3, 1000)
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	n, err := s.Append(record(4, 50_000), record(5, 1))
	if n != 0 || !errors.Is(err, unix.ENOSPC) || s.Stats().Errors != 1 {
		t.Errorf("append: %d, %v, %+v", n, err, s.Stats())
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	add(t, s, 4, 4, 50_000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if got := sequences(s.Take(10, 1<<20)); got != "1 2 3 4" || s.Stats().Damaged != (Tally{}) {
		t.Errorf("took %s, %+v", got, s.Stats())
	}
	if err := os.WriteFile(hog, make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	empty := open(t, Config{Dir: filepath.Join(dir, "other"), MaxBytes: minBytes})
	if _, err := empty.Append(record(1, 1)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("append to an empty spool on a full disk: %v", err)
	}
}

func TestConfigurationNamesTheKey(t *testing.T) {
	for key, cfg := range map[string]Config{"dir": {Dir: "relative", MaxBytes: 1 << 30}, "max_bytes": {MaxBytes: 1000}, "": DefaultConfig()} {
		if err := cfg.Validate(); (err == nil) != (key == "") || err != nil && !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// BenchmarkOutage is the disk's share of an outage: batches of 100 KB are
// written, and read back and settled.
func BenchmarkOutage(b *testing.B) {
	s := New(Config{Dir: b.TempDir(), MaxBytes: 1 << 30}, slog.New(slog.DiscardHandler))
	if err := s.Open(); err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := record(1, 100_000)
	b.SetBytes(int64(len(r.Data)))
	for b.Loop() {
		if _, err := s.Append(r); err != nil {
			b.Fatal(err)
		}
		s.Sync()
		if s.Len() == 1000 {
			for s.Len() > 0 {
				s.Done(s.Take(16, 4<<20)...)
			}
		}
	}
}
