package eventlog

import (
	"errors"
	"testing"

	"github.com/keyfleet/keyfleet/events"
)

func TestIntakeWantsEveryMessage(t *testing.T) {
	in := newIntake(nil, events.Position{})
	if err := in.takeCommit("KEYFLEET_LOG.c.1.9.2.0.0", nil); !errors.Is(err, errDisturbed) {
		t.Fatalf("the second message came first: %v", err)
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
