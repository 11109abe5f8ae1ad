package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/ebbwatch/ebbwatch"
)

// A segment is a header of 16 bytes and records one after the other, all
// integers little-endian:
//
//	segment header  "ebbspool", version u32, 0 u32
//	record          "EBBR", state u8, 0 u8, id length u16, flows u32, data length u32,
//	                crc32c of id and data u32, offset of the record u32,
//	                crc32c of these 24 bytes with state 0 u32, id, data
//
// The offset stands in the checksum so that bytes of a record that lie elsewhere,
// as in a batch's own data, are never taken for one.
const (
	segmentMagic   = "ebbspool"
	segmentVersion = 1
	segmentHeader  = 16

	recordMagic  = "EBBR"
	recordHeader = 28
	stateOffset  = 4

	maxID = 255
	// maxRecord is the most bytes that one record takes.
	maxRecord = recordHeader + maxID + ebbwatch.MaxBatchEncoded
)

// state is what became of a record. It is overwritten in place, so it stands
// outside the checksums; the values are four bits apart, and a value that is
// none of them counts as sent: sent twice is better than lost.
type state byte

const (
	stateNew  state = 0x00 // never published
	stateSent state = 0x5a // published, and the answer is not known
	stateDone state = 0xff // acknowledged, or dropped
)

// errForeign is wrapped by the errors about files that are no segments of this version.
var errForeign = errors.New("not a segment of this version")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by the library

func appendSegmentHeader(dst []byte) []byte {
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, segmentVersion)
	return binary.LittleEndian.AppendUint32(dst, 0)
}

// checkSegmentHeader reports why r does not begin as a segment does.
func checkSegmentHeader(r io.ReaderAt) error {
	var h [segmentHeader]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("%w: read header: %w", errForeign, err)
	}
	if string(h[:8]) != segmentMagic {
		return fmt.Errorf("%w: begins with %q", errForeign, h[:8])
	}
	if v := binary.LittleEndian.Uint32(h[8:]); v != segmentVersion {
		return fmt.Errorf("%w: version %d, want %d", errForeign, v, segmentVersion)
	}
	return nil
}

// header is the fixed part of a record.
type header struct {
	state             state
	idLen             int
	flows             int
	dataLen           int
	payloadCRC        uint32
	offset            int64
	startOfNextRecord int64
}

func (h *header) tally() Tally {
	return Tally{Batches: 1, Flows: uint64(h.flows), Bytes: uint64(h.dataLen)}
}

// appendRecord appends r as a record that stands at offset.
func appendRecord(dst []byte, r *Record, s state, offset int64) []byte {
	at := len(dst)
	crc := crc32.Update(crc32.Checksum([]byte(r.ID), castagnoli()), castagnoli(), r.Data)
	dst = append(dst, recordMagic...)
	dst = append(dst, 0, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.ID)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Flows))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Data)))
	dst = binary.LittleEndian.AppendUint32(dst, crc)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(offset))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli()))
	dst[at+stateOffset] = byte(s)
	return append(append(dst, r.ID...), r.Data...)
}

// parseHeader reads the fixed part of a record that stands at offset. It
// reports false for anything but what appendRecord wrote there.
func parseHeader(b []byte, offset int64) (header, bool) {
	if len(b) < recordHeader || string(b[:4]) != recordMagic {
		return header{}, false
	}
	var clean [recordHeader - 4]byte
	copy(clean[:], b)
	clean[stateOffset] = 0
	if crc32.Checksum(clean[:], castagnoli()) != binary.LittleEndian.Uint32(b[24:]) || binary.LittleEndian.Uint32(b[20:]) != uint32(offset) {
		return header{}, false
	}
	h := header{
		state: state(b[stateOffset]), idLen: int(binary.LittleEndian.Uint16(b[6:])), flows: int(binary.LittleEndian.Uint32(b[8:])),
		dataLen: int(binary.LittleEndian.Uint32(b[12:])), payloadCRC: binary.LittleEndian.Uint32(b[16:]), offset: offset,
	}
	if h.idLen > maxID || h.dataLen > ebbwatch.MaxBatchEncoded || h.flows > ebbwatch.MaxBatchFlows {
		return header{}, false
	}
	if h.state != stateNew && h.state != stateDone {
		h.state = stateSent
	}
	h.startOfNextRecord = offset + recordHeader + int64(h.idLen) + int64(h.dataLen)
	return h, true
}

