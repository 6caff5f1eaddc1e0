package fleet_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of the dialogues anew")

// TestDialogues plays testdata/*.dialogue: what verifiers and the log say to a fleet, and what it says to that.
//
//	term 2                   another registry takes over here, which heard nothing yet
//	at 10m                   sets the clock
//	joins p deny             the log says so, as of all that follows up to lease
//	left p
//	commit 3                 a commit of so many events
//	lease 5m
//	copy p c                 another machine that is the instance p, with its ticket
//	> renews p 4             with what is applied; "lost" behind it: the answer does not arrive; "forked": by another chain
//	> acks p 4
//	> verdict 4
//	> await 4                begins a wait; "waits" tells how those that were begun stand
//	> lapsed
//	> leaves p               who says goodbye: whether it may
//	= what it says to that
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			played := newStage(t).play(string(text))
			if *rewrite {
				text = []byte(played)
				require.NoError(t, os.WriteFile(file, text, 0o600))
			}
			require.Equal(t, string(text), played)
		})
	}
}

// stage is a fleet and the log that it is told of.
type stage struct {
	t       *testing.T
	fleet   *fleet.Fleet
	charter projections.Charter
	end     events.Seq
	now     time.Duration
	is      map[string]events.InstanceID // what each machine is
	has     map[string]head.Ticket
	drawn   byte
	waits   []*fleet.Wait
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, is: map[string]events.InstanceID{}, has: map[string]head.Ticket{}}
	s.say(events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}})
	s.open(1)
	return s
}

func (s *stage) open(term uint64) {
	t := fleet.Term{Number: term, Opened: s.now, Before: 2 * time.Second}
	charter := s.charter
	s.fleet = fleet.Open(t, &charter, headAt(s.end), [32]byte{})
}

// headAt is the head of the stage's one log.
func headAt(seq events.Seq) head.Head {
	return head.Head{Incarnation: events.Incarnation{1}, Seq: seq, Chain: events.ChainHash{byte(seq), byte(seq >> 8), byte(seq >> 16)}}
}

// say makes a commit of the events durable.
func (s *stage) say(es ...events.Event) {
	for i := range es {
		s.end++
		require.NoError(s.t, s.charter.Evolve(&es[i], s.end, 0))
	}
	if s.fleet != nil {
		charter := s.charter
		s.fleet.Durable(&charter, headAt(s.end), [32]byte{}, s.now)
	}
}

func (s *stage) play(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == "=" {
			continue
		}
		out.WriteString(line)
		switch {
		case len(words) > 0 && words[0] == ">":
			fmt.Fprintf(&out, "= %s\n", s.ask(words[1:]))
		case len(words) > 0 && words[0] != "#":
			s.tell(words)
		}
	}
	return out.String()
}

func (s *stage) number(text string) events.Seq {
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(s.t, err)
	return events.Seq(n)
}

func (s *stage) tell(words []string) {
	about := words[1]
	switch words[0] {
	case "term":
		s.say(events.Event{Fact: &events.TermOpened{Term: uint64(s.number(about))}})
		s.open(uint64(s.number(about)))
	case "at":
		var err error
		s.now, err = time.ParseDuration(about)
		require.NoError(s.t, err)
	case "joins":
		s.is[about] = events.InstanceID{about[0]}
		s.say(events.Event{Subject: s.is[about], Fact: &events.VerifierRegistered{Mode: events.Mode(words[2])}})
	case "left":
		s.say(events.Event{Subject: s.is[about], Fact: &events.VerifierLeft{}})
	case "commit":
		s.say(slices.Repeat([]events.Event{{Fact: &events.Edited{}}}, int(s.number(about)))...)
	case "lease":
		s.say(events.Event{Fact: &events.SettingChanged{Name: projections.LeaseSetting, Value: about}})
	case "copy":
		s.is[words[2]], s.has[words[2]] = s.is[about], s.has[about]
	default:
		require.Fail(s.t, "no such word", words[0])
	}
}

func (s *stage) ask(words []string) string {
	switch words[0] {
	case "lapsed":
		return s.names(s.fleet.Lapsed(s.now))
	case "leaves":
		return s.leave(words[1])
	case "waits":
		return s.standing()
	case "verdict":
		return s.verdict(s.fleet.Verdict(s.number(words[1]), s.now))
	case "await":
		s.waits = append(s.waits, s.fleet.Await(s.number(words[1])))
		return s.standing()
	}
	applied := headAt(s.number(words[2]))
	if words[len(words)-1] == "forked" {
		applied.Chain = events.ChainHash{99}
	}
	ack := head.Ack{Instance: s.is[words[1]], Head: applied}
	if words[0] == "acks" {
		s.fleet.Ack(ack, s.now)
		return s.standing()
	}
	return s.renew(words[1], ack, words[len(words)-1] == "lost")
}

func (s *stage) renew(machine string, ack head.Ack, lost bool) string {
	s.drawn++
	g, err := s.fleet.Grant(&head.Renewal{Ack: ack, Ticket: s.has[machine]}, head.Ticket{s.drawn}, s.now)
	switch {
	case errors.Is(err, fleet.ErrStranger):
		return "stranger"
	case errors.Is(err, fleet.ErrTorn):
		return "torn"
	case errors.Is(err, fleet.ErrAhead):
		return "ahead"
	case errors.Is(err, fleet.ErrLate):
		return "late"
	}
	require.NoError(s.t, err)
	if !lost {
		s.has[machine] = g.Ticket
	}
	return fmt.Sprintf("head %d, term %d, lease %s, ticket %d for %d", g.Seq, g.Term, g.Lease, g.Ticket[0], s.drawn)
}

func (s *stage) leave(machine string) string {
	if !s.fleet.MayLeave(head.Goodbye{Instance: s.is[machine], Ticket: s.has[machine]}) {
		return "forbidden"
	}
	s.fleet.Leaves(s.is[machine])
	return "it may"
}

func (s *stage) verdict(v fleet.Verdict) string {
	said := fmt.Sprintf("%d-%d %s, %d of %d", v.First, v.Seq, v.State, v.Members-len(v.Missing), v.Members)
	for _, m := range v.Missing {
		stops := m.StopsAt.String()
		if m.StopsAt == fleet.Never {
			stops = "never"
		}
		said += fmt.Sprintf("; %s stops at %s", s.names([]events.InstanceID{m.Instance}), stops)
	}
	return said
}

func (s *stage) standing() string {
	said := make([]string, 0, len(s.waits))
	for _, w := range s.waits {
		select {
		case <-w.Confirmed():
			said = append(said, "confirmed")
		default:
			said = append(said, "waiting")
		}
	}
	if len(said) == 0 {
		return "nobody waits"
	}
	return strings.Join(said, ", ")
}

// names are those of the machines that were the instances first.
func (s *stage) names(of []events.InstanceID) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.is)) {
		if slices.Contains(of, s.is[name]) && s.is[name][0] == name[0] {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, " ")
}
