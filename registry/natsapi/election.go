package natsapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/registry"
)

// The election's times. A registry believes in its election for selfLease from the sending of its last successful
// put. The bucket forgets that put bucketTTL after it arrived, which is later: by then the old one has stopped
// believing, as far as clocks can be trusted. Where they cannot, the log has the last word: a server whose clock is
// stepped forward forgets the put early, and the old one believes beside the new for what is left of its self-lease. The
// log refuses what it writes then; what it answers to queries, and what it refuses, may be that much out of date.
// Together with electionLook they let a standby take over in under 3 s.
const (
	selfLease    = registry.SelfLease
	bucketTTL    = 2300 * time.Millisecond
	electionLook = 200 * time.Millisecond
	renewEvery   = selfLease / 4
	putTimeout   = selfLease / 2
	openTimeout  = 2 * time.Second
)

const (
	electionBucket = "KEYFLEET_ELECTION"
	electionKey    = "active"
)

// ElectionOptions say who stands for election, and where.
type ElectionOptions struct {
	Name     string      // of the registry, for people
	Replicas int         // of the bucket; default 1
	Clock    clock.Clock // default: the system's
}

// Election elects the active registry by compare-and-set on a key of a NATS KV bucket. Nothing else that the bucket
// says is believed: what it reads may be old.
type Election struct {
	js   jetstream.JetStream
	kv   jetstream.KeyValue
	opts ElectionOptions

	stood bool // of Win, which is called once at a time: there has been an attempt
}

// NewElection opens the bucket, and creates it where it is missing: it holds nothing that must outlive an election.
// While no server answers it keeps asking until ctx ends.
func NewElection(ctx context.Context, nc *nats.Conn, opts ElectionOptions) (*Election, error) {
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	e := &Election{js: js, opts: opts}
	return e, e.openBucket(ctx)
}

// openBucket asks in short attempts: what is sent while the servers elect their own leader is never answered.
func (e *Election) openBucket(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		kv, err := e.js.CreateOrUpdateKeyValue(attempt, jetstream.KeyValueConfig{
			Bucket: electionBucket, History: 1, TTL: bucketTTL,
			Storage: jetstream.FileStorage, Replicas: max(e.opts.Replicas, 1),
		})
		cancel()
		if err == nil {
			e.kv = kv
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("election: open the bucket %s: %w", electionBucket, err)
		}
	}
}

// Win keeps trying to create the key until it is not there: given up, or forgotten by the bucket. An error other
// than ctx's is one that trying on would not mend.
func (e *Election) Win(ctx context.Context) (registry.Leadership, error) {
	look := time.NewTicker(electionLook)
	defer look.Stop()
	for {
		first := !e.stood
		e.stood = true
		sent := e.opts.Clock.Elapsed()
		attempt, cancel := context.WithTimeout(ctx, putTimeout)
		revision, err := e.kv.Create(attempt, electionKey, []byte(e.opts.Name))
		cancel()
		switch {
		case err == nil:
			l := e.lead(revision, sent+selfLease)
			if revision > 1 || first || l.sitOut(ctx) {
				return l, nil
			}
			l.Resign()
		case errors.Is(err, nats.ErrConnectionClosed):
			return nil, fmt.Errorf("election: %w", err)
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			// The bucket may have been lost. If it was not, this changes nothing; if it cannot be made now, then later.
			_ = e.openBucket(ctx)
		}
		// Else the key exists, or nobody answers: neither is for the caller to know.
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// leadership is one election won.
type leadership struct {
	election *Election
	won      uint64
	until    atomic.Int64 // of the self-lease, on the clock's Elapsed
	last     uint64       // revision of the own last put; of keep, then of Resign
	stop     context.CancelFunc
	kept     chan struct{} // closed once keep has ended
	resign   sync.Once
}

func (e *Election) lead(revision uint64, until time.Duration) *leadership {
	ctx, stop := context.WithCancel(context.Background())
	l := &leadership{election: e, won: revision, last: revision, stop: stop, kept: make(chan struct{})}
	l.until.Store(int64(until))
	go l.keep(ctx)
	return l
}

// sitOut waits, renewing, until nobody can believe any more in an election by a bucket that was lost: the first revision
// of a bucket, won at other than the first attempt, says that there may have been another bucket. To wait before the
// attempt would not do: another, that did not see the bucket missing, could win meanwhile. It reports whether the
// election stands then. A registry that starts within that time and wins at once does not wait: it cannot tell
// a bucket that was lost from a new installation, and there the log has the last word.
func (l *leadership) sitOut(ctx context.Context) bool {
	select {
	case <-time.After(selfLease):
	case <-l.kept:
	case <-ctx.Done():
		return false
	}
	return l.SelfLease() > l.election.opts.Clock.Elapsed()
}

func (l *leadership) Revision() uint64 { return l.won }

func (l *leadership) SelfLease() time.Duration { return time.Duration(l.until.Load()) }

// keep puts the key again and again while the self-lease lasts. What is over stays over: whoever was elected
// meanwhile may already have opened a term.
func (l *leadership) keep(ctx context.Context) {
	defer close(l.kept)
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
		case <-ctx.Done():
			return
		}
		sent := l.election.opts.Clock.Elapsed()
		if sent >= l.SelfLease() {
			return
		}
		attempt, cancel := context.WithTimeout(ctx, putTimeout)
		revision, err := l.election.kv.Update(attempt, electionKey, []byte(l.election.opts.Name), l.last)
		cancel()
		switch {
		case err == nil:
			l.last = revision
			l.until.Store(int64(sent + selfLease))
		case isConflict(err):
			// Another's put stands there, or our own whose answer was lost. Not to know is to have lost.
			l.until.Store(0)
			return
		}
	}
}

// isConflict reports whether the server said that the key is at another revision.
func isConflict(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return errors.Is(err, jetstream.ErrKeyExists)
	}
	const wrongLastSequence, wrongLastSequenceConstant = 10071, 10164
	return api.ErrorCode == wrongLastSequence || api.ErrorCode == wrongLastSequenceConstant
}

// Resign gives the key up, if it is still ours, so that another can be elected at once.
func (l *leadership) Resign() {
	l.resign.Do(func() {
		l.stop()
		<-l.kept
		l.until.Store(0)
		ctx, cancel := context.WithTimeout(context.Background(), putTimeout)
		defer cancel()
		_ = l.election.kv.Delete(ctx, electionKey, jetstream.LastRevision(l.last)) // else the bucket forgets it
	})
}
