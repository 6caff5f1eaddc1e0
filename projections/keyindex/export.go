package keyindex

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/keyfleet/keyfleet/events"
)

// Table is a run of an index's records, in the form that Install takes. No other table of the same export has
// keys between its first and its last.
type Table struct {
	First, Last []byte
	Data        []byte
}

// Export gives everything that is stored, as it stands between two Applies, in tables of about tableBytes, and the
// position and digest that go with them. emit must not keep a table, and its ctx ends with Export's. Close, Reset and
// Install end it.
//
// Equal content makes equal tables, in one build of the program. Where a table ends depends on the records around it
// alone: after few changes, most tables are as they were, unless the changes are spread over all of them.
func (idx *Index) Export(
	ctx context.Context, tableBytes int, emit func(context.Context, Table) error,
) (events.Position, events.Digest, error) {
	var at *view
	err := idx.readLong(ctx, func(ctx context.Context, snapshot pebble.Reader, shown *view) error {
		at = shown
		x := exporter{
			tableBytes: tableBytes, options: tableOptions(),
			emit: func(t Table) error { return emit(ctx, t) },
		}
		if err := eachRecord(ctx, snapshot, span{}, newPace(0), x.add); err != nil {
			return errors.Join(err, x.abandon())
		}
		return x.finish()
	})
	if err != nil {
		return events.Position{}, events.Digest{}, err
	}
	return at.position, at.digest, nil
}

// exporter cuts records into tables.
type exporter struct {
	tableBytes int
	emit       func(Table) error
	options    sstable.WriterOptions

	w      *sstable.Writer // nil between tables
	buffer memory
	table  Table
	bytes  int // of records in the table
}

func (x *exporter) add(key, value []byte) error {
	if x.w == nil {
		x.buffer.written = x.buffer.written[:0]
		x.w = sstable.NewWriter(&x.buffer, x.options)
		x.table.First, x.bytes = bytes.Clone(key), 0
	}
	if err := x.w.Set(key, value); err != nil {
		return err
	}
	x.table.Last = append(x.table.Last[:0], key...)
	x.bytes += len(key) + len(value)
	if x.bytes >= 2*x.tableBytes || x.bytes >= x.tableBytes/2 && x.endsTable(key, len(key)+len(value)) {
		return x.finish()
	}
	return nil
}

// endsTable draws from the key whether the table ends with it, once in half a table's bytes. So the ends are found again
// after records before them were added or removed. Most keys end in random bytes.
func (x *exporter) endsTable(key []byte, size int) bool {
	if len(key) < 4 {
		return false
	}
	drawn := binary.BigEndian.Uint32(key[len(key)-4:])
	return float64(drawn) < math.MaxUint32*float64(size)/float64(x.tableBytes/2)
}

func (x *exporter) finish() error {
	if x.w == nil {
		return nil
	}
	if err := x.abandon(); err != nil {
		return err
	}
	x.table.Data = x.buffer.written
	return x.emit(x.table)
}

func (x *exporter) abandon() error {
	if x.w == nil {
		return nil
	}
	err := x.w.Close()
	x.w = nil
	return err
}

// tableOptions are those that the store has for its lowest level, where tables go that are installed.
func tableOptions() sstable.WriterOptions {
	o := pebble.Options{FormatMajorVersion: pebble.FormatNewest}
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o.MakeWriterOptions(len(o.Levels)-1, o.FormatMajorVersion.MaxTableFormat())
}

// memory is where a table is written.
type memory struct{ written []byte }

func (m *memory) Write(p []byte) error {
	m.written = append(m.written, p...)
	return nil
}

func (m *memory) Finish() error { return nil }
func (m *memory) Abort()        {}
