package proof

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/keyfleet/keyfleet/events"
)

// An archive is the log in a file: archiveMagic, then sections
//
//	kind (1 byte), length of the content (4 bytes, big endian), content, SHA-256 of all that
//
// of these kinds:
//
//	h  text for people: what this is, whose, and the log's key
//	e  a zstd frame with bodies of commits as they stand in the log, each behind its length (4 bytes, big endian)
//	c  a signed checkpoint of all events so far
//	z  the same of all events, and the end
//
// so that it is written and read as a stream, and damage is found in the section where it is. What cannot be made up are
// the chain hashes and the signatures; the sums are there to tell where.
const (
	archiveMagic = "keyfleet archive 1\n"

	kindHeader     = 'h'
	kindEvents     = 'e'
	kindCheckpoint = 'c'
	kindEnd        = 'z'

	sectionHead = 1 + 4
	// flushBytes is when a section of events is closed. With the commit that crosses the line it stays below maxEvents.
	flushBytes = 512 << 10
	maxEvents  = flushBytes + events.MaxCommitBytes + 8
	maxContent = maxEvents + 64<<10 // what does not compress grows a little
)

// ArchiveWriter writes an archive as a stream. It needs memory for one section.
type ArchiveWriter struct {
	w     io.Writer
	pack  *zstd.Encoder
	block []byte
	err   error // the first
}

// NewArchive begins an archive of the log of that incarnation and key.
func NewArchive(w io.Writer, incarnation events.Incarnation, key events.PublicKey) (*ArchiveWriter, error) {
	pack, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	a := &ArchiveWriter{w: w, pack: pack}
	_, a.err = io.WriteString(w, archiveMagic)
	a.section(kindHeader, fmt.Appendf(nil, "The log of a Keyfleet registry, as `keyfleet audit export` wrote it. `keyfleet audit verify FILE` checks it.\nincarnation %s\nlog key %s\n",
		incarnation, key))
	return a, a.err
}

// Commit adds the next commit's body.
func (a *ArchiveWriter) Commit(body []byte) error {
	a.block = binary.BigEndian.AppendUint32(a.block, uint32(len(body)))
	a.block = append(a.block, body...)
	if len(a.block) >= flushBytes {
		a.flush()
	}
	return a.err
}

// Checkpoint adds a signed checkpoint of all that was added so far.
func (a *ArchiveWriter) Checkpoint(signed []byte) error {
	a.flush()
	a.section(kindCheckpoint, signed)
	return a.err
}

// End completes the archive with a signed checkpoint of all of it.
func (a *ArchiveWriter) End(signed []byte) error {
	a.flush()
	a.section(kindEnd, signed)
	return a.err
}

func (a *ArchiveWriter) flush() {
	if len(a.block) > 0 {
		a.section(kindEvents, a.pack.EncodeAll(a.block, nil))
		a.block = a.block[:0]
	}
}

func (a *ArchiveWriter) section(kind byte, content []byte) {
	if a.err != nil {
		return
	}
	s := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	s = append(s, content...)
	sum := sha256.Sum256(s)
	_, a.err = a.w.Write(append(s, sum[:]...))
}

// ReadArchive gives the parts of an archive. It may be used once.
func ReadArchive(file io.Reader) Source {
	return func(yield func(Part) error) error {
		r := bufio.NewReaderSize(file, 1<<20)
		magic := make([]byte, len(archiveMagic))
		if _, err := io.ReadFull(r, magic); err != nil || string(magic) != archiveMagic {
			return orDamage(err, "it does not begin as an archive of Keyfleet does")
		}
		unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxEvents))
		if err != nil {
			return err
		}
		defer unpack.Close()
		for place := 0; ; place++ {
			kind, content, err := readSection(r)
			if err != nil {
				return err
			}
			switch {
			case (kind == kindHeader) != (place == 0):
				return fmt.Errorf("%w: a section of kind %q out of place", ErrDamaged, kind)
			case kind == kindHeader:
			case kind == kindEvents:
				err = yieldCommits(unpack, content, yield)
			case kind == kindCheckpoint:
				err = yield(Part{Checkpoint: content})
			case kind == kindEnd:
				return readEnd(r, content, yield)
			default:
				err = fmt.Errorf("%w: a section of unknown kind %q", ErrDamaged, kind)
			}
			if err != nil {
				return err
			}
		}
	}
}

func readEnd(r *bufio.Reader, signed []byte, yield func(Part) error) error {
	if err := yield(Part{Checkpoint: signed}); err != nil {
		return err
	}
	_, err := r.ReadByte()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return orDamage(err, "something stands behind its end")
}

func readSection(r io.Reader) (kind byte, content []byte, err error) {
	head := make([]byte, sectionHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, orDamage(err, "it ends here")
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxContent {
		return 0, nil, fmt.Errorf("%w: a section of %d bytes", ErrDamaged, n)
	}
	section := make([]byte, sectionHead+int(n)+sha256.Size)
	copy(section, head)
	if _, err := io.ReadFull(r, section[sectionHead:]); err != nil {
		return 0, nil, orDamage(err, "it ends here")
	}
	end := sectionHead + int(n)
	if sha256.Sum256(section[:end]) != [sha256.Size]byte(section[end:]) {
		return 0, nil, fmt.Errorf("%w: a section's checksum is another", ErrDamaged)
	}
	return head[0], section[sectionHead:end:end], nil
}

// orDamage tells a file that is too short, or otherwise not right, from one that cannot be read.
func orDamage(err error, what string) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s", ErrDamaged, what)
	}
	return err
}

func yieldCommits(unpack *zstd.Decoder, packed []byte, yield func(Part) error) error {
	block, err := unpack.DecodeAll(packed, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for len(block) > 0 {
		if len(block) < 4 {
			return fmt.Errorf("%w: a section of events ends inside a commit", ErrDamaged)
		}
		n := int(binary.BigEndian.Uint32(block))
		if block = block[4:]; n > len(block) || n == 0 {
			return fmt.Errorf("%w: a section of events ends inside a commit", ErrDamaged)
		}
		if err := yield(Part{Commit: block[:n:n]}); err != nil {
			return err
		}
		block = block[n:]
	}
	return nil
}
