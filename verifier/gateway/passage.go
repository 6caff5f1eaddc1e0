package gateway

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// passage is a request that may pass, for as long as it is under way.
type passage struct {
	verifier  Verifier
	ask       verifier.Request
	answer    verifier.Answer
	upstream  *url.URL
	path      string // escaped, below the upstream's
	requestID string
}

type passageKey struct{}

func passageOf(ctx context.Context) *passage {
	p, _ := ctx.Value(passageKey{}).(*passage)
	return p
}

// recheckEvery is how often a passage is checked again: revocations and expiries promise to cut within a second.
const recheckEvery = 250 * time.Millisecond

// cutError ends a passage whose key no longer opens the deployment.
type cutError struct{ answer verifier.Answer }

func (c *cutError) Error() string { return "the key no longer opens the deployment" }

// recheck gives a cutError if a check is refused now. A verifier that cannot tell says nothing about what it let pass
// before.
func (p *passage) recheck(ctx context.Context) error {
	a := p.verifier.Check(ctx, p.ask)
	switch a.Reason.Class() {
	case projections.Unauthenticated, projections.Forbidden:
		return &cutError{a}
	case projections.Pass, projections.Unavailable:
	}
	return nil
}

// watch cuts the passage once it is over, until stop is called. A timer is all that a passage costs that ends before.
func (p *passage) watch(ctx context.Context, cut context.CancelCauseFunc) (stop func()) {
	var mu sync.Mutex // of the timer, which has to be there before it can be set again
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(recheckEvery, func() {
		if err := p.recheck(ctx); err != nil {
			cut(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			timer.Reset(recheckEvery)
		}
	})
	return func() { timer.Stop() }
}
