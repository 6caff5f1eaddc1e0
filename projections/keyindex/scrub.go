package keyindex

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// ErrDiverged is wrapped by every error that says that the index is no longer what the log made of it. Nothing
// may be answered from it. What is wrong in memory alone goes with the process; what is stored has to be thrown away.
var ErrDiverged = errors.New("the index is not what the log made of it")

// Scrub reads everything that is stored, as it stands between two Applies, holds it against the digest, and holds
// what readers find in memory against it. It reads bytesPerSecond, or as fast as it can if that is 0, beside readers and
// the writer; Close ends it. It finds what Pebble's checksums cannot: records that are whole and wrong.
func (idx *Index) Scrub(ctx context.Context, bytesPerSecond int) error {
	return idx.readLong(ctx, func(ctx context.Context, snapshot pebble.Reader, shown *view) error {
		kept, err := loadView(snapshot)
		if err == nil {
			err = shown.holdAgainst(kept)
		}
		if err == nil {
			err = holdDigest(ctx, snapshot, kept, newPace(bytesPerSecond))
		}
		if isDamage(err) {
			return fmt.Errorf("%w: %w", ErrDiverged, err)
		}
		return err
	})
}

// holdAgainst compares what readers find in memory with what is stored.
func (v *view) holdAgainst(kept *view) error {
	shown, err := encodeCharter(v.charter)
	if err != nil {
		return err
	}
	stored, err := encodeCharter(kept.charter)
	if err != nil {
		return err
	}
	var differs string
	switch {
	case v.position != kept.position:
		differs = "position"
	case v.digest != kept.digest:
		differs = "digest"
	case !bytes.Equal(shown, stored):
		differs = "charter"
	case !v.deployments.equal(kept.deployments):
		differs = "list of deployments"
	default:
		return nil
	}
	return fmt.Errorf("%w: at Seq %d the %s in memory is not the one stored", ErrDiverged, v.position.Seq, differs)
}

func (d *Deployments) equal(other *Deployments) bool {
	same := func(a, b *Deployment) bool { return a.Deployment == b.Deployment }
	return maps.EqualFunc(d.byID, other.byID, same) && maps.EqualFunc(d.byName, other.byName, same) &&
		maps.EqualFunc(d.byHost, other.byHost, same)
}

// holdDigest compares the records that r holds with the digest stored beside them.
func holdDigest(ctx context.Context, r pebble.Reader, kept *view, pace *pace) error {
	sum, err := sumOfSpan(ctx, r, span{}, pace)
	if err == nil && sum.digest() != kept.digest {
		err = fmt.Errorf("%w: at Seq %d the records stored come to %s, the log to %s",
			ErrDiverged, kept.position.Seq, sum.digest(), kept.digest)
	}
	return err
}

// pace keeps a long read from taking the disk for itself.
type pace struct {
	began          time.Time
	read           int64
	bytesPerSecond int // 0: unbounded
}

func newPace(bytesPerSecond int) *pace {
	return &pace{began: time.Now(), bytesPerSecond: bytesPerSecond}
}

// wait lets so much time pass that the bytes read so far come to the pace.
func (p *pace) wait(ctx context.Context, read int) error {
	p.read += int64(read)
	if p.bytesPerSecond <= 0 {
		return context.Cause(ctx)
	}
	due := time.Duration(float64(p.read) / float64(p.bytesPerSecond) * float64(time.Second))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(due - time.Since(p.began)):
		return nil
	}
}
