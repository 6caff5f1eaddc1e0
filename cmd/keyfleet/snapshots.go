package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/registry/snapshots"
)

// startSnapshots keeps an index as verifiers have it, in the registry's own directory, and makes snapshots of it.
func (r *registryParts) startSnapshots(ctx context.Context, stop *stopping, log *eventlog.Log) error {
	objects, err := eventlog.KeepSnapshots(ctx, r.nc, r.replicas)
	if err != nil {
		return err
	}
	index, err := keyindex.Open(filepath.Join(r.data, "keyindex"), keyindex.Options{FrontBytes: -1, Log: stop.log})
	if err != nil {
		return err
	}
	stop.then("index for snapshots", index.Close)
	keeper := snapshots.New(snapshots.Options{
		Source: log, Index: index, Objects: objects, Key: r.signingKey, Log: stop.log,
		Active: func() bool { _, active := r.service.Active(); return active && r.storage.Full() == "" },
	})
	running, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := keeper.Run(running); running.Err() == nil {
			r.fail(fmt.Errorf("snapshots cannot go on: %w", err))
		}
	}()
	stop.then("snapshots", func() error { end(); <-done; return nil })
	return nil
}
