package main

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

// runVerifier runs a verifier in this process, and returns once it answers.
func runVerifier(ctx context.Context, nc *nats.Conn, dir, name, logKey string) (v *verifier.Verifier, stop func(), err error) {
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	hub, err := uplink.New(nc, name)
	if err != nil {
		return nil, nil, err
	}
	var key events.PublicKey
	if err := key.UnmarshalText([]byte(logKey)); err != nil {
		return nil, nil, err
	}
	v, err = verifier.Open(dir, verifier.Options{Source: log, Uplink: hub, Name: name, LogKeys: []events.PublicKey{key}})
	if err != nil {
		return nil, nil, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = v.Run(running) // ends with running
	}()
	stop = func() { cancel(); <-ended; _ = v.Close() }
	if err := await(ctx, startTimeout, name+" to answer", func() bool { return v.Status().Ready }); err != nil {
		stop()
		return nil, nil, err
	}
	return v, stop, nil
}
