package registry

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// Log is the event log. Package eventlog keeps it on JetStream.
type Log interface {
	projections.Source
	// Append makes c durable as the very next commit behind after, or says that it did not
	// (events.ErrConflict) or that it cannot know (events.ErrOutcomeUnknown, once ctx has ended).
	Append(ctx context.Context, after events.Position, c *events.Commit) (events.Entry, error)
	// Read gives the commit at a stream sequence.
	Read(ctx context.Context, streamSeq uint64) (events.Entry, error)
	// Last gives the newest commit. While the log servers change their leader it may be an older one.
	Last(ctx context.Context) (events.Entry, error)
	// Now is the clock of the servers that keep the log.
	Now(ctx context.Context) (time.Time, error)
}

// Election decides which registry may try to open the next term. It may err, and elect two: the log
// has the last word.
type Election interface {
	// Win returns once this registry is elected, or ctx ends.
	Win(ctx context.Context) (Leadership, error)
}

// Leadership is an election won.
type Leadership interface {
	// Revision grows from one election to the next.
	Revision() uint64
	// SelfLease is until when, on the clock's Elapsed, this registry may believe that no other is
	// elected: a fixed time behind the sending of its last successful put.
	SelfLease() time.Duration
	// Resign lets others be elected at once.
	Resign()
}

// Options of a Service.
type Options struct {
	Name    string      // of this registry, for people; in the log with every term
	Clock   clock.Clock // default: the system's
	Observe func(Event) // hears what happens, from several goroutines; default: nobody

	SigningKey ed25519.PrivateKey // of the log; without it no grants are given
	Heads      HeadKeeper         // default: no head is kept

	// Full says which storage is nearly full, for people; while there is one, no keys or deployments are created. It is asked
	// in the midst of decisions, so it answers at once. Default: none ever is.
	Full func() string
}

// Service is a registry: the active one, or one that stands by.
type Service struct {
	log      Log
	catalog  *catalog.Catalog
	election Election
	opts     Options
	attested attestation
	calls    chan *call
	asking   atomic.Int64 // callers whose commands are in calls, or further
	scans    chan struct{}
	leading  atomic.Pointer[leading]
	keeping  sync.Mutex // of Heads

	aheadTold atomic.Int64 // when a verifier that is ahead was last told of
}

// leading is set while this registry is the active one.
type leading struct {
	Leadership
	term    uint64
	over    context.Context // done once the term has ended here
	end     func(error)     // ends it
	members *members
}

// call is a command on its way, with its caller waiting.
type call struct {
	cmd    Command
	chance Chance
	secret apikey.Secret // that the registry made for it, if any
	done   chan result
}

type result struct {
	reply any
	seq   events.Seq // that the reply depends on
	err   error
}

// maxWaiting is how many commands may wait for their decision; more wait to be taken in.
const maxWaiting = 4096

// NewService makes a registry of its parts. It does nothing before Run.
func NewService(log Log, cat *catalog.Catalog, election Election, opts Options) *Service {
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	if opts.Observe == nil {
		opts.Observe = func(Event) {}
	}
	return &Service{
		log: log, catalog: cat, election: election, opts: opts,
		attested: attestation{clock: opts.Clock},
		calls:    make(chan *call, maxWaiting),
		scans:    make(chan struct{}, maxScans),
	}
}

// Active reports whether this registry is the active one and may still believe so, and in which term.
func (s *Service) Active() (term uint64, active bool) {
	l := s.leading.Load()
	if l == nil || s.opts.Clock.Elapsed() >= l.SelfLease() {
		return 0, false
	}
	return l.term, true
}

var (
	errStandby = &Refusal{Code: Unavailable,
		Message: "this registry stands by and answers nothing; try again under the same command id"}
	errUnknown = &Refusal{Code: Unavailable,
		Message: "it is not known whether the command took effect; send it again under the same command id"}
)

// Do carries a command out or answers a query. Commands are answered once what the answer rests on is
// durable. The reply is one of KeyReply, DeploymentReply, KeyPage, DeploymentPage, ProjectPage and HistoryPage,
// by pointer. Errors are Refusals, or what AsRefusal calls Unavailable.
func (s *Service) Do(ctx context.Context, cmd Command) (any, error) {
	if err := cmd.check(); err != nil {
		return nil, err
	}
	if cmd.Verb.IsQuery() && cmd.Verb.IsFleetWide() {
		return s.askFleet(ctx, &cmd)
	}
	if cmd.Verb.IsQuery() {
		return s.query(ctx, &cmd)
	}
	c := s.carry(ctx, &cmd)
	done, err := c.result(ctx)
	if err == nil && cmd.Request.Wait == WaitConfirmed {
		s.awaitVerdict(ctx, c.l, &cmd.Request, done)
	}
	return done.reply, err
}