// scanner walks over the records of one segment, and over what is damaged
// between them. It holds no more than a few kilobytes, whatever the file says.
type scanner struct {
	r   io.ReaderAt
	end int64 // size of the segment
	at  int64 // where the next record should be

	// damage counts the places where no record could be read, and their bytes.
	damage Tally
}

// next returns the next record's header, whose payload lies within the
// segment. It returns io.EOF at the end; another error is of the file itself.
func (s *scanner) next() (header, error) {
	for s.at < s.end {
		h, err := s.read(s.at)
		if err != nil {
			return header{}, err
		}
		if h != nil {
			s.at = h.startOfNextRecord
			return *h, nil
		}
		to, err := s.find(s.at + 1)
		if err != nil {
			return header{}, err
		}
		s.damage.Batches++ // at least one
		s.damage.Bytes += uint64(to - s.at)
		s.at = to
	}
	return header{}, io.EOF
}

// read returns the header at offset, nil if no whole record stands there.
func (s *scanner) read(offset int64) (*header, error) {
	var b [recordHeader]byte
	if offset+recordHeader > s.end {
		return nil, nil
	}
	if _, err := s.r.ReadAt(b[:], offset); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	h, ok := parseHeader(b[:], offset)
	if !ok || h.startOfNextRecord > s.end {
		return nil, nil
	}
	return &h, nil
}

// find returns where the next whole record stands at or after offset, or the end.
func (s *scanner) find(offset int64) (int64, error) {
	const chunk = 64 << 10
	buf := make([]byte, chunk+len(recordMagic)-1)
	for ; offset < s.end; offset += chunk {
		n := min(int64(len(buf)), s.end-offset)
		if _, err := s.r.ReadAt(buf[:n], offset); err != nil {
			return 0, fmt.Errorf("look for the next record: %w", err)
		}
		text := buf[:n]
		for base := 0; ; {
			i := bytes.Index(text[base:], []byte(recordMagic))
			if i < 0 {
				break
			}
			h, err := s.read(offset + int64(base+i))
			if err != nil {
				return 0, err
			}
			if h != nil {
				return h.offset, nil
			}
			base += i + 1
		}
	}
	return s.end, nil
}

// errPayload says that a record's header is sound and the rest is not.
var errPayload = errors.New("record is damaged")

// payload reads the id and the data of a record.
func payload(r io.ReaderAt, h *header) (id string, data []byte, err error) {
	b := make([]byte, h.idLen+h.dataLen)
	if _, err := r.ReadAt(b, h.offset+recordHeader); err != nil {
		return "", nil, fmt.Errorf("read record: %w", err)
	}
	if crc32.Checksum(b, castagnoli()) != h.payloadCRC {
		return "", nil, errPayload
	}
	if id = string(b[:h.idLen]); !validID(id) {
		return "", nil, errPayload
	}
	return id, b[h.idLen:], nil
}

// validID reports whether id is a batch's message id: agent:boot:sequence.
func validID(id string) bool {
	agent, rest, _ := strings.Cut(id, ":")
	boot, sequence, _ := strings.Cut(rest, ":")
	if ebbwatch.ValidateAgent(agent) != nil || boot == "" || sequence == "" {
		return false
	}
	return strings.Trim(boot, "0123456789abcdefABCDEF-") == "" && strings.Trim(sequence, "0123456789") == ""
}
