package chtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Binary returns the path of the command ebbwatch: $EBBWATCH_BIN, or one that is
// built from the workspace, once in a test process.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("EBBWATCH_BIN"); bin != "" {
		return bin
	}
	bin, err := build()
	if err != nil {
		t.Fatalf("build ebbwatch (or set EBBWATCH_BIN): %v", err)
	}
	return bin
}

// build is memoized: it is the same for every test of the process.
var build = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "ebbwatch", "test")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	// Other test processes may build at the same time: each renames a file of
	// its own into place.
	f, err := os.CreateTemp(folder, ".ebbwatch-*")
	if err != nil {
		return "", err
	}
	f.Close()
	defer os.Remove(f.Name())
	cmd := exec.Command("go", "build", "-o", f.Name(), "github.com/ebbwatch/ebbwatch/deploy/standalone")
	cmd.Env = append(os.Environ(), "GOWORK=") // the command's module is in no other's list
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	bin := filepath.Join(folder, "ebbwatch")
	return bin, os.Rename(f.Name(), bin)
})
