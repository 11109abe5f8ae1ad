package disktest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAPowerCutLosesWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	d, err := New(dir, 64<<20)
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("after Close the folder has %v, %v", left, err)
		}
	}()
	content := make([]byte, 100_000)
	for i := range content {
		content[i] = byte(i)
	}
	write := func(name string, sync bool) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", true)
	write("grown", true)
	write("grown", false)
	write("not synced", false)
	for range 2 { // the second one with nothing to lose
		if err := d.Cut(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"synced", "grown"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(content) {
				t.Errorf("%s has %d bytes, %v; want the %d that were synced", name, len(got), err, len(content))
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "not synced")); len(got) > 0 {
			t.Errorf("what was not synced has %d bytes, %v", len(got), err)
		}
	}
}
