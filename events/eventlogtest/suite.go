package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Log is what the suite holds to one contract: that of eventlog.Log.
type Log interface {
	Append(ctx context.Context, after events.Position, c *events.Commit) (events.Entry, error)
	Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error
	Last(ctx context.Context) (events.Entry, error)
	Read(ctx context.Context, streamSeq uint64) (events.Entry, error)
	Now(ctx context.Context) (time.Time, error)
}

// Harness is a log under test, new and open, with hands on what lies beneath it.
type Harness struct {
	Log Log
	// Publish puts messages at the log's end as a stranger would, past all of Append's rules.
	Publish func(bodies ...[]byte)
	// Recreate throws the log away and opens another in its place.
	Recreate func()
	// LoseAck lets the next append be stored and its answer be lost.
	LoseAck func()
	// Restart stops what serves the log and starts it again; nil where nothing does.
	Restart func()
}

// TestLog checks that a log keeps the contract. open is called once for each of its tests.
func TestLog(t *testing.T, open func(t *testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, *suite){
		"reads back what was appended":             testReadBack,
		"follows from every position":              testEveryPosition,
		"goes on with new commits":                 testTail,
		"one of two racing writers wins":           testRace,
		"keeps nothing of a commit that lost":      testConflict,
		"refuses a commit made for another place":  testMisplaced,
		"recognises its own after a lost ack":      testLostAck,
		"ends an append with its context":          testAppendContext,
		"finds a fork and a rollback":              testFork,
		"finds another incarnation":                testIncarnation,
		"finds another incarnation while reading":  testIncarnationWhileReading,
		"delivers all before a fault":              testFaults,
		"batches what is at hand, within bounds":   testBatches,
		"returns what deliver returns":             testDeliverError,
		"returns promptly when the context ends":   testFollowContext,
		"loses and repeats nothing over a restart": testRestart,
		"tells the server's time":                  testNow,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s := &suite{T: t, ctx: ctx, Harness: open(t)}
			test(t, s)
		})
	}
}

// suite is one test's log with a writer's view of it.
type suite struct {
	*testing.T
	Harness
	ctx context.Context
}

// end is the position behind the log's last commit.
func (s *suite) end() events.Position {
	s.Helper()
	last, err := s.Log.Last(s.ctx)
	if err != nil {
		s.Fatalf("read the last commit: %v", err)
	}
	return Behind(last)
}

// append adds a commit of n events, which must succeed.
func (s *suite) append(after events.Position, n int) events.Position {
	s.Helper()
	e, err := s.Log.Append(s.ctx, after, NewCommit(s.T, after, n))
	if err != nil {
		s.Fatalf("append behind Seq %d: %v", after.Seq, err)
	}
	return Behind(e)
}

var (
	errDone      = errors.New("that is all") // how the suite's readers stop
	errDelivered = errors.New("what came is wrong")
)

// read follows from a position until Seq is delivered or Follow fails, and gives the positions behind each commit.
func (s *suite) read(from events.Position, until events.Seq) ([]events.Position, error) {
	s.Helper()
	var positions []events.Position
	at := from
	err := s.Log.Follow(s.ctx, from, func(batch []events.Entry) error {
		if len(batch) == 0 {
			return fmt.Errorf("%w: an empty batch", errDelivered)
		}
		for _, e := range batch {
			next, err := at.Next(e)
			if err != nil {
				return fmt.Errorf("%w: %w", errDelivered, err)
			}
			at = next
			positions = append(positions, at)
		}
		if at.Seq >= until {
			return errDone
		}
		return nil
	})
	return positions, err
}

// wantPositions reads from a position to the log's end and compares. It goes on when it is interrupted, as readers do: a server of
// a cluster may not have yet what its leader has just acknowledged.
func (s *suite) wantPositions(from events.Position, want []events.Position) {
	s.Helper()
	until, at, attempts := want[len(want)-1].Seq, from, 10
	got, err := s.read(at, until)
	for ; isInterruption(err) && attempts > 0; attempts-- {
		if len(got) > 0 {
			at = got[len(got)-1]
		}
		var more []events.Position
		more, err = s.read(at, until)
		got = append(got, more...)
	}
	if !errors.Is(err, errDone) {
		s.Fatalf("follow from Seq %d: %v", from.Seq, err)
	}
	if len(got) != len(want) {
		s.Fatalf("followed %d commits from Seq %d, want %d", len(got), from.Seq, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			s.Fatalf("commit %d from Seq %d is at %+v, want %+v", i, from.Seq, got[i], want[i])
		}
	}
}

// isInterruption reports whether an error of Follow is one of the connection.
func isInterruption(err error) bool {
	for _, other := range []error{
		errDone, errDelivered, context.Canceled, context.DeadlineExceeded, events.ErrGap, events.ErrFork, events.ErrIncarnation,
		events.ErrMalformed, events.ErrUnknownSchema, events.ErrUnknownType,
	} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// wantErr fails unless err is one of the wanted.
func (s *suite) wantErr(err error, want ...error) {
	s.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			s.Fatalf("got %v; want %v", err, w)
		}
	}
}

// encode gives the body of a commit of the events, made to follow after.
func (s *suite) encode(c *events.Commit) []byte {
	s.Helper()
	body, err := c.Encode()
	if err != nil {
		s.Fatal(err)
	}
	return body
}
