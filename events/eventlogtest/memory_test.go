package eventlogtest

import (
	"errors"
	"testing"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

func TestMemory(t *testing.T) {
	TestLog(t, func(*testing.T) Harness {
		m := NewMemory()
		return Harness{
			Log: m,
			Publish: func(bodies ...[]byte) {
				for _, body := range bodies {
					m.Publish(body)
				}
			},
			Recreate: m.recreate,
			LoseAck:  func() { m.Inject(Fault{LoseAck: true}) },
		}
	})
}

func TestMemoryFaults(t *testing.T) {
	m := NewMemory()
	first, err := m.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := Behind(first)
	c := NewCommit(t, at, 1)

	m.Inject(Fault{LoseRequest: true}, Fault{Before: func() {
		if _, err := m.Append(t.Context(), at, NewCommit(t, at, 1)); err != nil {
			t.Errorf("a foreign commit, while another waits: %v", err)
		}
	}})
	if _, err := m.Append(t.Context(), at, c); !errors.Is(err, events.ErrOutcomeUnknown) {
		t.Fatalf("a lost request ended in %v", err)
	}
	if last, _ := m.Last(t.Context()); Behind(last) != at {
		t.Fatal("a lost request was stored")
	}
	if _, err := m.Append(t.Context(), at, c); !errors.Is(err, events.ErrConflict) {
		t.Fatalf("an append behind a foreign commit ended in %v", err)
	}
}

func TestMemoryClock(t *testing.T) {
	m := NewMemory()
	m.Clock = func() time.Time { return time.Unix(42, 0) }
	if now, err := m.Now(t.Context()); err != nil || now.Unix() != 42 {
		t.Fatalf("it is %v: %v", now, err)
	}
}
