package registry

import (
	"errors"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Soon is how long before its end a key is marked, so that somebody renews it in time.
const Soon = 30 * 24 * time.Hour

func expiresSoon(at, now events.Instant) bool {
	return now < at && at <= now+events.Instant(Soon.Milliseconds())
}

// ExpiringSoon counts the keys of all projects that expire soon, disabled ones included.
func (s *Service) ExpiringSoon() (int, error) {
	now := s.dateNow()
	r := s.catalog.Read()
	n, err := r.Expiring(now, now+events.Instant(Soon.Milliseconds()))
	return n, errors.Join(err, r.Close())
}
