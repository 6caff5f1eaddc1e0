package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

const (
	defaultWaitTimeout = 30 * time.Second
	firstWait          = time.Second            // of the command itself: most are confirmed long before
	nextWait           = 500 * time.Millisecond // of each further look
)

func confirmPatience(waitTimeout string) time.Duration {
	if d, err := registry.ParseDuration(waitTimeout); err == nil {
		return d
	}
	return defaultWaitTimeout
}

// The states of a confirmation.
const (
	isConfirmed = "confirmed"
	isFenced    = "fenced"
	isPending   = "pending"
)

// awaitVerdict looks again until what the reply depends on is confirmed, or time is up.
func (s *session) awaitVerdict(ctx context.Context, deadline time.Time, reply any) {
	seq, answer := outcomeOf(reply)
	for answer.Confirmation != nil && answer.Confirmation.State == isPending && time.Now().Before(deadline) {
		s.watch(answer.Confirmation)
		now, err := s.receipt(ctx, seq, min(nextWait, time.Until(deadline)))
		if err == nil {
			answer.Confirmation = now
			continue
		}
		select { // what is known stands: the change is recorded
		case <-time.After(nextWait):
		case <-ctx.Done():
			return
		}
	}
	s.watch(nil)
}

func (s *session) receipt(ctx context.Context, seq events.Seq, wait time.Duration) (*registry.Confirmation, error) {
	var reply registry.ReceiptReply
	err := s.ask(ctx, s.timeout+wait, registry.FleetConfirm, registry.Request{Seq: uint64(seq), WaitTimeout: wait.String()}, &reply)
	return reply.Confirmation, err
}

func outcomeOf(reply any) (events.Seq, *registry.Answer) {
	switch r := reply.(type) {
	case *registry.KeyReply:
		return r.Seq, &r.Answer
	case *registry.DeploymentReply:
		return r.Seq, &r.Answer
	case *registry.FleetReply:
		return r.Seq, &r.Answer
	default:
		return 0, &registry.Answer{}
	}
}

// watchConfirmation keeps one line up to date for people who look on.
func (a *app) watchConfirmation() func(*registry.Confirmation) {
	f, ok := a.err.(*os.File)
	if a.json || !ok || !term.IsTerminal(int(f.Fd())) {
		return func(*registry.Confirmation) {}
	}
	shown := false
	return func(c *registry.Confirmation) {
		if shown {
			_, _ = fmt.Fprint(f, "\r\x1b[K")
		}
		if shown = c != nil && c.Receipt != nil; shown {
			_, _ = fmt.Fprintf(f, "%d of %d verifiers have it; waiting for %s", c.Acked, c.Verifiers, clean(waitingFor(c.Waiting, 3)))
		}
	}
}

// tellConfirmation says how far a change has come that was waited for. It is an error unless it is everywhere.
func (a *app) tellConfirmation(wait string, c *registry.Confirmation, seq events.Seq) error {
	if wait != registry.WaitConfirmed {
		return nil
	}
	return a.tellReceipt(c, seq)
}

func (a *app) tellReceipt(c *registry.Confirmation, seq events.Seq) error {
	if c == nil || c.Receipt == nil {
		return notConfirmedError("recorded at Seq %d; ask again with keyfleet fleet confirm %[1]d", seq)
	}
	for _, r := range c.Released {
		a.say("not asked: %s, released by %s (%s)", clean(r.Verifier+" in "+orDash(r.PoP)), clean(r.AssertedBy), clean(r.Reason))
	}
	switch c.State {
	case isConfirmed:
		a.say("Seq %d is confirmed: %s%s", seq, counted(c.Verifiers), slowest(c.Slowest))
		return nil
	case isFenced:
		a.say("Seq %d is fenced: %d of %s; stopped answering by %s: %s", seq, c.Acked, counted(c.Verifiers), c.FencedAt, clean(waitingFor(c.Waiting, 10)))
		return nil
	default:
		until := "for as long as they like: they serve on past their lease; keyfleet fleet release ends the wait for one that is scrapped"
		if c.FencedAt != nil {
			until = fmt.Sprintf("until %s at the latest", c.FencedAt)
		}
		return notConfirmedError("Seq %d is recorded, and %d of %s; these may still answer from before, %s: %s. Ask again with keyfleet fleet confirm %[1]d",
			seq, c.Acked, counted(c.Verifiers), until, waitingFor(c.Waiting, 10))
	}
}

func counted(verifiers int) string {
	if verifiers == 1 {
		return "1 verifier has it"
	}
	return fmt.Sprintf("%d verifiers have it", verifiers)
}

func slowest(s *registry.Slowest) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("; the last was %s in %s, after %d ms", clean(s.Verifier), clean(orDash(s.PoP)), s.Ms)
}

func waitingFor(waiting []registry.Waiting, most int) string {
	var names []string
	for i, w := range waiting {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(waiting)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s in %s (%s)", w.Verifier, orDash(w.PoP), w.Instance))
	}
	return strings.Join(names, ", ")
}

func notConfirmedError(format string, args ...any) error {
	err := unavailableError(format, args...)
	var f *failure
	if errors.As(err, &f) {
		f.code = "not_confirmed"
	}
	return err
}
