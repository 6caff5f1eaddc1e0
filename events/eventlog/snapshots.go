package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// snapshotBucket is the object store that holds what is made of the log, so that readers need not begin at its beginning. It can
// be lost: it is made anew from the log.
const snapshotBucket = "KEYFLEET_SNAPSHOTS"

// chunkBytes is what one message of an object holds. Over TCP, larger chunks fail where the server's limits are the usual ones.
const chunkBytes = 128 << 10

// Snapshots is the object store, as package snapshot wants it.
type Snapshots struct{ js jetstream.JetStream }

// ReadSnapshots gives the object store for reading. One that is not there yet is empty.
func ReadSnapshots(nc *nats.Conn) (*Snapshots, error) {
	js, err := jetstream.New(nc)
	return &Snapshots{js}, err
}

// KeepSnapshots gives the object store for writing, and makes one that is missing.
func KeepSnapshots(ctx context.Context, nc *nats.Conn, replicas int) (*Snapshots, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	_, err = ask(ctx, attemptTimeout, func(ctx context.Context) (jetstream.ObjectStore, error) {
		return js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: snapshotBucket, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
			Description: "snapshots of verifiers' indexes, made from KEYFLEET_LOG",
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open the object store %s: %w", snapshotBucket, err)
	}
	return &Snapshots{js}, nil
}

func (s *Snapshots) store(ctx context.Context) (jetstream.ObjectStore, error) {
	return ask(ctx, attemptTimeout, func(ctx context.Context) (jetstream.ObjectStore, error) {
		return s.js.ObjectStore(ctx, snapshotBucket)
	})
}

// List names every object.
func (s *Snapshots) List(ctx context.Context) ([]string, error) {
	store, err := s.store(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	names := make([]string, 0, len(found))
	for _, object := range found {
		names = append(names, object.Name)
	}
	return names, err
}

// Get reads an object. The client checks its digest while it is read.
func (s *Snapshots) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	store, err := s.store(ctx)
	if err != nil {
		return nil, err
	}
	return store.Get(ctx, name)
}

// Put is durable once it returns; until then nobody sees the object.
func (s *Snapshots) Put(ctx context.Context, name string, content io.Reader) error {
	store, err := s.store(ctx)
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkBytes}}, content)
	return err
}

// Delete of what is not there is no error.
func (s *Snapshots) Delete(ctx context.Context, name string) error {
	store, err := s.store(ctx)
	if err != nil {
		return err
	}
	err = store.Delete(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	return err
}
