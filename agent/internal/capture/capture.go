// Package capture reads packet captures: pcap with times in micro- or
// nanoseconds, in both byte orders, also Kuznetzov's modified form, and pcapng
// with any number of sections and interfaces. Either may be compressed by gzip.
//
// A capture is read once, from front to back, in constant memory, whatever it
// claims. What is broken is told by the packet's number, its place in the file,
// and the reason.
package capture

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxPacket is how many bytes of one packet a capture may hold: the limit of
// libpcap and Wireshark.
const MaxPacket = 262144

// bufferSize lets a whole packet block be looked at without copying it.
const bufferSize = 2 * MaxPacket

// Errors of NewReader.
var (
	ErrUnknownFormat = errors.New("neither pcap nor pcapng")
	ErrEmpty         = errors.New("the file is empty")
)

// Packet is one packet of a capture.
type Packet struct {
	Number int64 // from 1
	Offset int64 // of its record or block, from the beginning of the (uncompressed) capture
	TimeNS int64 // since 1970, never negative. A simple packet block of pcapng has none and takes that of the packet before
	// Data is what was captured of the frame, without a frame check sequence. It
	// belongs to the Reader and is valid until the next call of Next.
	Data []byte
	// Length is the frame's length on the link, without a frame check sequence.
	Length uint32
	Link   uint16 // LINKTYPE_ value of the interface
}

// Error tells where a capture is broken.
type Error struct {
	Packet int64 // number of the packet that could not be read, from 1
	Offset int64 // of its record or block, from the beginning of the (uncompressed) capture
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("packet %d (byte %d): %v", e.Packet, e.Offset, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Reader reads one capture. It is not safe for concurrent use.
type Reader struct {
	br     *bufio.Reader
	offset int64 // of what br holds next
	record int64 // where the record at hand begins
	skip   int   // bytes of the packet before that are still in br
	packet Packet
	order  binary.ByteOrder
	format format
}

// format reads the next packet after r.begin.
type format interface{ next(r *Reader) error }

// NewReader reads the beginning of a capture. It returns ErrEmpty or
// ErrUnknownFormat (wrapped) if that is not one.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{br: bufio.NewReaderSize(src, bufferSize)}
	if magic, err := r.br.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(r.br)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w", err)
		}
		r.br = bufio.NewReaderSize(z, bufferSize)
	}
	magic, err := r.br.Peek(4)
	switch {
	case len(magic) == 0 && errors.Is(err, io.EOF):
		return nil, ErrEmpty
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read capture: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: the file has %d bytes", ErrUnknownFormat, len(magic))
	}
	if binary.BigEndian.Uint32(magic) == blockSection {
		r.format = &pcapng{}
		return r, nil
	}
	if r.format, err = r.pcapHeader(magic); err != nil {
		return nil, err
	}
	return r, nil
}

// Next returns the next packet, which is overwritten by the next call. At the
// end of the capture it returns io.EOF, for what is broken an *Error; after
// either there is nothing more to read.
func (r *Reader) Next() (*Packet, error) {
	if err := r.begin(); err != nil {
		return nil, r.broken(err)
	}
	if err := r.format.next(r); err != nil {
		if err == io.EOF { //nolint:errorlint // a wrapped one is an end in the wrong place
			return nil, err
		}
		return nil, r.broken(err)
	}
	r.packet.Number++
	r.packet.Offset = r.record
	return &r.packet, nil
}

// Offset returns how many bytes of the (uncompressed) capture were read.
func (r *Reader) Offset() int64 { return r.offset }

// begin leaves the packet before behind.
func (r *Reader) begin() error {
	err := r.discard(r.skip)
	r.skip, r.record = 0, r.offset
	return err
}

func (r *Reader) broken(err error) error {
	return &Error{Packet: r.packet.Number + 1, Offset: r.record, Err: err}
}

// peek returns the next n bytes, at most bufferSize. At the end of the file it
// returns io.EOF if there are none at all.
func (r *Reader) peek(n int, what string) ([]byte, error) {
	b, err := r.br.Peek(n)
	switch {
	case err == nil:
		return b, nil
	case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("read %s: %w", what, err)
	case len(b) == 0 && r.offset == r.record:
		return nil, io.EOF
	}
	return nil, fmt.Errorf("the file ends inside %s: %d of %d bytes are there: %w", what, len(b), n, io.ErrUnexpectedEOF)
}

// discard skips n bytes, any number of them.
func (r *Reader) discard(n int) error {
	done, err := r.br.Discard(n)
	r.offset += int64(done)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file ends inside a block: %d of %d bytes are there: %w", done, n, io.ErrUnexpectedEOF)
	}
	return err
}

// deliver sets the packet whose captured bytes are data, of a frame of length
// bytes on the link. Of these, fcs bytes at the end are the check sequence.
func (r *Reader) deliver(timeNS int64, link uint16, data []byte, length uint32, fcs uint32) {
	length -= min(length, fcs)
	r.packet.TimeNS, r.packet.Link, r.packet.Length = timeNS, link, length
	r.packet.Data = data[:min(uint64(len(data)), uint64(length))]
}
