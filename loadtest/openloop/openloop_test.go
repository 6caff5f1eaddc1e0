package openloop

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// same has every worker carry out the same operation.
func same(operation Operation) Opening {
	return func(context.Context, int) (Operation, error) { return operation, nil }
}

// onFakeTime sleeps on the clock of the bubble that a test runs in.
func onFakeTime() (func(time.Duration), error) { return time.Sleep, nil }

// stallingServer answers within a millisecond, but nothing at all between seconds 4 and 5 of its life.
func stallingServer() Operation {
	started := time.Now()
	return func(context.Context, int64) error {
		if at := time.Since(started); at >= 4*time.Second && at < 5*time.Second {
			time.Sleep(5*time.Second - at)
		}
		time.Sleep(time.Millisecond)
		return nil
	}
}

// One second in ten is a stall, so a tenth of all callers meet it, and half of those wait for half a second or more.
func TestStallIsSeenByAllWhoFellDueInIt(t *testing.T) {
	for _, workers := range []int{1, 4, 500} {
		synctest.Test(t, func(t *testing.T) {
			load := Load{Rate: 100, For: 10 * time.Second, Workers: workers, sleep: onFakeTime}
			o, err := load.Run(t.Context(), same(stallingServer()))
			require.NoError(t, err)
			require.EqualValues(t, 1000, o.Done)
			require.InDelta(t, time.Millisecond, o.Latency.ValueAtQuantile(50), float64(100*time.Microsecond))
			require.InDelta(t, 500*time.Millisecond, o.Latency.ValueAtQuantile(95), float64(100*time.Millisecond))
			require.InDelta(t, 900*time.Millisecond, o.Latency.ValueAtQuantile(99), float64(50*time.Millisecond))
			require.InDelta(t, time.Second, o.Latency.Max(), float64(20*time.Millisecond))
			require.Zero(t, o.Seconds[4].Done, "nothing was answered while it stalled")
			require.InDelta(t, 200, o.Seconds[5].Done, 1, "then everything that was due")
			if workers == 1 {
				require.Less(t, o.Service.ValueAtQuantile(99), int64(2*time.Millisecond), "what a loop that waits would have said")
			}
		})
	}
}

func TestLoadKeepsItsRateAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var mu sync.Mutex
		at := map[int64]time.Duration{}
		o, err := Load{Rate: 4, For: 2 * time.Second, Workers: 3, sleep: onFakeTime}.Run(t.Context(), same(func(_ context.Context, i int64) error {
			mu.Lock()
			defer mu.Unlock()
			at[i] = time.Since(begun)
			return nil
		}))
		require.NoError(t, err)
		require.Len(t, at, 8, "each once")
		for i, when := range at {
			require.Equal(t, time.Duration(i)*250*time.Millisecond, when)
		}
		require.EqualValues(t, 8, o.Done)
		require.Equal(t, []int64{4, 4}, []int64{o.Seconds[0].Done, o.Seconds[1].Done})
	})
}

func TestServerThatNeverAnswersFailsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := Load{Rate: 10, For: time.Second, Workers: 2, Patience: 4 * time.Second, sleep: onFakeTime}
		o, err := load.Run(t.Context(), same(func(context.Context, int64) error {
			time.Sleep(time.Minute)
			return errors.New("no answer")
		}))
		require.NoError(t, err)
		require.Zero(t, o.Done)
		require.EqualValues(t, 10, o.Failed, "those that nobody came to are not forgotten")
		require.ElementsMatch(t, []string{"no answer", errNeverBegun.Error()}, o.Failures)
		require.GreaterOrEqual(t, o.Latency.Min(), int64(59*time.Second))
	})
}

func TestWithoutARateWorkersGoOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := Load{For: time.Second, Workers: 2, sleep: onFakeTime}.Run(t.Context(), same(func(context.Context, int64) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		}))
		require.NoError(t, err)
		require.EqualValues(t, 200, o.Done)
		require.Equal(t, time.Second, o.Took)
	})
}

func TestEndOfContextCutsTheLoadShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o, err := Load{Rate: 10, For: time.Hour, Workers: 1, sleep: onFakeTime}.Run(ctx, same(func(_ context.Context, i int64) error {
			if i == 4 {
				cancel()
			}
			return nil
		}))
		require.NoError(t, err)
		require.EqualValues(t, 5, o.Done)
	})
}

// A real server, real connections and real timers: a stall of a second is seen here, too.
func TestStallOfARealServer(t *testing.T) {
	var stall sync.Once
	var gate sync.RWMutex
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		stall.Do(func() {
			gate.Lock()
			time.AfterFunc(time.Second, gate.Unlock)
		})
		gate.RLock()
		defer gate.RUnlock()
	}))
	defer server.Close()
	o, err := Load{Rate: 200, For: 2 * time.Second, Workers: 8}.Run(t.Context(), same(func(ctx context.Context, _ int64) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return err
		}
		answer, err := server.Client().Do(r)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}))
	require.NoError(t, err)
	require.EqualValues(t, 400, o.Done, o.Failures)
	require.Greater(t, o.Latency.ValueAtQuantile(60), int64(100*time.Millisecond), "half of all callers fell due in the stall")
	require.Greater(t, o.Latency.Max(), int64(900*time.Millisecond))
}

func TestRefusedOpening(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	_, err := Load{Rate: 1, For: time.Second}.Run(t.Context(), func(context.Context, int) (Operation, error) { return nil, refused })
	require.ErrorIs(t, err, refused)
}
