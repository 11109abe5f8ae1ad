package flowbpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// window is a part of a map's memory that is mapped while it is read. A page
// of a map that stays mapped counts as resident memory of the process,
// although nobody touches it.
type window struct {
	data   []byte
	mapped []byte // data, and what comes before it on its page
}

// openWindow maps length bytes of what the kernel offers of m, from an offset on.
// The result is to be closed.
func openWindow(m *ebpf.Map, offset, length, protection int) (window, error) {
	skip := offset % os.Getpagesize()
	mapped, err := unix.Mmap(m.FD(), int64(offset-skip), skip+length, protection, unix.MAP_SHARED)
	if err != nil {
		return window{}, fmt.Errorf("map memory of %s: %w", m, err)
	}
	return window{mapped[skip:], mapped}, nil
}

// close may be called again.
func (w *window) close() error {
	mapped := w.mapped
	*w = window{}
	if mapped == nil {
		return nil
	}
	return unix.Munmap(mapped)
}

// rows are what the CPUs count at the attach points in use: an array of
// counters by CPU, slot and direction.
type rows struct {
	cpus []window
	size int // of a row, in bytes
}

// openRows maps the rows of one generation of an array. They are to be closed.
func (d *Datapath) openRows(m *ebpf.Map, generation uint32, size int) (*rows, error) {
	most := 1 // slot 0 always is
	for slot := range d.points.table {
		if d.points.table[slot].place.Ifindex != 0 {
			most = slot + 1
		}
	}
	r := &rows{size: size}
	for cpu := range uint32(d.cpus) {
		at := int(d.totalIndex(generation, cpu, 0, Ingress)) * size
		w, err := openWindow(m, at, 2*most*size, unix.PROT_READ|unix.PROT_WRITE)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.cpus = append(r.cpus, w)
	}
	return r, nil
}

// row returns what a CPU counts. Programs may write it at the same time.
func (r *rows) row(cpu int, slot uint32, dir Direction) []byte {
	at := (2*int(slot) + int(dir)) * r.size
	return r.cpus[cpu].data[at : at+r.size]
}

func (r *rows) close() error {
	var errs []error
	for i := range r.cpus {
		errs = append(errs, r.cpus[i].close())
	}
	return errors.Join(errs...)
}
