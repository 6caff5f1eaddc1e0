package verifier

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

var (
	modelSeed  = flag.Uint64("seed", 0, "seed of the model's random histories; 0: drawn and printed")
	modelSteps = flag.Int("steps", 200_000, "steps of the model's random histories")
)

// episode is how many steps one random history has.
const episode = 200

// history is what makes a world happen again.
type history struct {
	without rule
	cold    bool // it begins with an empty fleet
	rates   []int64
	modes   []events.Mode
	steps   []step
}

// run lets it happen, and gives the broken promise. It counts what happened.
func (h *history) run(tell func(string, ...any)) (broken string, happened int) {
	m := newModel(h.without, h.rates, h.modes...)
	if tell != nil {
		m.tell = tell
	}
	if !h.cold {
		m.begin()
	}
	if h.without == selfLeaseOfBefore {
		m.takeOver()
	}
	for _, s := range h.steps {
		if m.happen(s) {
			happened++
		}
		if m.broken != "" {
			break
		}
	}
	return m.broken, happened
}

// worstRates are those of clocks that disagree as far, and as badly, as they may: two registries' and the verifiers'.
var worstRates = []int64{1010, 1010, 990, 990, 1010, 1000, 990}

// drawHistory makes one up.
func drawHistory(r *rand.Rand, without rule) history {
	h := history{without: without, cold: r.IntN(6) == 0}
	h.rates = slices.Clone(worstRates)
	for i := range h.rates {
		if h.cold {
			h.rates[i] = []int64{990, 1000, 1010}[r.IntN(3)]
		}
	}
	for range 1 + r.IntN(2) {
		h.modes = append(h.modes, []events.Mode{events.ModeDeny, events.ModeDeny, events.ModeServe}[r.IntN(3)])
	}
	drawn := drawKinds(r, telling[without])
	for range episode {
		h.steps = append(h.steps, step{drawn[r.IntN(len(drawn))], uint8(r.IntN(256)), uint8(r.IntN(256))})
	}
	return h
}

// drawKinds leaves some kinds of steps out of a history, so that others come together more often: most of those that do not tell,
// where some do.
func drawKinds(r *rand.Rand, telling []string) (kinds []uint8) {
	for i, kind := range happenings {
		left := r.IntN(4) == 0
		if len(telling) > 0 {
			left = !slices.Contains(telling, kind.name) && r.IntN(4) > 0
		}
		for range kind.weight {
			if !left {
				kinds = append(kinds, uint8(i))
			}
		}
	}
	return kinds
}

// search draws histories until one breaks a promise, or so many steps have happened.
func search(r *rand.Rand, without rule, steps int) (failing *history, happened int) {
	for happened < steps {
		h := drawHistory(r, without)
		broken, n := h.run(nil)
		happened += n
		if broken != "" {
			return &h, happened
		}
	}
	return nil, happened
}

// shrink drops steps for as long as the history breaks a promise.
func (h *history) shrink() {
	for size := len(h.steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(h.steps); {
			less := *h
			less.steps = append(append([]step(nil), h.steps[:at]...), h.steps[at+size:]...)
			if broken, _ := less.run(nil); broken != "" {
				h.steps = less.steps
			} else {
				at += size
			}
		}
	}
}

func TestModelKeepsItsPromises(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	failing, happened := search(rand.New(rand.NewPCG(seed, 0)), none, *modelSteps)
	t.Logf("%d steps", happened)
	if failing != nil {
		failing.shrink()
		broken, _ := failing.run(t.Logf)
		require.Empty(t, broken)
	}
}

// Every check of the model can fail: without a rule some promise is broken.
func TestModelNeedsEveryRule(t *testing.T) {
	for without := none + 1; without <= repliesInsideSelfLease; without++ {
		t.Run(rules[without], func(t *testing.T) {
			failing, happened := search(rand.New(rand.NewPCG(uint64(without), 1)), without, 20_000_000)
			require.NotNil(t, failing, "%s: nothing broke in %d steps", rules[without], happened)
			failing.shrink()
			broken, steps := failing.run(nil)
			t.Logf("%s: %d steps of random histories, %d of the shortest found: %s", rules[without], happened, steps, broken)
		})
	}
}
