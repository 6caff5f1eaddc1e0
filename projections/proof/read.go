package proof

import (
	"errors"
	"runtime"
	"sync"

	"github.com/keyfleet/keyfleet/events"
)

// Part is a piece of a copy of the log: a commit's body, or a checkpoint that stands behind it.
type Part struct {
	Commit     []byte
	Checkpoint []byte
}

// Source gives a copy of the log, part by part, until yield or it fails. The parts' bytes are yield's to keep. Errors that wrap ErrDamaged
// are about the copy itself; others say that it could not be read.
type Source func(yield func(Part) error) error

// ErrDamaged says that an archive's bytes are not those that were written.
var ErrDamaged = errors.New("the archive is damaged here")

// What is read ahead. Together with what is being decoded this bounds the memory that a Replay needs: some tens of MiB.
const (
	batchParts = 64
	batchBytes = 512 << 10
)

// prepared is a commit with all that needs no other commit to be found out, which is most of the work.
type prepared struct {
	entry      events.Entry
	leaves     []Root // leaf hashes
	err        error
	checkpoint []byte
}

func prepare(p Part) prepared {
	if p.Checkpoint != nil {
		return prepared{checkpoint: p.Checkpoint}
	}
	c, err := events.DecodeCommit(p.Commit)
	if err != nil {
		return prepared{err: err}
	}
	leaves := make([]Root, len(c.Events()))
	for i := range leaves {
		leaves[i] = leafHash(c.Leaf(i))
	}
	return prepared{entry: events.Entry{Commit: c, Chain: events.HashCommit(p.Commit)}, leaves: leaves}
}

// batch is what a worker prepares at a time: a channel costs more than a small commit.
type batch struct {
	parts []Part
	size  int
	done  chan []prepared
	err   error // of the source, behind the parts
}

var errStopped = errors.New("nobody reads on")

// Read takes in all that src gives and shows each commit that fits, in order. What is shown is consistent so far; only
// End says what is proven. Errors that are a *Fault are about the log; all others say that it could not be read.
func (r *Replay) Read(src Source, show func(events.Entry) error) error {
	workers := runtime.GOMAXPROCS(0)
	work, order, stop := make(chan *batch), make(chan *batch, 2*workers), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(order)
		defer close(work)
		feed(src, work, order, stop)
	})
	for range workers {
		running.Go(func() {
			for b := range work {
				list := make([]prepared, len(b.parts))
				for i, p := range b.parts {
					list[i] = prepare(p)
				}
				b.done <- list
			}
		})
	}
	err := r.take(order, show)
	close(stop)
	for range order { // let feed go if it waits here
	}
	running.Wait()
	return err
}

// feed cuts what src gives into batches, each to a worker and, in order, to whoever takes them in.
func feed(src Source, work, order chan<- *batch, stop <-chan struct{}) {
	b := &batch{done: make(chan []prepared, 1)}
	stopped := false
	send := func() error {
		for _, to := range []chan<- *batch{work, order} {
			select {
			case to <- b:
			case <-stop:
				stopped = true // a worker may have the batch, and must not get it twice
				return errStopped
			}
		}
		b = &batch{done: make(chan []prepared, 1)}
		return nil
	}
	err := src(func(p Part) error {
		b.parts = append(b.parts, p)
		if b.size += len(p.Commit) + len(p.Checkpoint); len(b.parts) < batchParts && b.size < batchBytes {
			return nil
		}
		return send()
	})
	if b.err = err; !stopped {
		_ = send() // when nobody reads on, nobody wants the rest
	}
}

func (r *Replay) take(order <-chan *batch, show func(events.Entry) error) error {
	for b := range order {
		for _, p := range <-b.done {
			if p.checkpoint != nil {
				if err := r.checkpoint(p.checkpoint); err != nil {
					return err
				}
				continue
			}
			if err := r.commit(&p); err != nil {
				return err
			}
			if r.doubt != nil {
				continue // it is not known to fit
			}
			if err := show(p.entry); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(b.err, ErrDamaged) && r.doubt != nil:
			return r.fault(r.doubt.earliest(), b.err)
		case errors.Is(b.err, ErrDamaged):
			return r.fault(r.at.Seq+1, b.err)
		case b.err != nil:
			return b.err
		}
	}
	return nil
}
