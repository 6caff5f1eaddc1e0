package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestElapsedIsTheTimeSinceBoot(t *testing.T) {
	for range 1000 {
		before := askKernel()
		elapsed := System{}.Elapsed()
		after := askKernel()
		assert.LessOrEqual(t, before-slack, elapsed)
		assert.GreaterOrEqual(t, after+slack, elapsed)
	}
}

// A suspension is simulated by its effect: the anchor is as if it had been read before the machine slept for an hour. All that
// a reader of the clock sees of it is that the wall clock has moved, and the monotonic one has not.
func TestSuspensionIsNoticed(t *testing.T) {
	System{}.Elapsed()
	a := *anchored.Load()
	a.wall -= int64(time.Hour)
	a.boot -= time.Hour
	anchored.Store(&a)
	assert.InDelta(t, askKernel(), System{}.Elapsed(), float64(time.Minute))
}

// The wall clock may have been set back by as much as the machine slept: then only asking helps, now and again.
func TestTheKernelIsAskedInAnyCase(t *testing.T) {
	System{}.Elapsed()
	a := *anchored.Load()
	a.wall -= int64(reread)
	a.mono -= reread
	a.boot -= reread + time.Hour
	anchored.Store(&a)
	assert.InDelta(t, askKernel(), System{}.Elapsed(), float64(time.Minute))
}

func TestElapsedNeverStepsBack(t *testing.T) {
	first := (*anchor)(nil).renewed(0, 0, 5*time.Second)
	late := first.renewed(0, time.Second, 6*time.Second-slack/2)
	assert.Equal(t, 6*time.Second, late.boot, "the kernel was asked a little before the other clocks")
	slept := late.renewed(0, 2*time.Second, time.Hour)
	assert.Equal(t, time.Hour, slept.boot)
}
