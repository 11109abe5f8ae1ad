package debian

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAMetapackageStandsForTheKernelItDependsOn(t *testing.T) {
	for _, tt := range []struct{ name, pkg, answer, want string }{
		{
			"a metapackage", "linux-image-cloud-amd64",
			"linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n", "linux-image-6.1.0-56-cloud-amd64",
		},
		{
			"a kernel itself, whose dependencies are others", "linux-image-6.1.0-56-cloud-amd64",
			"linux-image-6.1.0-56-cloud-amd64\n  Depends: kmod\n  Depends: <linux-initramfs-tool>\n    dracut\n  Recommends: apparmor\n", "linux-image-6.1.0-56-cloud-amd64",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Concrete(tt.pkg, tt.answer); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestWhatIsInTheCacheIsNotFetched(t *testing.T) {
	s := Store{Dir: t.TempDir(), Arch: "amd64", Log: t.Output()}
	root := filepath.Join(s.Dir, "amd64", "linux-image-test")
	for _, dir := range []string{"boot", "lib/modules/6.1.0"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Find(root); !errors.Is(err, ErrNoKernel) {
		t.Errorf("without a kernel: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "boot", "vmlinuz-6.1.0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "") // nothing can be run
	k, err := s.Get(t.Context(), "linux-image-test")
	if err != nil || filepath.Base(k.Image) != "vmlinuz-6.1.0" || filepath.Base(k.Modules) != "6.1.0" {
		t.Errorf("got %+v, %v", k, err)
	}
	if _, err := s.Get(t.Context(), "linux-image-other"); err == nil || !strings.Contains(err.Error(), "apt-get is missing") {
		t.Errorf("without apt-get: %v", err)
	}
}

func TestTwoKernelsInOneFolderAreRefused(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"boot", "lib/modules/1", "lib/modules/2"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "boot", "vmlinuz-1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(root); !errors.Is(err, ErrNoKernel) {
		t.Errorf("find: %v", err)
	}
}
