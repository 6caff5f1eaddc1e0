package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
)

func TestStorageIsFullWhenWhatIsReservedIsAllThatIsLeft(t *testing.T) {
	const gib = 1 << 30
	disk := func(used, limit uint64) eventlog.Storage {
		return eventlog.Storage{Name: "the disk", Used: used, Limit: limit}
	}
	for _, test := range []struct {
		name   string
		places []eventlog.Storage
		err    error
		full   string
	}{
		{name: "nothing is known"},
		{name: "nobody answers", err: errors.New("a timeout")},
		{name: "90 of 100", places: []eventlog.Storage{disk(90, 100)}},
		{name: "91 of 100", places: []eventlog.Storage{disk(91, 100)}, full: "the disk is 91% full"},
		{name: "one of two", places: []eventlog.Storage{disk(1, 100), {Name: "account", Used: 99, Limit: 100}}, full: "account is 99% full"},
		{name: "more than all", places: []eventlog.Storage{disk(120, 100)}, full: "the disk is 120% full"},
		{name: "what was asked before a failure counts", places: []eventlog.Storage{disk(95, 100)}, err: errors.New("a timeout"), full: "the disk is 95% full"},
		{name: "a tenth of a large disk is much", places: []eventlog.Storage{disk(980*gib, 1000*gib)}},
		{name: "a large disk", places: []eventlog.Storage{disk(991*gib, 1000*gib)}, full: "the disk is 99% full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			places := test.places
			w := newStorageWatch(func(context.Context) ([]eventlog.Storage, int, error) { return places, 0, test.err }, slog.New(slog.DiscardHandler))
			require.Empty(t, w.Full(), "before it looked")
			w.look(t.Context())
			require.Equal(t, test.full, w.Full())
			places = nil
			w.look(t.Context())
			require.Empty(t, w.Full(), "there is room again")
		})
	}
}
