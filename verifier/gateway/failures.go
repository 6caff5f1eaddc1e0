package gateway

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// What a source may fail: a burst, and then one in every interval.
const (
	failureBurst = 100
	failureEvery = 100 * time.Millisecond
)

// A source that fails too often waits for its answers: who tries keys one after another leaves the machine to others. So
// many may wait at a time that it costs little.
const (
	dawdleFor  = 100 * time.Millisecond
	dawdlersAt = 10_000
)

// failures counts failed checks by source in a fixed amount of memory, however many sources there are: each has a slot,
// which it may share. The seed keeps callers from choosing with whom.
type failures struct {
	seed  maphash.Seed
	waits atomic.Int64
	slots [1 << 14]atomic.Int64 // the instant, in ns, until which the failures so far are spread
}

func newFailures() *failures { return &failures{seed: maphash.MakeSeed()} }

// add counts a failure, and gives how long the source has to wait before the next is counted: 0 if this one may be
// answered.
func (f *failures) add(source netip.Addr, now time.Time) time.Duration {
	slot := &f.slots[maphash.Comparable(f.seed, network(source))%uint64(len(f.slots))]
	for {
		spread := slot.Load()
		until := max(spread, now.UnixNano()) + int64(failureEvery)
		if wait := time.Duration(until-now.UnixNano()) - failureBurst*failureEvery; wait > 0 {
			return wait
		}
		if slot.CompareAndSwap(spread, until) {
			return 0
		}
	}
}

// dawdle waits, unless too many do.
func (f *failures) dawdle(ctx context.Context) {
	defer f.waits.Add(-1)
	if f.waits.Add(1) > dawdlersAt {
		return
	}
	select {
	case <-time.After(dawdleFor):
	case <-ctx.Done():
	}
}

// network is what one caller can send from: an IPv4 address, or the half of an IPv6 address that is assigned.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
