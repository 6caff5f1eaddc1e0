package eventlogtest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
)

func testEveryPosition(_ *testing.T, s *suite) {
	at := s.end()
	positions := []events.Position{{}, at}
	for n := range 8 {
		at = s.append(at, n+1)
		positions = append(positions, at)
	}
	for i := range positions[:len(positions)-1] {
		s.wantPositions(positions[i], positions[i+1:])
	}
}

// testTail appends while a reader that has caught up waits: each commit must come without another one's push.
func testTail(t *testing.T, s *suite) {
	start := s.end()
	came := make(chan events.Position)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Log.Follow(ctx, start, func(batch []events.Entry) error {
			for _, e := range batch {
				came <- Behind(e)
			}
			return nil
		})
	}()
	at := start
	for range 20 {
		at = s.append(at, 1)
		select {
		case got := <-came:
			if got != at {
				t.Fatalf("appended %+v, %+v came", at, got)
			}
		case err := <-ended:
			t.Fatalf("follow ended: %v", err)
		}
	}
	cancel()
	s.wantErr(<-ended, context.Canceled)
}

func testFork(_ *testing.T, s *suite) {
	at := s.append(s.end(), 1)
	forked := at
	forked.Chain[0] ^= 1
	_, err := s.read(forked, 100)
	s.wantErr(err, events.ErrFork)
	s.append(at, 1)
	_, err = s.read(forked, 100)
	s.wantErr(err, events.ErrFork)
	ahead := at
	ahead.StreamSeq, ahead.Seq = 50, 50
	_, err = s.read(ahead, 100)
	s.wantErr(err, eventlog.ErrRollback, events.ErrFork)
}

func testIncarnation(_ *testing.T, s *suite) {
	first := s.end()
	third := s.append(s.append(first, 1), 1)
	s.Recreate()
	for range 4 { // shorter than before, then as long, then longer
		for _, from := range []events.Position{first, third} {
			_, err := s.read(from, 100)
			s.wantErr(err, events.ErrIncarnation)
		}
		s.append(s.end(), 1)
	}
}

// testIncarnationWhileReading recreates the log under a reader that has caught up. It may find out in two steps.
func testIncarnationWhileReading(t *testing.T, s *suite) {
	at := s.append(s.end(), 1)
	recreated := false
	err := s.Log.Follow(s.ctx, events.Position{}, func(batch []events.Entry) error {
		last := Behind(batch[len(batch)-1])
		if last.Incarnation != at.Incarnation {
			t.Error("delivered a commit of another log")
		}
		if last == at && !recreated {
			recreated = true
			s.Recreate()
			s.append(s.append(s.end(), 1), 1)
		}
		return nil
	})
	if !errors.Is(err, events.ErrIncarnation) {
		_, err = s.read(at, 100)
	}
	s.wantErr(err, events.ErrIncarnation)
}

// testFaults puts what does not belong there behind good commits: all of those come, and then the error.
func testFaults(t *testing.T, s *suite) {
	changed := func(change func(*events.Commit)) func(events.Position) []byte {
		return func(after events.Position) []byte {
			c := NewCommit(t, after, 1)
			change(c)
			return s.encode(c)
		}
	}
	for name, fault := range map[string]struct {
		body func(after events.Position) []byte
		want error
	}{
		"garbage":             {func(events.Position) []byte { return []byte("garbage") }, events.ErrMalformed},
		"nothing":             {func(events.Position) []byte { return nil }, events.ErrMalformed},
		"an unknown type":     {s.unknownType, events.ErrUnknownType},
		"an unknown schema":   {changed(func(c *events.Commit) { c.Schema = 99 }), events.ErrUnknownSchema},
		"a wrong parent":      {changed(func(c *events.Commit) { c.Parent[0] ^= 1 }), events.ErrFork},
		"a gap":               {changed(func(c *events.Commit) { c.First++ }), events.ErrGap},
		"another incarnation": {changed(func(c *events.Commit) { c.Incarnation[0] ^= 1 }), events.ErrIncarnation},
	} {
		t.Run(name, func(t *testing.T) {
			s := &suite{T: t, Harness: s.Harness, ctx: s.ctx}
			s.Recreate()
			good := s.append(s.end(), 2)
			s.Publish(fault.body(good))
			got, err := s.read(events.Position{}, 100)
			s.wantErr(err, fault.want)
			if len(got) != 2 || got[1] != good {
				t.Fatalf("delivered %d commits before the fault, want 2", len(got))
			}
			_, err = s.read(good, 100)
			s.wantErr(err, fault.want)
			_, err = s.Log.Append(s.ctx, good, NewCommit(t, good, 1))
			s.wantErr(err, events.ErrConflict)
		})
	}
}

