package registry

import (
	"context"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/history"
)

// maxTrail is how many commits one look back reads at most.
const maxTrail = 500

// Trail reads the log backwards from behind a commit, by its place in the stream, or from the end for 0: what happened in a
// project that matches, the newest first, until there is enough of it. next is where to go on, 0 at the log's beginning.
func (s *Service) Trail(ctx context.Context, project string, before uint64, enough int, match func(*history.Entry) bool) (
	entries []history.Entry, next uint64, err error,
) {
	end := s.catalog.Position().StreamSeq
	if before == 0 || before > end {
		before = end + 1
	}
	for next = before - 1; next > 0 && before-next <= maxTrail && len(entries) < enough; next-- {
		read, err := s.log.Read(ctx, next)
		if err != nil {
			return nil, 0, err
		}
		all := read.Commit.Events()
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Project != project {
				continue
			}
			entry, err := s.tell(read, read.Commit.First+events.Seq(i))
			if err != nil {
				return nil, 0, err
			}
			if match(&entry) {
				entries = append(entries, entry)
			}
		}
	}
	if next > 0 {
		next++ // the one before which to go on
	}
	return entries, next, nil
}
