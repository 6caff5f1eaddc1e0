package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// history is what was done to one key and seen of it, per verifier. What is promised is a register per verifier: a command changes
// it at some moment between its sending and its verdict, and every check that the verifier answers reads it. Checks that began
// before the verdict may have read either; one that begins after it reads what the command made of the key.
type history struct {
	mu     sync.Mutex
	writes []porcupine.Operation
	reads  map[string][]porcupine.Operation // by verifier
}

// access writes whether the key is allowed, or reads it.
type access struct{ writes, allowed bool }

var register = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(access); in.writes { //nolint:forcetypeassert // porcupine's models are of any
			return true, in.allowed
		}
		return output == state, state
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(access); in.writes { //nolint:forcetypeassert // as above
			return fmt.Sprintf("allowed = %t", in.allowed)
		}
		return fmt.Sprintf("allowed? %t", output)
	},
}

var started = time.Now()

func sinceStart() int64 { return time.Since(started).Nanoseconds() }

func (h *history) wrote(allowed bool, sent int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes = append(h.writes, porcupine.Operation{Input: access{writes: true, allowed: allowed}, Call: sent, Return: sinceStart()})
}

func (h *history) read(verifier string, allowed bool, begun, ended int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reads == nil {
		h.reads = map[string][]porcupine.Operation{}
	}
	h.reads[verifier] = append(h.reads[verifier],
		porcupine.Operation{ClientId: 1, Input: access{}, Output: allowed, Call: begun, Return: ended})
}

// check keeps every history that breaks the promise as a page to look at.
func (h *history) check(t *testing.T, name string) (reads int) {
	for verifier, seen := range h.reads {
		reads += len(seen)
		result, info := porcupine.CheckOperationsVerbose(register, append(seen, h.writes...), time.Minute)
		if result == porcupine.Ok {
			continue
		}
		dir, err := os.MkdirTemp("", "keyfleet-torture-") //nolint:usetesting // it outlives the test
		require.NoError(t, err)
		page := filepath.Join(dir, name+"-"+verifier+".html")
		require.NoError(t, porcupine.VisualizePath(register, info, page))
		t.Errorf("%s at %s: %s; the history is in %s", name, verifier, result, page)
	}
	return reads
}
