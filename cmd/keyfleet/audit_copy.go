package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/schollz/progressbar/v3"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

// auditCopy is a copy of the log that an audit reads: an archive, or the stream on the NATS server.
type auditCopy struct {
	source     proof.Source
	end        events.Seq // of the stream; 0 for an archive, which says itself where it ends
	checkpoint []byte     // the last that an archive holds, once it was read
	bar        *progressbar.ProgressBar
	close      func()
}

// openCopy opens the archive of that name, else the stream.
func (a *app) openCopy(ctx context.Context, file, doing string) (*auditCopy, error) {
	if file == "" {
		return a.openStreamCopy(ctx, doing)
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusedError(registry.NotFound, "there is no archive %s; keyfleet audit export writes one", file)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c := &auditCopy{bar: a.progress(int(info.Size()), doing)}
	c.close = func() { _ = f.Close() }
	c.source = c.watched(proof.ReadArchive(io.TeeReader(f, c.bar)))
	return c, nil
}

func (a *app) openStreamCopy(ctx context.Context, doing string) (*auditCopy, error) {
	p, err := a.client.locate()
	if err != nil {
		return nil, err
	}
	nc, err := a.client.connect(p)
	if err != nil {
		return nil, err
	}
	log, end, err := a.client.openForReading(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := &auditCopy{end: end, close: nc.Close, bar: a.progress(int(end), doing)}
	c.source = c.watched(func(yield func(proof.Part) error) error {
		return log.Scan(ctx, func(body []byte) error { return yield(proof.Part{Commit: body}) })
	})
	return c, nil
}

// watched keeps the last checkpoint that goes by.
func (c *auditCopy) watched(src proof.Source) proof.Source {
	return func(yield func(proof.Part) error) error {
		return src(func(p proof.Part) error {
			if p.Checkpoint != nil {
				c.checkpoint = p.Checkpoint
			}
			return yield(p)
		})
	}
}

// replay reads the whole copy, and says what is proven of it.
func (c *auditCopy) replay(opts proof.Options, show func(events.Entry) error) (proof.Verified, error) {
	r, err := proof.NewReplay(opts)
	if err != nil {
		return proof.Verified{}, refusedError(registry.Invalid, "--pin: %v", err)
	}
	err = r.Read(c.source, func(e events.Entry) error {
		if c.end > 0 {
			_ = c.bar.Set64(int64(e.Commit.Last())) // a bar that cannot be drawn is no reason to stop
		}
		return show(e)
	})
	_ = c.bar.Finish()
	if err != nil {
		return proof.Verified{}, err
	}
	v, err := r.End()
	if err == nil && v.Seq < c.end {
		err = &proof.Fault{Seq: v.Seq + 1, Proven: v.Signed, Cause: fmt.Errorf("the stream had a commit up to Seq %d a moment ago, and ends here", c.end)}
	}
	return v, err
}

// auditTrust says what a copy is held against.
type auditTrust struct {
	keys logKeys
	pins []string
}

func (t *auditTrust) options() (proof.Options, error) {
	opts := proof.Options{Keys: t.keys}
	for _, name := range t.pins {
		note, err := os.ReadFile(name)
		if err != nil {
			return opts, refusedError(registry.NotFound, "--pin: %v", err)
		}
		opts.Pins = append(opts.Pins, note)
	}
	return opts, nil
}

// faulty says that a copy is not the log. It is an answer, not a failure to find one.
type faulty struct {
	Verified bool       `json:"verified"`
	BadSeq   events.Seq `json:"first_bad_seq"`
	Proven   events.Seq `json:"proven_up_to"`
	Problem  string     `json:"problem"`
}

// asRefusal makes the refusal of a copy that proved wrong of a fault.
func (a *app) asRefusal(err error) error {
	var fault *proof.Fault
	if !errors.As(err, &fault) {
		return err
	}
	if a.json {
		if err := writeJSON(a.out, faulty{BadSeq: fault.Seq, Proven: fault.Proven, Problem: fault.Cause.Error()}); err != nil {
			return err
		}
		return silent(statusRefused)
	}
	return refusedError(registry.Conflict, "%v; signed checkpoints vouch for it up to Seq %d", fault, fault.Proven)
}
