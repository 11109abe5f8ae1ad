// Package debian gets kernels from Debian packages without installing them.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernel is an unpacked kernel.
type Kernel struct {
	Image   string // the compressed kernel, as a boot loader takes it
	Modules string // the folder below lib/modules
}

// Store keeps unpacked kernels in a folder. It has package lists of its own, so
// it works for any architecture and leaves those of the machine alone.
type Store struct {
	Dir  string
	Arch string    // Debian's name of the architecture: amd64, arm64
	Log  io.Writer // what is being fetched
}

// Get returns the kernel of a package: of a kernel itself
// (linux-image-6.1.0-56-cloud-amd64), or of the one that a metapackage
// (linux-image-cloud-amd64) depends on at the time. What was got once is
// not looked for again: remove the folder to get a newer one.
func (s Store) Get(ctx context.Context, name string) (Kernel, error) {
	got := filepath.Join(s.Dir, s.Arch, name)
	if k, err := Find(got); err == nil {
		return k, nil
	}
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Kernel{}, fmt.Errorf("get %s: %s is missing: this needs Debian, or a kernel of yours (see docs/kernels.md)", name, tool)
		}
	}
	unlock, err := s.lock()
	if err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	defer unlock()
	if k, err := Find(got); err == nil { // somebody else did it
		return k, nil
	}
	work, err := os.MkdirTemp(s.Dir, ".get-")
	if err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	defer os.RemoveAll(work)
	if err := s.fetch(ctx, work, name); err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w; is Debian's mirror reachable?", name, err)
	}
	if _, err := Find(filepath.Join(work, "root")); err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(got), 0o755); err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	if err := os.RemoveAll(got); err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	if err := os.Rename(filepath.Join(work, "root"), got); err != nil {
		return Kernel{}, fmt.Errorf("get %s: %w", name, err)
	}
	return Find(got)
}

// lock waits until nobody else fetches into the folder.
func (s Store) lock() (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// fetch leaves the unpacked package in work/root.
func (s Store) fetch(ctx context.Context, work, name string) error {
	lists := filepath.Join(s.Dir, "apt-"+s.Arch)
	for _, folder := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(lists, folder), 0o755); err != nil {
			return err
		}
	}
	status := filepath.Join(lists, "status") // no package is installed here
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return err
	}
	apt := func(tool string, args ...string) (string, error) {
		options := []string{
			"-q", "-o", "APT::Architecture=" + s.Arch, "-o", "APT::Architectures=" + s.Arch, "-o", "APT::Sandbox::User=root",
			"-o", "Dir::State=" + lists, "-o", "Dir::State::status=" + status, "-o", "Dir::Cache=" + filepath.Join(lists, "cache"),
		}
		return s.run(ctx, work, tool, append(options, args...)...)
	}
	fmt.Fprintf(s.Log, "fetching the package lists of %s\n", s.Arch)
	if _, err := apt("apt-get", "update"); err != nil {
		return err
	}
	depends, err := apt("apt-cache", "depends", name)
	if err != nil {
		return err
	}
	concrete := Concrete(name, depends)
	fmt.Fprintf(s.Log, "fetching %s\n", concrete)
	if _, err := apt("apt-get", "download", concrete); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get fetched %d packages, want 1: %w", len(packages), err)
	}
	_, err = s.run(ctx, work, "dpkg", "-x", packages[0], filepath.Join(work, "root"))
	return err
}

func (s Store) run(ctx context.Context, dir, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("%s: %w: %s", tool, err, lines[len(lines)-1])
	}
	return stdout.String(), nil
}

var kernelPackage = regexp.MustCompile(`(?m)^\s*Depends: (linux-image-[0-9]\S*)$`)

// Concrete returns the kernel that name depends on by the answer of `apt-cache
// depends`, or name itself if it is one.
func Concrete(name, depends string) string {
	if m := kernelPackage.FindStringSubmatch(depends); m != nil {
		return m[1]
	}
	return name
}

// ErrNoKernel says that a folder holds no kernel, or several.
var ErrNoKernel = errors.New("there is not one kernel with its modules")

// Find returns the kernel in an unpacked package.
func Find(root string) (Kernel, error) {
	images, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinu[xz]-*"))
	modules, _ := filepath.Glob(filepath.Join(root, "lib", "modules", "*"))
	if len(modules) == 0 {
		modules, _ = filepath.Glob(filepath.Join(root, "usr", "lib", "modules", "*"))
	}
	if len(images) != 1 || len(modules) != 1 {
		return Kernel{}, fmt.Errorf("%s: %w: %d and %d", root, ErrNoKernel, len(images), len(modules))
	}
	return Kernel{Image: images[0], Modules: modules[0]}, nil
}