// unknownType is a commit whose event's type is of no schema.
func (s *suite) unknownType(after events.Position) []byte {
	return bytes.Replace(s.encode(NewCommit(s.T, after, 1)), []byte("created"), []byte("fnorded"), 1)
}

// testBatches has more commits wait than one batch may hold, while the first is being delivered.
func testBatches(t *testing.T, s *suite) {
	start := s.end()
	at := start
	var bodies [][]byte
	for bytes := 0; bytes < 2*eventlog.MaxBatchBytes; {
		c := NewCommit(t, at, events.MaxCommitEvents)
		body := s.encode(c)
		bodies, bytes = append(bodies, body), bytes+len(body)
		at = Behind(events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: at.StreamSeq + 1})
	}
	s.Publish(bodies...)
	delivered, longest := 0, 0
	err := s.Log.Follow(s.ctx, start, func(batch []events.Entry) error {
		bytes := 0
		for i := range batch {
			bytes += len(bodies[delivered+i])
		}
		longest = max(longest, bytes-len(bodies[delivered+len(batch)-1]))
		if delivered == 0 {
			time.Sleep(200 * time.Millisecond) // a slow reader: the others pile up meanwhile
		}
		delivered += len(batch)
		if Behind(batch[len(batch)-1]) == at {
			return errDone
		}
		return nil
	})
	s.wantErr(err, errDone)
	if delivered != len(bodies) || longest > eventlog.MaxBatchBytes {
		t.Fatalf("%d of %d commits came, in batches of up to %d bytes and one commit", delivered, len(bodies), longest)
	}
}

func testDeliverError(t *testing.T, s *suite) {
	s.append(s.end(), 1)
	_, err := s.read(events.Position{}, 1)
	if err != errDone { //nolint:errorlint // not wrapped: exactly what deliver returned
		t.Fatalf("got %v, want deliver's own error", err)
	}
}

func testFollowContext(t *testing.T, s *suite) {
	at := s.end()
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Log.Follow(ctx, events.Position{}, func(batch []events.Entry) error {
			if Behind(batch[len(batch)-1]) == at {
				cancel()
			}
			return nil
		})
	}()
	select {
	case err := <-ended:
		s.wantErr(err, context.Canceled)
	case <-s.ctx.Done():
		t.Fatal("follow goes on though its context has ended")
	}
	await(t, "follow's goroutines to end", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(stacks, []byte(").Follow(")) && !bytes.Contains(stacks, []byte("eventlog.(*intake)"))
	})
}

// testRestart restarts the server while one goroutine appends and another one reads.
func testRestart(t *testing.T, s *suite) {
	if s.Restart == nil {
		t.Skip("nothing to restart")
	}
	start := s.end()
	appended := make(chan []events.Position, 1)
	halfway := make(chan struct{})
	const commits = 60
	go func() {
		at, all := start, []events.Position(nil)
		for i := range commits {
			if i == commits/2 {
				close(halfway)
			}
			e, err := s.Log.Append(s.ctx, at, NewCommit(t, at, 1))
			if err != nil {
				t.Errorf("append during a restart: %v", err)
				break
			}
			at = Behind(e)
			all = append(all, at)
		}
		appended <- all
	}()
	var read []events.Position
	done := make(chan struct{})
	go func() {
		defer close(done)
		read = s.readThrough(start, start.Seq+commits)
	}()
	<-halfway
	s.Restart()
	want := <-appended
	<-done
	if len(read) != len(want) {
		t.Fatalf("%d commits were read of %d", len(read), len(want))
	}
	for i := range want {
		if read[i] != want[i] {
			t.Fatalf("commit %d was read at %+v, appended at %+v", i, read[i], want[i])
		}
	}
}

// readThrough follows on after each interruption, as every follower does.
func (s *suite) readThrough(from events.Position, until events.Seq) (all []events.Position) {
	for s.ctx.Err() == nil {
		got, err := s.read(from, until)
		all = append(all, got...)
		if len(got) > 0 {
			from = got[len(got)-1]
		}
		if errors.Is(err, errDone) {
			return all
		}
		if errors.Is(err, events.ErrFork) || errors.Is(err, events.ErrIncarnation) || errors.Is(err, events.ErrGap) {
			s.Errorf("a restart looks like another log: %v", err)
			return all
		}
		time.Sleep(10 * time.Millisecond) // a pause between attempts, not a wait for something
	}
	s.Errorf("reading did not get to Seq %d: %v", until, s.ctx.Err())
	return all
}
