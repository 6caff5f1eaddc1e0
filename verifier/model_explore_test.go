package verifier

import (
	"hash/maphash"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// The reduced world that is explored completely, up to a depth: one verifier whose clock is slow, two registries whose clocks are
// fast, and of everything little.
const (
	exploredDepth = 6
	exploredLog   = 7 // commits
	exploredAir   = 2 // packets
)

// explored are the steps that it has.
func explored() (all []step) {
	hows := map[string][]uint8{
		"some time passes":                     {1},
		"some time passes under the same lead": {4},
		"a packet arrives":                     {0, 1, 4, 5},
		"crashes":                              {3},
	}
	whos := map[string][]uint8{
		"time passes until a fence": {0, 1}, "is elected": {1}, "opens a term": {1}, "has its append land": {0, 1},
		"learns of its append": {0, 1}, "revokes a key": {0, 1}, "lets a member lapse": {0, 1}, "sends a grant": {0, 1},
	}
	one := []string{"starts", "renews", "applies a commit", "shows a commit", "acknowledges", "is to stop", "says goodbye", "crashes"}
	for i, kind := range happenings {
		those := whos[kind.name]
		if kind.world != nil && hows[kind.name] != nil || kind.edge != nil && slices.Contains(one, kind.name) {
			those = []uint8{0}
		}
		for _, who := range those {
			for _, how := range append(hows[kind.name], 0)[:max(1, len(hows[kind.name]))] {
				all = append(all, step{uint8(i), who, how})
			}
		}
	}
	return all
}

// wayTo is a state: what happened last, and to which.
type wayTo struct {
	before int
	step   step
}

type exploration struct {
	without rule
	ways    []wayTo // of every state found, in the order of their depth; the first is where it begins
	seen    map[uint64]bool
	seed    maphash.Seed
}

func (x *exploration) history(state int) history {
	h := history{without: x.without, rates: []int64{1010, 1010, 990}, modes: []events.Mode{events.ModeDeny}}
	for ; state > 0; state = x.ways[state].before {
		h.steps = append(h.steps, x.ways[state].step)
	}
	slices.Reverse(h.steps)
	return h
}

// world makes a state happen again.
func (x *exploration) world(state int) *model {
	h := x.history(state)
	m := newModel(h.without, h.rates, h.modes...)
	m.begin()
	for _, s := range h.steps {
		m.happen(s)
	}
	return m
}

// explore finds every state up to a depth, or one that breaks a promise.
func (x *exploration) explore(depth int) (broken *history) {
	x.ways, x.seen, x.seed = []wayTo{{}}, map[uint64]bool{}, maphash.MakeSeed()
	steps := explored()
	for from := 0; depth > 0; depth-- {
		for level := len(x.ways); from < level; from++ {
			m := x.world(from)
			for _, s := range steps {
				if !m.happen(s) {
					continue
				}
				if m.broken != "" {
					h := x.history(from)
					h.steps = append(h.steps, s)
					return &h
				}
				if x.isNew(m) {
					x.ways = append(x.ways, wayTo{from, s})
				}
				m = x.world(from)
			}
		}
	}
	return nil
}

// isNew reports whether the world is small enough, and was not seen before.
func (x *exploration) isNew(m *model) bool {
	if len(m.log) > exploredLog || len(m.air) > exploredAir {
		return false
	}
	sum := fingerprint{seed: x.seed}.of(reflect.ValueOf(m).Elem())
	found := x.seen[sum]
	x.seen[sum] = true
	return !found
}

// fingerprint is of everything that a value consists of.
type fingerprint struct{ seed maphash.Seed }

func (f fingerprint) of(v reflect.Value) uint64 {
	switch v.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint64, reflect.String:
		return f.mix(1, f.scalar(v))
	case reflect.Pointer, reflect.Interface:
		return f.referred(v)
	case reflect.Array, reflect.Slice:
		return f.elements(v)
	case reflect.Map:
		sum := uint64(0)
		for each := v.MapRange(); each.Next(); {
			sum += f.mix(f.of(each.Key()), f.of(each.Value()))
		}
		return sum
	case reflect.Struct:
		return f.fields(v)
	default:
		return 0
	}
}

func (f fingerprint) elements(v reflect.Value) uint64 {
	sum := uint64(v.Len())
	ofBytes := v.Type().Elem().Kind() == reflect.Uint8
	for i := range v.Len() {
		if ofBytes {
			sum = f.mix(sum, v.Index(i).Uint())
		} else {
			sum = f.mix(sum, f.of(v.Index(i)))
		}
	}
	return sum
}

func (f fingerprint) scalar(v reflect.Value) uint64 {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	case reflect.Int, reflect.Int64:
		return uint64(v.Int())
	case reflect.String:
		return maphash.String(f.seed, v.String())
	default:
		return v.Uint()
	}
}

var byName = []reflect.Type{reflect.TypeFor[hub](), reflect.TypeFor[edge]()}

// referred stops where the world refers to itself.
func (f fingerprint) referred(v reflect.Value) uint64 {
	switch {
	case v.IsNil():
		return 2
	case v.Type() == reflect.TypeFor[*model]():
		return 3
	default:
		return f.of(v.Elem())
	}
}

func (f fingerprint) fields(v reflect.Value) uint64 {
	switch v.Type() {
	case reflect.TypeFor[events.Entry]():
		return f.of(v.FieldByName("Chain"))
	case reflect.TypeFor[projections.Charter]():
		return 0 // it follows from the position
	}
	sum := uint64(v.NumField())
	for i := range v.NumField() {
		field := v.Field(i)
		if t := field.Type(); t.Kind() == reflect.Pointer && slices.Contains(byName, t.Elem()) {
			if !field.IsNil() {
				sum = f.mix(sum, f.of(field.Elem().FieldByName("name")))
			}
			continue
		}
		sum = f.mix(sum, f.of(field))
	}
	return sum
}

func (f fingerprint) mix(a, b uint64) uint64 {
	const prime = 0x9e3779b97f4a7c15
	sum := (a ^ b>>29) * prime
	return sum ^ sum>>32 + b*0xbf58476d1ce4e5b9
}

func TestModelExplored(t *testing.T) {
	depth := exploredDepth
	if said, err := strconv.Atoi(os.Getenv("KEYFLEET_MODEL_DEPTH")); err == nil {
		depth = said
	}
	x := exploration{}
	broken := x.explore(depth)
	t.Logf("%d states up to depth %d", len(x.ways), depth)
	if broken != nil {
		how, _ := broken.run(t.Logf)
		require.Empty(t, how)
	}
}
