package registry

import (
	"github.com/keyfleet/keyfleet/events"
)

// roomFor refuses what makes keys or deployments while storage is nearly full. All else goes on, in what is left: revocations
// and the ends of lifetimes must never wait for somebody to find more room.
func (s *Service) roomFor(es []events.Event) error {
	if s.opts.Full == nil {
		return nil
	}
	for i := range es {
		switch es[i].Fact.(type) {
		case *events.Created, *events.DeploymentRegistered:
			if what := s.opts.Full(); what != "" {
				return refuse(Unavailable, "%s: nothing is created before there is more room; "+
					"what is there can be changed and revoked. Ask the registry's operator", what)
			}
		}
	}
	return nil
}
