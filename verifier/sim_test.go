package verifier_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// epoch is how many steps one world lives for.
const epoch = 500

// TestSimulation lets real registries and verifiers live on a log in memory, on time that a test makes pass and disks that lose what
// was not synced, and does to them what the world does: after every step each verifier has to answer what the log says at its
// Seq, from no Seq before what was confirmed or fenced. Once everything is healed all must be as it should, without anybody's help.
//
// KEYFLEET_SIM_STEPS=1000000 makes it longer; KEYFLEET_SIM_SEED repeats one epoch, but for how goroutines interleave within a step.
func TestSimulation(t *testing.T) {
	steps, seed := number(t, "KEYFLEET_SIM_STEPS", 3*epoch), number(t, "KEYFLEET_SIM_SEED", 0)
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		steps = epoch
	}
	t.Logf("%d steps from seed %d on", steps, seed)
	counts, next := &tallies{of: map[string]int{}}, atomic.Uint64{}
	next.Store(seed)
	t.Run("epochs", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for {
					mine := next.Add(1) - 1
					if (mine-seed)*epoch >= steps || t.Failed() {
						return
					}
					runEpoch(t, mine, epoch, counts)
				}
			})
		}
	})
	t.Logf("seen: %v", counts.of)
	require.NotZero(t, counts.of["answer allowed"], "it tests nothing when nobody is let in")
	require.NotZero(t, counts.of["verdict confirmed"])
}

// tallies count what epochs side by side have seen.
type tallies struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tallies) add(counts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range counts {
		c.of[what] += n
	}
}

func number(t *testing.T, variable string, usual uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return n
}

// happening is something that can happen, so often in so many steps.
type happening struct {
	name   string
	weight int
	do     func(w *world)
}

var happenings = []happening{
	{"command", 70, (*world).command},
	{"command again", 6, (*world).again},
	{"a moment", 24, func(w *world) { time.Sleep(time.Duration(w.random.IntN(400)) * time.Millisecond) }},
	{"seconds", 8, func(w *world) { time.Sleep(time.Duration(1+w.random.IntN(8)) * time.Second) }},
	{"append fails", 3, func(w *world) { w.log.Inject(eventlogtest.Fault{LoseRequest: w.random.IntN(2) == 0, LoseAck: true}) }},
	{"election errs", 1, func(w *world) { w.office.err() }},
	{"registry cut off", 1, func(w *world) { l := w.hub().line; l.set(func() { l.cut = true }) }},
	{"registry reached", 8, func(w *world) { w.hub().line.heal() }},
	{"registry crashes", 2, func(w *world) { w.hub().crash() }},
	{"registry restarts", 1, func(w *world) { w.hub().restart(w.random.IntN(40) - 10) }},
	{"registry's clock set", 2, func(w *world) { w.set(w.hub().clock) }},
	{"log cut off", 3, func(w *world) { l := w.edge().source; l.set(func() { l.cut = true }) }},
	{"log reached", 12, func(w *world) { w.edge().source.heal() }},
	{"uplink cut off", 3, func(w *world) { l := w.edge().uplink; l.set(func() { l.cut = true }) }},
	{"uplink mute", 4, func(w *world) { l := w.edge().uplink; l.set(func() { l.cut, l.mute = false, true }) }},
	{"uplink slow", 4, func(w *world) {
		l := w.edge().uplink
		l.set(func() { l.late = time.Duration(w.random.IntN(3000)) * time.Millisecond })
	}},
	{"uplink reached", 16, func(w *world) { w.edge().uplink.heal() }},
	{"batch disturbed", 6, (*world).disturb},
	{"verifier crashes", 3, func(w *world) { w.edge().crash() }},
	{"verifier restarts", 2, func(w *world) { w.edge().restart(w.random.IntN(40) - 10) }},
	{"verifier restarts unheard", 2, func(w *world) { w.edge().restartUnheard() }},
	{"machine reboots", 1, func(w *world) { w.edge().reboot() }},
	{"verifier's clock set", 2, func(w *world) { w.set(w.edge().clock) }},
}

func (w *world) step() string {
	all := 0
	for _, h := range happenings {
		all += h.weight
	}
	n := w.random.IntN(all)
	for _, h := range happenings {
		if n -= h.weight; n < 0 {
			h.do(w)
			return h.name
		}
	}
	panic("unreachable")
}

func (w *world) hub() *hub   { return w.hubs[w.random.IntN(simHubs)] }
func (w *world) edge() *edge { return w.edges[w.random.IntN(simEdges)] }

func (w *world) disturb() {
	l, now := w.edge().source, 1+trick(w.random.IntN(int(tricks)-1))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = now
}

