package fleet_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

func TestHowAHeadComparesToTheLog(t *testing.T) {
	s := newStage(t)
	s.play("commit 1\ncommit 3\nterm 2\ncommit 2\n")
	forked, foreign := headAt(6), headAt(6)
	forked.Chain = events.ChainHash{99}
	foreign.Incarnation = events.Incarnation{2}
	for name, test := range map[string]struct {
		head head.Head
		want fleet.Standing
	}{
		"nothing":            {head.Head{}, fleet.Same},
		"the end":            {headAt(8), fleet.Same},
		"behind the end":     {headAt(9), fleet.Ahead},
		"inside a commit":    {headAt(7), fleet.Other},
		"another chain":      {forked, fleet.Other},
		"another log":        {foreign, fleet.Other},
		"before the term":    {headAt(5), fleet.Older},
		"where it was taken": {headAt(6), fleet.Same},
	} {
		assert.Equal(t, test.want, s.fleet.Compare(test.head), name)
	}
}

// Of a log that grows without end the newest commits are remembered. Of what is forgotten nothing is taken on trust: what was
// acknowledged counts, and who acknowledges only now is asked again for something newer.
func TestWhatIsForgottenIsNeverConfirmedByIt(t *testing.T) {
	const more = 1 << 16
	s := newStage(t)
	s.play("joins p deny\njoins q deny\ncommit 1\n> acks p 4\n")
	for range more {
		s.now += time.Millisecond
		s.say(events.Event{Fact: &events.Edited{}})
	}
	require.Equal(t, fleet.Older, s.fleet.Compare(headAt(4)))
	require.Equal(t, fleet.Same, s.fleet.Compare(headAt(5)))
	s.play("> acks q 4\n")
	v := s.fleet.Verdict(4, s.now)
	require.Equal(t, fleet.Pending, v.State)
	require.EqualValues(t, 5, v.Seq, "the oldest that is remembered stands for all before it")
	require.Len(t, v.Missing, 2)
	s.play("> acks p 5\n> acks q 6\n")
	require.Equal(t, fleet.Confirmed, s.fleet.Verdict(4, s.now).State)
}
