package registry

import (
	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// Event is something that an operator may want to know of a Service: one of the types below. Logging
// and metrics are listeners.
type Event interface{ registryEvent() }

type (
	// TermOpened: this registry is the active one from here on.
	TermOpened struct {
		Term uint64
		At   events.Position
	}
	// SteppedDown: it no longer is.
	SteppedDown struct{ Cause error }
	// Stalled: the log cannot be followed for now.
	Stalled struct{ Cause error }
	// Committed: a commit is durable.
	Committed struct {
		At       events.Position
		Commands int // decided for it, refusals included
		Events   int
		Expired  int // of the events, those that record ends of lifetimes
	}
	// ClockDoubted: no ends of lifetimes are recorded until the registry's clock agrees with the log servers' and the verifiers' again.
	ClockDoubted struct{ Cause error }
	// ClockTrusted ends that.
	ClockTrusted struct{}
	// InstanceTorn: a ticket was shown twice. Both machines that believe to be the instance get no more grants.
	InstanceTorn struct {
		Verifier string
		Instance events.InstanceID
	}
	// VerifierAlarm: a verifier needs somebody's attention, or needs it no more. Alarms are those of VerifierView.
	VerifierAlarm struct {
		Verifier VerifierView
		Rings    bool
	}
	// UsageRefused: what a verifier told of its keys' uses cannot be believed. It counts for nothing.
	UsageRefused struct {
		Verifier string
		Cause    error
	}
	// VerifierAhead: an instance has applied what the log does not hold. It gets no grant.
	VerifierAhead struct {
		Verifier string
		Instance events.InstanceID
		Applied  head.Head
	}
)

func (TermOpened) registryEvent()    {}
func (SteppedDown) registryEvent()   {}
func (Stalled) registryEvent()       {}
func (Committed) registryEvent()     {}
func (ClockDoubted) registryEvent()  {}
func (ClockTrusted) registryEvent()  {}
func (InstanceTorn) registryEvent()  {}
func (UsageRefused) registryEvent()  {}
func (VerifierAhead) registryEvent() {}
func (VerifierAlarm) registryEvent() {}