// set sets a wall clock wrong, or right again.
func (w *world) set(q *quartz) {
	by := []time.Duration{0, 0, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 365 * 24 * time.Hour}
	q.off.Store(int64(by[w.random.IntN(len(by))]))
}

// submission is a command that somebody sends until it is answered.
type submission struct {
	verb    registry.Verb
	ask     registry.Request
	answers []events.Seq
}

// command draws one. Half of those that take something away are waited for until no verifier accepts it.
func (w *world) command() {
	key, llama := fmt.Sprintf("key-%02d", w.random.IntN(6)), fmt.Sprintf("model-%d", w.random.IntN(3))
	opens := &[]string{llama}
	s := &submission{}
	r := registry.Request{CommandID: fmt.Sprintf("c%d", w.random.Uint64()), Key: key}
	switch w.random.IntN(20) {
	case 0, 1:
		s.verb, r.Key, r.Name = registry.DeploymentRegister, "", llama
	case 2:
		s.verb, r.Key, r.Name = registry.DeploymentRemove, "", llama
	case 3, 4, 5, 6, 7:
		made := w.newSecret(key)
		s.verb, r.Key, r.Name, r.Deployments, r.ExpiresAt = registry.KeyCreate, "", key, opens, w.expiry()
		r.Digest, r.Hint = made.digest.String(), "kf_abcd…wxyz"
	case 8, 9, 10:
		s.verb, r.Deployments = registry.KeyAttach, opens
	case 11:
		s.verb, r.Deployments = registry.KeyDetach, opens
	case 12, 13:
		s.verb, r.ExpiresAt = registry.KeyExpire, w.expiry()
	case 14:
		s.verb = registry.KeyDisable
	case 15, 16:
		s.verb = registry.KeyEnable
	case 17, 18:
		made := w.newSecret(key)
		s.verb, r.Digest, r.Hint = registry.KeyRotate, made.digest.String(), "kf_abcd…wxyz"
		r.Grace = new([]string{"0s", "5s", "1h"}[w.random.IntN(3)])
	default:
		s.verb = registry.KeyDelete
	}
	if w.random.IntN(2) == 0 {
		r.Wait, r.WaitTimeout = registry.WaitConfirmed, "20s"
	}
	s.ask = r
	w.mu.Lock()
	w.sent = append(w.sent, s)
	w.mu.Unlock()
	w.submit(s)
}

// expiry is soon, or never.
func (w *world) expiry() *string {
	if w.random.IntN(3) == 0 {
		return new("never")
	}
	return new(events.InstantOf(time.Now().Add(time.Duration(w.random.IntN(120)-5) * time.Second)).String())
}

// again sends what was sent before, as it was.
func (w *world) again() {
	w.mu.Lock()
	var s *submission
	if len(w.sent) > 0 {
		s = w.sent[len(w.sent)-1-w.random.IntN(min(len(w.sent), 20))]
	}
	w.mu.Unlock()
	if s != nil {
		w.submit(s)
	}
}

// submit sends it for a while to whichever registry answers.
func (w *world) submit(s *submission) {
	w.mu.Lock()
	w.waiting++
	w.mu.Unlock()
	tries := 1 + w.random.IntN(30)
	w.callers.Go(func() {
		var reply any
		err := error(&registry.Refusal{Code: registry.Unavailable})
		for ; tries > 0 && unavailable(err); tries-- {
			if reply, err = w.try(s); err != nil {
				time.Sleep(200 * time.Millisecond)
			}
		}
		w.answered(s, reply, err)
	})
}

func unavailable(err error) bool {
	return err != nil && registry.AsRefusal(err).Code == registry.Unavailable
}

// try asks one registry after the other.
func (w *world) try(s *submission) (reply any, err error) {
	err = &registry.Refusal{Code: registry.Unavailable}
	w.eachService(func(svc *registry.Service) bool {
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		reply, err = svc.Do(ctx, registry.Command{Project: "demo", Actor: "sim", Verb: s.verb, Request: s.ask})
		return !unavailable(err)
	})
	return reply, err
}

// answered keeps what was said.
func (w *world) answered(s *submission, reply any, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
	if err != nil {
		w.counts["refusal "+string(registry.AsRefusal(err).Code)]++
		return
	}
	var seq events.Seq
	var said *registry.Confirmation
	switch r := reply.(type) {
	case *registry.KeyReply:
		seq, said = r.Seq, r.Confirmation
	case *registry.DeploymentReply:
		seq, said = r.Seq, r.Confirmation
	}
	s.answers, w.acked = append(s.answers, seq), max(w.acked, seq)
	w.counts["verdict "+said.State]++
	if said.State == "confirmed" || said.State == "fenced" {
		w.settled = max(w.settled, seq)
	}
}
