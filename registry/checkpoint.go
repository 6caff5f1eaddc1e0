package registry

import (
	"crypto/ed25519"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// CheckpointReply answers fleet.checkpoint.
type CheckpointReply struct {
	Seq        events.Seq `json:"seq"`
	Checkpoint string     `json:"checkpoint"` // a C2SP signed note, for somebody else to keep
}

// checkpoint signs the end of the log, for whoever wants to hold the registry to it. Like a head in a grant, it would be known
// again after a loss of power.
func (s *Service) checkpoint(l *leading) (*CheckpointReply, error) {
	if len(s.opts.SigningKey) != ed25519.PrivateKeySize {
		return nil, refuse(Unavailable, "this registry signs nothing: it was started without the log's signing key")
	}
	at, root := s.catalog.Head()
	if err := s.keepHead(); err != nil {
		return nil, err
	}
	c := proof.CheckpointAt(at, root)
	signed, err := c.Sign(s.opts.SigningKey)
	if err != nil {
		return nil, err
	}
	if _, active := s.Active(); !active || s.leading.Load() != l {
		return nil, errStandby
	}
	return &CheckpointReply{Seq: at.Seq, Checkpoint: string(signed)}, nil
}
