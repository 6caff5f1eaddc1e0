package eventlog

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
)

func TestIntakeWantsEveryMessage(t *testing.T) {
	in := newIntake(nil, events.Position{})
	if err := in.takeCommit("KEYFLEET_LOG.c.1.9.2.0.0", nil); !errors.Is(err, errDisturbed) {
		t.Fatalf("the second message came first: %v", err)
	}
}

// TestIntakeWritesToNobody: what came to our inbox may be from anybody.
func TestIntakeWritesToNobody(t *testing.T) {
	for _, m := range []*nats.Msg{
		{Reply: Subject, Header: nats.Header{"Status": {"100"}}},
		{Reply: "$JS.API.STREAM.DELETE.KEYFLEET_LOG", Header: nats.Header{"Status": {"100"}}},
		{Header: nats.Header{"Status": {"100"}, "Nats-Consumer-Stalled": {Subject}}},
	} {
		in := newIntake(nil, events.Position{}) // with no connection to write to
		in.take(m)
		if !errors.Is(in.err, errDisturbed) {
			t.Errorf("%v: %v", m, in.err)
		}
	}
}

func TestSequences(t *testing.T) {
	for place, want := range map[string][2]uint64{
		"KEYFLEET_LOG.abc.1.17.4.1700000000.0":                {17, 4},
		"pop.ACC.KEYFLEET_LOG.abc.1.17.4.1700000000.0":        {17, 4},
		"_.ACC.KEYFLEET_LOG.abc.1.17.4.1700000000.0.anything": {17, 4},
	} {
		stream, consumer, err := sequences(place)
		if err != nil || stream != want[0] || consumer != want[1] {
			t.Errorf("%s: %d, %d, %v; want %v", place, stream, consumer, err, want)
		}
	}
	for _, place := range []string{"", "a.b", "a.b.c.d.e", "a.b.1.-1.4.1.0"} {
		if _, _, err := sequences(place); err == nil {
			t.Errorf("%q has no place", place)
		}
	}
}
