package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/image"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/plan"
)

// Build compiles the tests of packages and the guest's init for arch (as Go names
// it) into work, adds them with the packages' testdata to the image, and returns
// what the plan says of them. root is the repository.
func Build(ctx context.Context, w *image.Writer, root, work, arch, only string, packages []Package) ([]plan.Test, error) {
	init := filepath.Join(work, "init")
	if err := compile(ctx, filepath.Join(root, "scripts"), arch, "build", "-o", init, "./kernel/guest"); err != nil {
		return nil, err
	}
	w.File("init", init)
	var tests []plan.Test
	for i, p := range packages {
		module, pkg, _ := strings.Cut(p.Path, "/")
		binary := filepath.Join(work, fmt.Sprintf("%d.test", i))
		if err := compile(ctx, filepath.Join(root, module), arch, "test", "-c", "-o", binary, "./"+pkg); err != nil {
			return nil, err
		}
		dir := "src/" + p.Path
		w.Dir(dir)
		t := plan.Test{Name: p.Path, Binary: "/" + dir + "/" + filepath.Base(p.Path) + ".test", Dir: "/" + dir, Args: p.Args(only), Limit: p.Patience()}
		w.File(t.Binary, binary)
		if err := addFolder(w, filepath.Join(root, p.Path, "testdata"), dir+"/testdata"); err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	return tests, nil
}

func compile(ctx context.Context, dir, arch, command string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{command, "-trimpath", "-ldflags=-s -w"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", command, args[len(args)-1], err, out)
	}
	return nil
}

// addFolder adds all files below source, if it exists.
func addFolder(w *image.Writer, source, name string) error {
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err == nil {
			w.File(filepath.Join(name, relative), path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
