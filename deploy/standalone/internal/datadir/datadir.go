// Package datadir owns the folder that a standalone Ebbwatch keeps its data in:
// one process at a time, readable by its user only, with generated secrets.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse is wrapped by Open when another process holds the folder.
var ErrInUse = errors.New("data folder is in use")

// Dir is a locked data folder. Its methods may not be called concurrently.
type Dir struct {
	path string
	lock *os.File
}

// Open creates the folder if it is not there (mode 0700) and locks it until
// Close or the end of the process.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder (choose another with --data or data_dir): %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data folder (choose another with --data or data_dir): %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(lock.Name())
		lock.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock data folder %s: %w", path, err)
		}
		return nil, fmt.Errorf("%w: %s is held by process %s: stop it, or choose another folder with --data or data_dir",
			ErrInUse, path, strings.TrimSpace(string(holder)))
	}
	if err := writePID(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("write to data folder: %w", err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Holder returns the process that holds the folder, "" if none does or the folder
// is not there. It changes nothing.
func Holder(path string) (pid string, err error) {
	lock, err := os.Open(filepath.Join(path, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look who holds the data folder: %w", err)
	}
	defer lock.Close()
	// A shared lock is refused beside the exclusive one of Open, and not beside those of others who look.
	err = unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return "", nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return "", fmt.Errorf("look who holds the data folder %s: %w", path, err)
	}
	holder, err := io.ReadAll(io.LimitReader(lock, 20))
	if err != nil {
		return "", fmt.Errorf("look who holds the data folder: %w", err)
	}
	return strings.TrimSpace(string(holder)), nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// Close unlocks the folder.
func (d *Dir) Close() error { return d.lock.Close() }

// Path returns the absolute path of the folder, or of a name in it.
func (d *Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Sub creates a folder inside the folder (mode 0700) and returns its path.
func (d *Dir) Sub(name string) (string, error) {
	path := d.Path(name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("create data folder: %w", err)
	}
	return path, nil
}

// SecretPath returns the file that holds the secret of that name.
func (d *Dir) SecretPath(name string) string { return SecretPath(d.path, name) }

// SecretPath returns the file that holds the secret of that name in the data
// folder dir, for a reader that does not own the folder.
func SecretPath(dir, name string) string { return filepath.Join(dir, "secrets", name) }

// Secret returns the secret of that name: 256 random bits in hexadecimal, made
// at its first use and kept in a file of mode 0600.
func (d *Dir) Secret(name string) (string, error) {
	path := d.SecretPath(name)
	data, err := os.ReadFile(path)
	if err == nil {
		if secret := strings.TrimSpace(string(data)); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("read secret: %s is empty: remove it, and a new one is made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if _, err := d.Sub("secrets"); err != nil {
		return "", err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	secret := hex.EncodeToString(raw)
	if err := WriteFile(path, []byte(secret+"\n")); err != nil {
		return "", fmt.Errorf("store secret: %w", err)
	}
	return secret, nil
}

// WriteFile replaces the file at once (a reader sees the old content or the
// new), with mode 0600.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
