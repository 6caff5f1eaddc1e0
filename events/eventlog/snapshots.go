package eventlog

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// snapshotBucket is the object store that holds what is made of the log, so that readers need not begin at its beginning. It can
// be lost: it is made anew from the log.
const snapshotBucket = "KEYFLEET_SNAPSHOTS"

// chunkBytes is what one message of an object holds. Over TCP, larger chunks fail where the server's limits are the usual ones.
const chunkBytes = 128 << 10

// snapshotPatience is how long a question about snapshots may go unanswered: whoever asks has the log to go on from.
const snapshotPatience = 5 * time.Second

// SnapshotReader reads the object store with questions that have one answer each: no consumer is made for it, so that a PoP may be
// allowed nothing but to read this, at the hub.
type SnapshotReader struct{ js jetstream.JetStream }

// Snapshots is the object store for who fills it.
type Snapshots struct{ SnapshotReader }

// ReadSnapshots gives the object store for reading; with atHub, that of the hub as it is seen from a PoP's own server. One that is
// not there yet is empty.
func ReadSnapshots(nc *nats.Conn, atHub bool) (*SnapshotReader, error) {
	js, err := jetstream.New(nc)
	if atHub {
		js, err = jetstream.NewWithAPIPrefix(nc, HubAPI)
	}
	return &SnapshotReader{js}, err
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
	return &Snapshots{SnapshotReader{js}}, nil
}

// Subjects of an object's description and of its content, as NATS ADR-20 has them.
const (
	aboutObject   = "$O." + snapshotBucket + ".M."
	contentOf     = "$O." + snapshotBucket + ".C."
	objectsStream = "OBJ_" + snapshotBucket
)

// List names every object, and some that were deleted.
func (s *SnapshotReader) List(ctx context.Context) ([]string, error) {
	info, err := askForSnapshots(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		stream, err := s.js.Stream(ctx, objectsStream)
		if err != nil {
			return nil, err
		}
		return stream.Info(ctx, jetstream.WithSubjectFilter(aboutObject+">"))
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list what the object store %s holds: %w", snapshotBucket, err)
	}
	names := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		name, err := base64.URLEncoding.DecodeString(strings.TrimPrefix(subject, aboutObject))
		if err == nil {
			names = append(names, string(name))
		}
	}
	return names, nil
}

// Get reads an object. What it holds is for the caller to verify.
func (s *SnapshotReader) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	o := &object{ctx: ctx, next: 1}
	about, err := askForSnapshots(ctx, func(ctx context.Context) (m *jetstream.RawStreamMsg, err error) {
		if o.stream, err = s.js.Stream(ctx, objectsStream); err != nil {
			return nil, err
		}
		subject := aboutObject + base64.URLEncoding.EncodeToString([]byte(name)) // of one message: it replaces those before
		return o.stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
	})
	if err == nil {
		err = json.Unmarshal(about.Data, &o.info)
	}
	if err == nil && o.info.Deleted {
		err = jetstream.ErrObjectNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("object %s of %s: %w", name, snapshotBucket, err)
	}
	return o, nil
}

// object is one that is being read, a chunk at a time.
type object struct {
	ctx    context.Context //nolint:containedctx // a reader's, as of the file that it stands for
	stream jetstream.Stream
	info   jetstream.ObjectInfo
	next   uint64 // where in the stream the next chunk is looked for
	chunks uint32 // that were read
	chunk  []byte // what of the last one is left
}

func (o *object) Read(p []byte) (int, error) {
	for len(o.chunk) == 0 {
		if o.chunks == o.info.Chunks {
			return 0, io.EOF
		}
		m, err := askForSnapshots(o.ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return o.stream.GetMsg(ctx, o.next, jetstream.WithGetMsgSubject(contentOf+o.info.NUID))
		})
		if err != nil {
			return 0, fmt.Errorf("object %s of %s, chunk %d of %d: %w", o.info.Name, snapshotBucket, o.chunks+1, o.info.Chunks, err)
		}
		o.next, o.chunk = m.Sequence+1, m.Data
		o.chunks++
	}
	n := copy(p, o.chunk)
	o.chunk = o.chunk[n:]
	return n, nil
}

func (o *object) Close() error { return nil }

func askForSnapshots[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, snapshotPatience, errors.New("nobody answers for the hub's snapshots"))
	defer cancel()
	answer, err := ask(ctx, attemptTimeout, question)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

func (s *Snapshots) store(ctx context.Context) (jetstream.ObjectStore, error) {
	return askForSnapshots(ctx, func(ctx context.Context) (jetstream.ObjectStore, error) {
		return s.js.ObjectStore(ctx, snapshotBucket)
	})
}

// List names every object.
func (s *Snapshots) List(ctx context.Context) ([]string, error) {
	store, err := s.store(ctx)
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
