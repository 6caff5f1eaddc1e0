package main

import (
	"context"

	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// startUsage adds up what verifiers tell of how often keys were used, whether this registry is the active one or not.
func (r *registryParts) startUsage(stop *stopping) error {
	usage, err := natsapi.NewUsage(r.nc, r.service, natsapi.UsageOptions{Replicas: r.replicas, Log: stop.log})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		usage.Run(running)
	}()
	stop.then("usage", func() error { end(); <-done; return nil })
	return nil
}
