package registry

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

var errCaughtUp = errors.New("caught up")

const (
	rollbackLook     = 250 * time.Millisecond
	rollbackPatience = 15 * time.Second // a NATS server that lost its quorum goes on answering as a leader for 10 s
)

// openTerm catches up and makes term_opened durable (rule TERM). Until then nothing may be answered.
func (s *Service) openTerm(ctx context.Context, won Leadership) (uint64, error) {
	if err := s.compareClocks(ctx); err != nil {
		return 0, err
	}
	if err := s.catchUp(ctx); err != nil {
		return 0, err
	}
	if err := s.checkKept(ctx); err != nil {
		return 0, err
	}
	if err := s.keepHead(); err != nil {
		return 0, err
	}
	before := s.catalog.Position().Term
	for {
		if schema := s.catalog.Charter().Schema; schema > events.Schema {
			return 0, fmt.Errorf("%w: schema %d, newest known is %d", events.ErrUnknownSchema, schema, events.Schema)
		}
		if s.opts.Clock.Elapsed() >= won.SelfLease() {
			return 0, errSelfLease
		}
		term, err := s.appendTerm(ctx, won.Revision())
		if !errors.Is(err, events.ErrConflict) {
			return term, err
		}
		if err := s.catchUp(ctx); err != nil {
			return 0, err
		}
		if newest := s.catalog.Position().Term; newest > before {
			return 0, fmt.Errorf("%w: term %d, before this one could be opened", errDeposed, newest)
		}
	}
}

var errSigningKey = errors.New("the signing key is not one of this log's, or was retired: name the file that keyfleet init wrote, " +
	"or that keyfleet fleet signing-key add named since, with --signing-key")

// signs is the public half of what this registry signs with, if it signs.
func (s *Service) signs() (key events.PublicKey, signs bool) {
	if len(s.opts.SigningKey) != ed25519.PrivateKeySize {
		return key, false
	}
	return events.PublicKey(s.opts.SigningKey[ed25519.SeedSize:]), true
}

// checkKept holds the own signing key, and the newest head that was signed with it or answered by, against the log.
func (s *Service) checkKept(ctx context.Context) error {
	if key, signs := s.signs(); signs && !slices.Contains(s.catalog.Charter().SigningKeys, key) {
		return errSigningKey
	}
	if s.opts.Heads == nil {
		return nil
	}
	kept, has := s.opts.Heads.Kept()
	at := s.catalog.Position()
	if !has {
		return nil
	}
	if kept.Incarnation == at.Incarnation && kept.Seq <= at.Seq {
		found, err := s.log.Read(ctx, kept.StreamSeq)
		if err != nil {
			return fmt.Errorf("look up the newest head that was signed or answered by: %w", err)
		}
		if found.Commit.Last() == kept.Seq && found.Chain == kept.Chain {
			return nil
		}
	}
	return fmt.Errorf("%w: this registry signed a head of %s or answered by it, at Seq %d with chain hash %s, and the log, %s, ends at Seq %d without it: "+
		"it lost its end, or is another", events.ErrFork, kept.Incarnation, kept.Seq, kept.Chain, at.Incarnation, at.Seq)
}

// appendTerm opens a term. An election bucket that was lost begins its revisions anew: terms must not.
func (s *Service) appendTerm(ctx context.Context, revision uint64) (uint64, error) {
	term := max(revision, s.catalog.Position().Term+1)
	g := s.beginGroup(term, nil)
	err := g.say(events.Event{
		Fact:  &events.TermOpened{Term: term, Registry: s.opts.Name},
		Admin: events.Admin{Actor: registryActor}.Plain(),
	})
	if err == nil {
		err = g.makeDurable(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("open term %d: %w", term, err)
	}
	return term, nil
}

// catchUp folds in what the log holds at this moment.
func (s *Service) catchUp(ctx context.Context) error {
	at := s.catalog.Position()
	end, err := s.end(ctx, at)
	if err != nil || end == at.Seq {
		return err
	}
	err = s.log.Follow(ctx, at, func(entries []events.Entry) error {
		if err := s.catalog.Apply(entries); err != nil {
			return err
		}
		if s.catalog.Position().Seq >= end {
			s.notePassed(entries[:len(entries)-1]) // of the last, whoever catches up tells the rest
			return errCaughtUp
		}
		s.notePassed(entries)
		return nil
	})
	if errors.Is(err, errCaughtUp) {
		return nil
	}
	return fmt.Errorf("catch up: %w", err)
}

// end is the Seq of the log's last event, which cannot lie before at. A leader of the stream that is one no longer, and
// has not noticed, may answer from before for some seconds; only what stays so is a rollback.
func (s *Service) end(ctx context.Context, at events.Position) (events.Seq, error) {
	for asked := time.Duration(0); ; asked += rollbackLook {
		last, err := s.log.Last(ctx)
		if err != nil {
			return 0, fmt.Errorf("catch up: %w", err)
		}
		end := last.Commit.Last()
		switch {
		case end > at.Seq, end == at.Seq && last.Chain == at.Chain:
			return end, nil
		case end == at.Seq, asked >= rollbackPatience:
			return 0, fmt.Errorf("%w: the log ends at Seq %d with chain hash %s, the catalog had come to Seq %d with %s",
				events.ErrFork, end, last.Chain, at.Seq, at.Chain)
		}
		if err := pauseFor(ctx, rollbackLook); err != nil {
			return 0, err
		}
	}
}

// pauseFor gives the cause if ctx ends meanwhile.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
