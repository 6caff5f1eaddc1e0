package eventlogtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
)

func testReadBack(t *testing.T, s *suite) {
	at := s.end()
	if at.Seq != 1 || at.StreamSeq != 1 {
		t.Fatalf("a new log ends at %+v; want its one log_opened", at)
	}
	c := NewCommit(t, at, 7)
	appended, err := s.Log.Append(s.ctx, at, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := Behind(appended); got.Seq != 8 || got.StreamSeq != 2 || got.Chain != events.HashCommit(s.encode(c)) {
		t.Fatalf("appended at %+v", got)
	}
	read, err := s.Log.Read(s.ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	if Behind(read) != Behind(appended) || string(s.encode(read.Commit)) != string(s.encode(c)) {
		t.Fatalf("read %+v, appended %+v", Behind(read), Behind(appended))
	}
	if s.end() != Behind(appended) {
		t.Fatalf("the log ends at %+v", s.end())
	}
	_, err = s.Log.Read(s.ctx, 3)
	s.wantErr(err, eventlog.ErrNoCommit)
}

// testRace lets two writers append to the same place, again and again.
func testRace(t *testing.T, s *suite) {
	const rounds = 20
	at := s.end()
	want := []events.Position{at}
	for range rounds {
		var ends [2]events.Entry
		var errs [2]error
		commits := [2]*events.Commit{NewCommit(t, at, 1), NewCommit(t, at, 3)}
		var writers sync.WaitGroup
		for i := range 2 {
			writers.Go(func() { ends[i], errs[i] = s.Log.Append(s.ctx, at, commits[i]) })
		}
		writers.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		if errs[winner] != nil || !errors.Is(errs[1-winner], events.ErrConflict) {
			t.Fatalf("two racing writers ended in %v and %v; want one success and one conflict", errs[0], errs[1])
		}
		at = Behind(ends[winner])
		want = append(want, at)
	}
	s.wantPositions(events.Position{}, want)
}

func testConflict(t *testing.T, s *suite) {
	start := s.end()
	first := s.append(start, 2)
	_, err := s.Log.Append(s.ctx, start, NewCommit(t, start, 1))
	s.wantErr(err, events.ErrConflict)
	second := s.append(first, 1)
	_, err = s.Log.Append(s.ctx, start, NewCommit(t, start, 1)) // far behind by now
	s.wantErr(err, events.ErrConflict)
	s.wantPositions(events.Position{}, []events.Position{start, first, second})
}

func testMisplaced(t *testing.T, s *suite) {
	start := s.end()
	c := NewCommit(t, start, 1)
	c.Parent[0] ^= 1
	if _, err := s.Log.Append(s.ctx, start, c); err == nil || errors.Is(err, events.ErrFork) {
		t.Fatalf("a commit with another parent: %v; want a plain refusal", err)
	}
	if s.end() != start {
		t.Fatal("it was written nevertheless")
	}
}

// testLostAck loses an append's answer. What the caller sees may differ, but not what the log holds.
func testLostAck(t *testing.T, s *suite) {
	start := s.end()
	c := NewCommit(t, start, 2)
	s.LoseAck()
	e, err := s.Log.Append(s.ctx, start, c)
	if errors.Is(err, events.ErrOutcomeUnknown) {
		e, err = s.Log.Append(s.ctx, start, c)
	}
	if err != nil {
		t.Fatalf("after a lost ack: %v", err)
	}
	again, err := s.Log.Append(s.ctx, start, c)
	if err != nil || Behind(again) != Behind(e) {
		t.Fatalf("the same commit once more: %v", err)
	}
	s.wantPositions(start, []events.Position{Behind(e), s.append(Behind(e), 1)})
}

func testAppendContext(t *testing.T, s *suite) {
	start := s.end()
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.Log.Append(ended, start, NewCommit(t, start, 1)); !errors.Is(err, context.Canceled) || errors.Is(err, events.ErrOutcomeUnknown) {
		t.Fatalf("appended with a context that had ended: %v", err)
	}
	far := start
	far.StreamSeq = 100 // an end that the log does not reach: nothing ever settles it
	short, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := s.Log.Append(short, far, NewCommit(t, far, 1))
	s.wantErr(err, events.ErrOutcomeUnknown, context.DeadlineExceeded)
	if s.end() != start {
		t.Fatal("something was written")
	}
}

func testNow(t *testing.T, s *suite) {
	before := time.Now()
	now, err := s.Log.Now(s.ctx)
	if err != nil || now.Before(before.Add(-time.Millisecond)) || now.After(time.Now().Add(time.Millisecond)) {
		t.Fatalf("the server of this machine says it is %v, after %v: %v", now, before, err)
	}
}
