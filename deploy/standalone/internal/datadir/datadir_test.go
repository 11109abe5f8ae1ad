package datadir

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestASecondHolderIsToldWhoHasTheFolder(t *testing.T) {
	path := t.TempDir()
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), "--data") {
		t.Fatalf("second Open: %v, want ErrInUse with the process and the flag", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	again.Close()
}

func TestASecretIsMadeOnceAndReadableByItsOwnerOnly(t *testing.T) {
	path := t.TempDir()
	var secrets []string
	for range 2 {
		dir, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := dir.Secret("a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := dir.Secret("b")
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) != 64 || secret == other {
			t.Fatalf("secrets %q and %q, want two of 64 characters", secret, other)
		}
		secrets = append(secrets, secret)
		info, err := os.Stat(dir.SecretPath("a"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, want 0600", info.Mode().Perm())
		}
		dir.Close()
	}
	if secrets[0] != secrets[1] {
		t.Errorf("the second start made another secret")
	}
}

func TestAnEmptySecretIsAnErrorThatSaysWhatToDo(t *testing.T) {
	dir, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.Sub("secrets"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir.SecretPath("a"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if secret, err := dir.Secret("a"); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("Secret returned %q, %v", secret, err)
	}
}

func TestTheHolderIsToldAndNothingChanges(t *testing.T) {
	path := t.TempDir()
	for _, folder := range []string{path, path + "/none"} {
		if holder, err := Holder(folder); holder != "" || err != nil {
			t.Errorf("a folder without Ebbwatch is held by %q, %v", holder, err)
		}
	}
	if files, _ := os.ReadDir(path); len(files) > 0 {
		t.Errorf("looking made %v", files)
	}
	dir, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if holder, err := Holder(path); holder != strconv.Itoa(os.Getpid()) || err != nil {
		t.Errorf("the holder is %q, %v; want this process", holder, err)
	}
	dir.Close()
	if holder, err := Holder(path); holder != "" || err != nil {
		t.Errorf("when it has ended, the holder is %q, %v", holder, err)
	}
	if again, err := Open(path); err != nil {
		t.Errorf("looking holds the folder: %v", err)
	} else {
		again.Close()
	}
}
