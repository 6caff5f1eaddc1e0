package registry

import (
	"context"
	"errors"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/projections/history"
)

// keyHistory reads the key's events from the log itself. A deleted key is found by its id.
func (s *Service) keyHistory(ctx context.Context, r *catalog.Reader, c *Command) (any, error) {
	p, err := pageOf(&Request{Limit: c.Request.Limit, Offset: c.Request.Offset}, "seq")
	if err != nil {
		return nil, err
	}
	id, err := events.ParseKeyID(c.Request.Key)
	if err != nil {
		k, err := findKey(r, c.Project, c.Request.Key)
		if err != nil {
			return nil, err
		}
		id = k.ID
	}
	list := &HistoryPage{Results: []history.Entry{}, Seq: r.Position.Seq}
	var newest history.Entry
	var read events.Entry // a command's events stand in one commit: it is read once
	err = r.History(id, func(at catalog.Place) (more bool, err error) {
		onPage := p.take()
		if !onPage && p.seen > 1 {
			return true, nil
		}
		if read.StreamSeq != at.StreamSeq {
			if read, err = s.log.Read(ctx, at.StreamSeq); err != nil {
				return false, err
			}
		}
		entry, err := s.tell(read, at.Seq)
		if p.seen == 1 {
			newest = entry
		}
		if onPage {
			list.Results = append(list.Results, entry)
		}
		return newest.Project == c.Project, err
	})
	if err != nil {
		return nil, err
	}
	if newest.Project != c.Project {
		return nil, refuse(NotFound, "there never was a key %q in project %q", c.Request.Key, c.Project)
	}
	list.Count = p.seen
	return list, nil
}

func (s *Service) tell(e events.Entry, seq events.Seq) (history.Entry, error) {
	i := int(seq - e.Commit.First)
	if seq < e.Commit.First || i >= len(e.Commit.Events()) {
		return history.Entry{}, errors.New("the log and the catalog disagree about where an event stands")
	}
	return history.Describe(&e.Commit.Events()[i], seq, e.Commit.Time, s.catalog.Ring())
}