// DoAll carries out commands as Do would for as many callers: they share commits. answer is called for each of them as soon as it can
// be answered: first for those that are refused as they are, then for the others in their order. It takes no queries, and waits for
// no verdicts.
func (s *Service) DoAll(ctx context.Context, cmds []Command, answer func(i int, reply any, err error)) {
	under := make([]carried, len(cmds))
	for i := range cmds {
		err := cmds[i].check()
		if err == nil && (cmds[i].Verb.IsQuery() || cmds[i].Request.Wait == WaitConfirmed) {
			err = refuse(Invalid, "queries, and commands that wait to be confirmed, are sent one by one")
		}
		if err == nil {
			under[i] = s.carry(ctx, &cmds[i])
			err = under[i].err
		}
		if err != nil {
			answer(i, nil, err)
		}
	}
	for i := range under {
		if under[i].call != nil {
			r, err := under[i].result(ctx)
			answer(i, r.reply, err)
		}
	}
}

// carried is a command that is to be decided, and has to be awaited.
type carried struct {
	s    *Service
	l    *leading
	call *call
	err  error // why it will not be decided; nothing else is set then
}

// carry has a command decided that was checked.
func (s *Service) carry(ctx context.Context, cmd *Command) carried {
	l := s.leading.Load()
	if l == nil {
		return carried{err: errStandby}
	}
	c := newCall(cmd)
	if cmd.Verb == FleetRetireSigningKey {
		c.cmd.signs, _ = s.signs()
	}
	return s.enqueue(ctx, l, c)
}

func (s *Service) enqueue(ctx context.Context, l *leading, c *call) carried {
	select {
	case s.calls <- c:
		s.asking.Add(1)
		return carried{s: s, l: l, call: c}
	case <-l.over.Done():
		return carried{err: errStandby}
	case <-ctx.Done():
		return carried{err: errUnknown}
	}
}

// result comes once what it rests on is durable.
func (c *carried) result(ctx context.Context) (result, error) {
	if c.err != nil {
		return result{}, c.err
	}
	defer c.s.asking.Add(-1)
	for over := c.l.over.Done(); ; {
		select {
		case r := <-c.call.done:
			return r, r.err
		case <-over:
			// It may have been put in the queue behind the last look into it.
			if over = nil; c.s.leading.Load() != c.l {
				c.s.turnAway()
			}
		case <-ctx.Done():
			return result{}, errUnknown
		}
	}
}

func newCall(cmd *Command) *call {
	c := &call{cmd: *cmd, done: make(chan result, 1)}
	if cmd.Request.CommandID != "" {
		c.cmd.fingerprint() // here, where callers run side by side, rather than in the one loop that decides
	}
	c.chance.ID = events.NewID()
	if (cmd.Verb == KeyCreate || cmd.Verb == KeyRotate) && cmd.Request.Digest == "" {
		c.secret = apikey.Generate()
		c.chance.Digest, c.chance.Hint = c.secret.Digest(), c.secret.Hint()
	}
	return c
}

// How long a registry that could not lead lets others try before it stands for election again.
const (
	firstPause = time.Second
	longPause  = 30 * time.Second
)

// Run stands by, and leads whenever it is elected, until ctx ends or the log proves to be one that this registry must not
// lead: another than the catalog was folded from, or of a newer schema.
func (s *Service) Run(ctx context.Context) error {
	pause := firstPause
	for {
		won, err := s.standBy(ctx)
		if err != nil {
			return explain(err)
		}
		led, err := s.lead(ctx, won)
		won.Resign()
		if final(err) {
			return explain(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.opts.Observe(SteppedDown{Cause: err})
		if led { // another that stands by has won within the shortest pause
			pause = firstPause
		}
		if err := pauseFor(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longPause)
	}
}

// explain tells people what to do about a final error.
func explain(err error) error {
	switch {
	case !final(err):
		return err
	case errors.Is(err, events.ErrSealed):
		err = errSealed
	case errors.Is(err, events.ErrFork), errors.Is(err, events.ErrIncarnation):
		err = fmt.Errorf("this log is not the one that this registry has seen: restore that one; if this is the true one, "+
			"and what it lost is known to be lost, remove the registry's directory: %w", err)
	}
	return fmt.Errorf("this registry must not lead: %w", err)
}

var errSealed = errors.New("the log has names and descriptions that are sealed by a key that is not at hand: give the file with " +
	"--sealing-key, and leave no older key out of it")

func final(err error) bool {
	return errors.Is(err, events.ErrFork) || errors.Is(err, events.ErrIncarnation) || errors.Is(err, events.ErrUnknownSchema) ||
		errors.Is(err, errSigningKey) || errors.Is(err, events.ErrSealed)
}

// standBy folds the log in until this registry is elected.
func (s *Service) standBy(ctx context.Context) (Leadership, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	go func() {
		err := projections.Follow(ctx, s.log, s.catalog, projections.FollowObserver{
			Applied: func(events.Position) {},
			Stalled: func(err error) { s.opts.Observe(Stalled{Cause: err}) },
		})
		if final(err) {
			cancel() // no use in being elected
		}
		followed <- err
	}()
	won, err := s.election.Win(ctx)
	cancel()
	if ended := <-followed; final(ended) {
		if won != nil {
			won.Resign()
		}
		return nil, ended
	}
	return won, err
}
