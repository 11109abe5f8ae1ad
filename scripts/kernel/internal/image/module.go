package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoModule says that the kernel has a feature neither built in nor as a module.
var ErrNoModule = errors.New("neither built in nor a module")

// Module is a kernel module that is ready to load.
type Module struct {
	Name string
	ELF  []byte // not compressed
}

// Modules is a folder of kernel modules, as below /lib/modules. The lists that
// depmod makes are not needed.
type Modules struct {
	builtin map[string]bool
	paths   map[string]string
}

// Open lists the modules below dir. modules.builtin must be there, too.
func Open(dir string) (*Modules, error) {
	m := &Modules{builtin: make(map[string]bool), paths: make(map[string]string)}
	list, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		m.builtin[moduleName(lines.Text())] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			m.paths[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	return m, nil
}

// moduleName is the name as the kernel has it: "nf-conntrack.ko.xz" is nf_conntrack.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Resolve returns the named modules and all that they need, each once, each after
// what it needs. What is built in is left out. For each name that the kernel does
// not have there is an error with ErrNoModule; the others are still returned.
func (m *Modules) Resolve(names ...string) ([]Module, error) {
	var out []Module
	var errs []error
	seen := make(map[string]bool)
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] || m.builtin[name] {
			return nil
		}
		seen[name] = true
		path, ok := m.paths[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, ErrNoModule)
		}
		data, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := depends(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, need := range needs {
			if err := visit(need); err != nil {
				return fmt.Errorf("%s needs %w", name, err)
			}
		}
		out = append(out, Module{Name: name, ELF: data})
		return nil
	}
	for _, name := range names {
		errs = append(errs, visit(name))
	}
	return out, errors.Join(errs...)
}

// depends reads what a module says of itself in its section .modinfo.
func depends(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("read module: no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

func readModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	switch filepath.Ext(path) {
	case ".ko":
	case ".gz":
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(r)
		}
	case ".xz", ".zst":
		tool := map[string]string{".xz": "xz", ".zst": "zstd"}[filepath.Ext(path)]
		cmd := exec.Command(tool, "-dc")
		cmd.Stdin = bytes.NewReader(data)
		data, err = cmd.Output()
	default:
		err = errors.New("unknown compression")
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return data, nil
}
