package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// MirrorSubject is where the hub delivers the log to the PoP that is named behind it.
	MirrorSubject = "keyfleet.mirror."
	// HubAPI is what a PoP puts in front of the one question that it may ask the hub's JetStream. It is not $JS.hub.API, as
	// usual: what is sent there, the hub's servers take for a question about the PoP's own account.
	HubAPI = "keyfleet.hub"
	// mirrorAhead is how many commits the hub sends before the PoP has said that it took them in.
	mirrorAhead = 1 << 14
)

// Admit makes the hub ready to feed a PoP's mirror: with a consumer that is there before, the PoP needs no right to
// make one, and after a cut it goes on within a second or so. The mirror is fed what it is to keep: so many bytes of the log's end,
// or a little more, and with 0 all of it. A PoP that is admitted again is fed that again; a mirror that has it already keeps it, and
// one whose disk was lost is complete again.
func Admit(ctx context.Context, nc *nats.Conn, pop string, keep int64) error {
	l, err := newLog(nc, Options{})
	if err != nil {
		return err
	}
	stream, err := l.stream(ctx)
	if err != nil {
		return fmt.Errorf("admit %s: stream %s: %w", pop, StreamName, err)
	}
	feed := jetstream.ConsumerConfig{
		Durable:        pop,
		Description:    "feeds the mirror of PoP " + pop,
		DeliverSubject: MirrorSubject + pop,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckFlowControlPolicy,
		MaxAckPending:  mirrorAhead,
		FlowControl:    true,
		IdleHeartbeat:  time.Second, // the only one that servers take with this policy
	}
	if from := endOf(&stream.CachedInfo().State, keep); from > 1 {
		feed.DeliverPolicy, feed.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	_, err = ask(ctx, l.attempt, func(ctx context.Context) (struct{}, error) {
		err := l.js.DeleteConsumer(ctx, StreamName, pop)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			err = nil
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("admit %s: %w", pop, err)
	}
	// A crash here leaves the PoP without its feed: it goes on with what it has, until it is admitted again.
	_, err = ask(ctx, l.attempt, func(ctx context.Context) (jetstream.PushConsumer, error) {
		return l.js.CreatePushConsumer(ctx, StreamName, feed)
	})
	if err != nil {
		return fmt.Errorf("admit %s: %w", pop, err)
	}
	return nil
}

// endOf is the message from which on the log has so many bytes, as far as can be told without reading it: twice as many, for where
// messages are smaller towards the end.
func endOf(log *jetstream.StreamState, keep int64) uint64 {
	if keep <= 0 || log.Bytes/2 <= uint64(keep) {
		return 1
	}
	share := 2 * float64(keep) / float64(log.Bytes)
	return log.LastSeq - uint64(share*float64(log.Msgs))
}

// CreateMirror makes the PoP's copy of the log on the PoP's own server, to which nc is connected. It keeps the newest commits, up to
// so many bytes; with 0, all of them. One that is there already is left as it is.
//
// There is no limit of age: where nothing happens for longer, no reader would find the commit that it had come to.
func CreateMirror(ctx context.Context, nc *nats.Conn, pop string, keep int64) error {
	l, err := newLog(nc, Options{Mirror: true})
	if err != nil {
		return err
	}
	_, err = ask(ctx, l.attempt, func(ctx context.Context) (jetstream.Stream, error) {
		return l.js.CreateStream(ctx, mirrorConfig(pop, keep))
	})
	const noRoom = 10047 // JSStorageResourcesExceededErr
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == noRoom {
		return fmt.Errorf("create the mirror of PoP %s: its server has no room for the %d bytes that it is to keep: let it keep less, or have more", pop, keep)
	}
	if err != nil {
		return fmt.Errorf("create the mirror of PoP %s: %w", pop, err)
	}
	return nil
}

func mirrorConfig(pop string, keep int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamName,
		Description: "PoP " + pop + "'s copy of Keyfleet's log",
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    keep,
		DenyDelete:  true,
		DenyPurge:   true,
		Mirror: &jetstream.StreamSource{
			Name:     StreamName,
			External: &jetstream.ExternalStream{APIPrefix: HubAPI},
			Consumer: &jetstream.StreamConsumerSource{Name: pop, DeliverSubject: MirrorSubject + pop},
		},
	}
}
