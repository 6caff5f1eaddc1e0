package main

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/verifier"
)

// What Keyfleet is compared with decides as Keyfleet does.
func TestLookupDecides(t *testing.T) {
	key, id := strangers(1)[0], events.KeyID(events.NewID())
	good := record{id: id, deployments: []string{"llama", deployment}}.encode()
	for name, c := range map[string]struct {
		key  string
		text []byte
		err  error
		want int
	}{
		"it opens the deployment":  {key, good, nil, statusAllowed},
		"it opens another":         {key, record{id: id, deployments: []string{"llama"}}.encode(), nil, http.StatusForbidden},
		"nobody has issued it":     {key, nil, errNoRecord, statusRefused},
		"it is noise":              {"kf_noise", good, nil, statusRefused},
		"the store does not speak": {key, nil, errors.New("refused"), http.StatusServiceUnavailable},
		"the store speaks noise":   {key, []byte("noise"), nil, http.StatusServiceUnavailable},
	} {
		store := lookup(func(context.Context, []byte) ([]byte, error) { return c.text, c.err })
		a := store.Check(t.Context(), verifier.Request{Project: project, Deployment: deployment, Key: []byte(c.key)})
		require.Equal(t, c.want, statusOf(a.Reason.Class()), name)
		require.Equal(t, c.want == statusAllowed, a.Allowed() && a.Key == id, name)
	}
}

func TestRatios(t *testing.T) {
	made := ratios([]report.Figure{
		{Name: "Keyfleet", Value: 60, Unit: checksPerSecond}, {Name: "Keyfleet", Value: 10, Unit: microsOfCores},
		{Name: "Redis, TCP", Value: 20, Unit: checksPerSecond}, {Name: "Redis, TCP", Value: 25, Unit: microsOfCores},
	})
	require.Equal(t, []report.Figure{
		{Name: "Redis, TCP", Value: 3, Unit: "times as many checks by Keyfleet"}, {Name: "Redis, TCP", Value: 2.5, Unit: "times the cores of Keyfleet"},
	}, made)
}
