package flowbpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer that is emptied now and then. Only the two pages
// of positions stay mapped, the data while they are read. It is not safe for
// concurrent use.
//
// The format is the kernel's, kernel/bpf/ringbuf.c: the consumer's position, the
// producer's position, and the data pages twice in a row, each of the first two
// on a page of its own. Positions only grow; a record is a header of 8 bytes and
// its data, padded to 8 bytes.
type ring struct {
	m                  *ebpf.Map
	size               uint64
	consumed, produced window // the pages of the positions
	sample             []byte // memory for a copy: who parses it may write into it
}

const (
	// ringWindow is how much of the ring is mapped at a time at most, in bytes: more
	// than any record.
	ringWindow = 256 << 10

	ringHeader  = 8
	ringBusy    = 1 << 31 // in the header: not committed yet
	ringDiscard = 1 << 30 // in the header: given up
)

// errRing says that the ring is not what the kernel documents.
var errRing = errors.New("ring buffer is damaged")

func newRing(m *ebpf.Map) (*ring, error) {
	r := &ring{m: m, size: uint64(m.MaxEntries())}
	var err error
	page := os.Getpagesize()
	if r.consumed, err = openWindow(m, 0, page, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return nil, fmt.Errorf("consumer's position: %w", err)
	}
	if r.produced, err = openWindow(m, page, page, unix.PROT_READ); err != nil {
		return nil, errors.Join(fmt.Errorf("producer's position: %w", err), r.consumed.close())
	}
	return r, nil
}

// close may be called again.
func (r *ring) close() error { return errors.Join(r.consumed.close(), r.produced.close()) }

func position(w *window) *uint64 { return (*uint64)(unsafe.Pointer(&w.data[0])) }

// read calls visit for each record that was begun before the call, and waits for
// those that are not finished: programs take microseconds. sample is aligned to 8
// bytes and valid until visit returns.
func (r *ring) read(visit func(sample []byte)) error {
	end := atomic.LoadUint64(position(&r.produced))
	for {
		at := atomic.LoadUint64(position(&r.consumed))
		if at == end {
			return nil
		}
		if end-at > r.size {
			return fmt.Errorf("%w: %d bytes wait in %d", errRing, end-at, r.size)
		}
		if err := r.readWindow(at, min(end, at+ringWindow), end, visit); err != nil {
			return err
		}
	}
}

// readWindow maps the ring from position at to position to and reads the
// records that are whole there, one at least.
func (r *ring) readWindow(at, to, end uint64, visit func([]byte)) (err error) {
	// Beyond the seam lies the second copy.
	w, err := openWindow(r.m, 2*os.Getpagesize()+int(at&(r.size-1)), int(to-at), unix.PROT_READ)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	data := w.data
	for read := false; len(data) >= ringHeader; read = true {
		header := committed((*uint32)(unsafe.Pointer(&data[0]))) // records are aligned to 8 bytes
		length := uint64(header &^ (ringBusy | ringDiscard))
		whole := ringHeader + (length+7)&^7
		if whole > uint64(len(data)) {
			if !read || to == end {
				return fmt.Errorf("%w: a record of %d bytes", errRing, length)
			}
			return nil // the next window begins with it
		}
		if header&ringDiscard == 0 {
			r.sample = append(r.sample[:0], data[ringHeader:ringHeader+length]...)
			visit(r.sample)
		}
		data = data[whole:]
		at += whole
		atomic.StoreUint64(position(&r.consumed), at) // the kernel may overwrite it
	}
	return nil
}

// committed waits until a record is, and returns its header. The atomic load
// makes what the program wrote before visible.
func committed(header *uint32) uint32 {
	for {
		if h := atomic.LoadUint32(header); h&ringBusy == 0 {
			return h
		}
		runtime.Gosched()
	}
}
