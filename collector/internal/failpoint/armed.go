//go:build failpoints

// Package failpoint marks the places where a test lets the collector die.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// armed reads $FAILPOINT, NAME:N: the process dies when it passes the
// place of that name for the Nth time.
var armed = sync.OnceValue(func() *fuse {
	name, count, _ := strings.Cut(os.Getenv("FAILPOINT"), ":")
	n, _ := strconv.Atoi(count)
	return &fuse{name: name, left: n}
})

type fuse struct {
	name string
	mu   sync.Mutex
	left int
}

// Here ends the process as kill -9 does, if it is armed for this place.
func Here(name string) {
	f := armed()
	if f.name != name {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
		select {}
	}
}
