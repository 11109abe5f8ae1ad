// Package app is the command that runs tests on another kernel.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/debian"
	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/suite"
)

// Options say what runs on which kernel.
type Options struct {
	Root    string        // the repository
	Cache   string        // folder of unpacked kernels
	Arch    string        // as Go names it: amd64, arm64
	Package string        // Debian package of the kernel, "" for the architecture's cloud kernel
	Image   string        // a kernel of the user's own, instead of a package
	Modules string        // its folder below lib/modules
	Append  string        // more words for the kernel's command line
	Only    []string      // packages whose tests run, as far as the suite lists them; all if empty
	Quick   bool          // brief tests only
	Run     string        // pattern of tests, as of go test -run
	Accel   string        // how qemu runs it: tcg is software emulation, kvm needs a host that has it
	CPUs    int           // of the machine
	Memory  int           // of the machine, in MiB
	Limit   time.Duration // from the start of the machine to its end
	Silence time.Duration // after which a machine that prints nothing is given up
	Verbose bool          // show the console as it comes
}

// CannotRun is the exit status where the kernel cannot be had, so that nothing
// is known of the tests.
const CannotRun = 3

// Defaults returns the options of `make test-kernel`, from the environment.
func Defaults() Options {
	cache := os.Getenv("EBBWATCH_CACHE")
	if cache == "" {
		if dir, err := os.UserCacheDir(); err == nil {
			cache = filepath.Join(dir, "ebbwatch")
		}
	}
	o := Options{
		Root: ".", Cache: filepath.Join(cache, "kernel"), Arch: runtime.GOARCH,
		Package: os.Getenv("KERNEL_PACKAGE"), Image: os.Getenv("KERNEL_IMAGE"), Modules: os.Getenv("KERNEL_MODULES"), Append: os.Getenv("KERNEL_APPEND"),
		Run: os.Getenv("KERNEL_RUN"), Only: strings.Fields(os.Getenv("KERNEL_ONLY")),
		Accel: "tcg", CPUs: 2, Memory: 3072, Limit: 45 * time.Minute, Silence: 4 * time.Minute,
	}
	if accel := os.Getenv("KERNEL_ACCEL"); accel != "" {
		o.Accel = accel
	}
	if arch := os.Getenv("KERNEL_ARCH"); arch != "" {
		o.Arch = arch
	}
	return o
}

// Command returns the command.
func Command() *cobra.Command {
	opts := Defaults()
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Run the agent's tests on another Linux kernel, in a virtual machine",
		Long: "Boot a kernel in qemu, by software emulation unless told otherwise, run the tests of the packages that use BPF\n" +
			"in it, and tell what passed, what skipped itself and why. The kernel is Debian's 6.1, fetched and unpacked into\n" +
			"the cache, unless --package names another or --image and --modules name files. Exit status 0 means: at least one test of\n" +
			"each package passed, none failed, none skipped itself for an unknown reason, and the machine went down by itself; 3 means that the kernel cannot be had.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Run(cmd.Context(), opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Root, "root", opts.Root, "`folder` of the repository")
	flags.StringVar(&opts.Cache, "cache", opts.Cache, "`folder` of unpacked kernels")
	flags.StringVar(&opts.Arch, "arch", opts.Arch, "architecture: amd64 or arm64 (KERNEL_ARCH)")
	flags.StringVar(&opts.Package, "package", opts.Package, "Debian `package` of the kernel (KERNEL_PACKAGE; default linux-image-cloud-ARCH)")
	flags.StringVar(&opts.Image, "image", opts.Image, "kernel `file` instead of a package (KERNEL_IMAGE)")
	flags.StringVar(&opts.Modules, "modules", opts.Modules, "its `folder` of modules, with modules.builtin (KERNEL_MODULES)")
	flags.StringVar(&opts.Append, "append", opts.Append, "more `words` for the kernel's command line (KERNEL_APPEND)")
	flags.StringSliceVar(&opts.Only, "only", opts.Only, "`packages` to test, default all of the suite (KERNEL_ONLY)")
	flags.StringVar(&opts.Run, "run", opts.Run, "`pattern` of tests, as of go test -run (KERNEL_RUN)")
	flags.StringVar(&opts.Accel, "accel", opts.Accel, "accelerator of qemu: tcg or kvm (KERNEL_ACCEL)")
	flags.BoolVar(&opts.Quick, "quick", opts.Quick, "only the tests that the suite calls brief")
	flags.IntVar(&opts.CPUs, "cpus", opts.CPUs, "processors of the machine")
	flags.IntVar(&opts.Memory, "memory", opts.Memory, "memory of the machine in MiB")
	flags.DurationVar(&opts.Limit, "limit", opts.Limit, "time limit of the machine")
	flags.DurationVar(&opts.Silence, "silence", opts.Silence, "give up a machine that prints nothing for so long")
	flags.BoolVarP(&opts.Verbose, "verbose", "v", opts.Verbose, "show the machine's console as it comes")
	return cmd
}

// Run does what the options say. The result goes to stdout, progress to stderr.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	if _, err := os.Stat(filepath.Join(o.Root, "bpf", "flow.bpf.c")); err != nil {
		return fmt.Errorf("%s is not the repository (--root)", o.Root)
	}
	packages, err := choose(suite.Packages(), o.Only)
	if err != nil {
		return err
	}
	if o.Quick {
		packages = suite.Quick(packages)
	}
	if _, _, err := emulator(o, "", ""); err != nil {
		return err
	}
	kernel := debian.Kernel{Image: o.Image, Modules: o.Modules}
	if (o.Image == "") != (o.Modules == "") {
		return errors.New("a kernel of yours needs both: --image and --modules")
	}
	if o.Image == "" {
		if o.Package == "" {
			o.Package = "linux-image-cloud-" + o.Arch
		}
		if kernel, err = (debian.Store{Dir: o.Cache, Arch: o.Arch, Log: stderr}).Get(ctx, o.Package); err != nil {
			return &cli.ExitError{Code: CannotRun, Err: err}
		}
	}
	work, err := os.MkdirTemp("", "ebbwatch-kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	fmt.Fprintf(stderr, "compiling the tests of %d packages for %s\n", len(packages), o.Arch)
	disk := filepath.Join(work, "initramfs")
	if err := assemble(ctx, o, kernel, disk, packages, stderr); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "booting %s\n", filepath.Base(kernel.Image))
	started := time.Now()
	log := filepath.Join(work, "console")
	stopped := boot(ctx, o, kernel.Image, disk, log, stderr)
	return tell(context.WithoutCancel(ctx), log, packages, stopped, time.Since(started), stdout)
}

// choose returns the packages that only names, all if it names none.
func choose(all []suite.Package, only []string) ([]suite.Package, error) {
	if len(only) == 0 {
		return all, nil
	}
	var chosen []suite.Package
	for _, name := range only {
		found := false
		for _, p := range all {
			if p.Path == strings.TrimSuffix(name, "/") {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("the suite does not list %s", name)
		}
	}
	return chosen, nil
}
