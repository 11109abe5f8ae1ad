package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/suite"
)

func TestMistakesAreToldBeforeAnythingIsFetched(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"a folder that is not the repository", func(o *Options) { o.Root = t.TempDir() }, "is not the repository"},
		{"a package that is not in the suite", func(o *Options) { o.Only = []string{"agent/internal/nosuch"} }, "does not list agent/internal/nosuch"},
		{"a kernel without its modules", func(o *Options) { o.Image = "vmlinuz" }, "needs both"},
		{"an architecture that qemu is not asked for", func(o *Options) { o.Arch = "riscv64" }, "want amd64 or arm64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Defaults()
			o.Root, o.Cache, o.Image, o.Modules, o.Arch, o.Only = "../../..", t.TempDir(), "", "", "amd64", nil
			tt.change(&o)
			err := Run(t.Context(), o, t.Output(), t.Output())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPackagesAreChosenByName(t *testing.T) {
	all := []suite.Package{{Path: "a"}, {Path: "b"}}
	if got, err := choose(all, nil); err != nil || len(got) != 2 {
		t.Errorf("without a choice: %v, %v", got, err)
	}
	if got, err := choose(all, []string{"b/"}); err != nil || len(got) != 1 || got[0].Path != "b" {
		t.Errorf("b: %v, %v", got, err)
	}
}

func TestTheMachineIsSealedOff(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		_, args, err := emulator(Options{Arch: arch, Accel: "tcg"}, "vmlinuz", "initramfs")
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(args, " ")
		for _, want := range []string{"-nodefaults", "-no-reboot", "panic=-1"} { // no network, no disk; a panic ends it
			if !strings.Contains(words, want) {
				t.Errorf("%s: %s is missing in %s", arch, want, words)
			}
		}
	}
}

func TestWhereTheKernelCannotBeHadTheStatusSaysSo(t *testing.T) {
	o := Defaults()
	o.Root, o.Cache, o.Image, o.Modules, o.Arch, o.Package = "../../..", t.TempDir(), "", "", "amd64", "linux-image-nosuch"
	t.Setenv("PATH", "")
	err := Run(t.Context(), o, t.Output(), t.Output())
	var exit *cli.ExitError
	if !errors.As(err, &exit) || exit.Code != CannotRun {
		t.Errorf("error %v, want exit status %d", err, CannotRun)
	}
}
