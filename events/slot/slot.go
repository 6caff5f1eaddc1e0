// Package slot keeps one small record in a file, replaced as a whole: whatever ends the process or the machine, the next
// Open finds the last record that was put, or the one before it, and never a mixture.
//
// The file has two places that are written in turn, each with a generation and a checksum. It leaves what a record says to
// its users: a registry keeps the last head that it signed, a verifier what lets it go on after a restart.
package slot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// MaxRecord is the longest record, in bytes.
const MaxRecord = 2048

// A place holds the generation, the record's length, their and the record's SHA-256, and the record.
const (
	placeSize  = 4096
	headerSize = 8 + 4 + sha256.Size
)

// ErrHeld says that another process has the file open.
var ErrHeld = errors.New("another process has it open")

// File is one record in a file. Its methods must not be called concurrently.
type File struct {
	file       *os.File
	generation uint64
}

// Open opens the file, or makes it with mode 0600, takes it for this process alone, and gives its record: nil if there is
// none that can be read.
func Open(path string) (*File, []byte, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w: %w", path, ErrHeld, err), file.Close())
	}
	f := &File{file: file}
	record, err := f.read()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	return f, record, nil
}

func (f *File) read() (newest []byte, err error) {
	info, err := f.file.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	places := make([]byte, 2*placeSize)
	if _, err := f.file.ReadAt(places[:min(info.Size(), 2*placeSize)], 0); err != nil {
		return nil, err
	}
	for _, place := range [][]byte{places[:placeSize], places[placeSize:]} {
		if generation, record, ok := open(place); ok && generation > f.generation {
			f.generation, newest = generation, record
		}
	}
	return newest, nil
}

func open(place []byte) (generation uint64, record []byte, ok bool) {
	length := binary.BigEndian.Uint32(place[8:])
	if length > MaxRecord {
		return 0, nil, false
	}
	record = place[headerSize : headerSize+length]
	sum := checksum(place[:12], record)
	return binary.BigEndian.Uint64(place), record, bytes.Equal(sum[:], place[12:headerSize])
}

func checksum(header, record []byte) [sha256.Size]byte {
	return sha256.Sum256(append(bytes.Clone(header), record...))
}

// Put replaces the record. Once it returns, the next Open finds it, whatever becomes of this process; after Sync, whatever
// becomes of the machine.
func (f *File) Put(record []byte) error {
	if len(record) > MaxRecord {
		return fmt.Errorf("a record of %d bytes; at most %d have room", len(record), MaxRecord)
	}
	next := f.generation + 1
	place := binary.BigEndian.AppendUint64(make([]byte, 0, headerSize+len(record)), next)
	place = binary.BigEndian.AppendUint32(place, uint32(len(record)))
	sum := checksum(place, record)
	place = append(append(place, sum[:]...), record...)
	// The place of the record before the last: if this is cut short, the last still stands.
	if _, err := f.file.WriteAt(place, int64(next%2)*placeSize); err != nil {
		return err
	}
	f.generation = next
	return nil
}

// Sync makes what was put survive the loss of power.
func (f *File) Sync() error { return f.file.Sync() }

// Stat tells what the file is.
func (f *File) Stat() (os.FileInfo, error) { return f.file.Stat() }

// Close lets go of the file.
func (f *File) Close() error { return f.file.Close() }
