package proof_test

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections/proof"
)

var (
	rewrite = flag.Bool("rewrite", false, "rewrite the golden files")
	trials  = flag.Int("trials", 1000, "how many copies to damage")
)

func TestAWholeCopyVerifies(t *testing.T) {
	_, public := keyOf(1)
	l := newLog(t, 1, 400)
	for name, src := range map[string]proof.Source{
		"stream":  source(l.bodies),
		"archive": proof.ReadArchive(bytes.NewReader(l.archive(t, 3, 200))),
	} {
		v, err := verify(t, src, proof.Options{Keys: []events.PublicKey{public}, Pins: [][]byte{signed(t, l.head()), signed(t, l.heads[7])}})
		require.NoError(t, err, name)
		assert.Equal(t, l.head(), v.Checkpoint)
		assert.Equal(t, l.head().Seq, v.Signed)
		assert.EqualValues(t, 400, v.Commits)
		assert.Equal(t, &public, v.SignedBy)
		assert.True(t, v.Trusted)
	}
	v, err := verify(t, source(l.bodies), proof.Options{})
	require.NoError(t, err)
	assert.Zero(t, v.Signed, "nothing was signed")
	assert.Nil(t, v.SignedBy)
	v, err = verify(t, source(l.bodies), proof.Options{Pins: [][]byte{signed(t, l.heads[9])}})
	require.NoError(t, err)
	assert.Equal(t, l.heads[9].Seq, v.Signed)
	assert.False(t, v.Trusted, "the key is the log's own word")
}

// A history that fits together, but is not the one that was signed.
func TestARewrittenHistoryIsFound(t *testing.T) {
	_, public := keyOf(1)
	l, other := newLog(t, 1, 50), newLog(t, 1, 30)
	random := rand.New(rand.NewPCG(9, 9))
	at := events.Position{Incarnation: other.head().Incarnation, Seq: other.head().Seq, Chain: other.head().Chain, Term: other.commits[29].Term, Time: other.head().Time}
	forged := append([][]byte(nil), other.bodies...)
	for at.Seq < l.head().Seq {
		c := &events.Commit{Schema: 1, Incarnation: at.Incarnation, Term: at.Term, First: at.Seq + 1, Parent: at.Chain, Time: at.Time}
		require.NoError(t, c.Add(someEvent(random)))
		body, err := c.Encode()
		require.NoError(t, err)
		at, err = at.Next(events.Entry{Commit: c, Chain: events.HashCommit(body)})
		require.NoError(t, err)
		forged = append(forged, body)
	}
	v, err := verify(t, source(forged), proof.Options{})
	require.NoError(t, err, "by itself it looks well")
	require.Zero(t, v.Signed)

	pins := [][]byte{signed(t, l.heads[20]), signed(t, l.head())}
	_, err = verify(t, source(forged), proof.Options{Keys: []events.PublicKey{public}, Pins: pins})
	fault := requireFault(t, err)
	require.ErrorIs(t, err, proof.ErrChanged)
	assert.Equal(t, l.heads[20].Seq, fault.Proven, "what the older checkpoint covers is sure")

	_, err = verify(t, source(newLog(t, 2, 50).bodies), proof.Options{Keys: []events.PublicKey{public}, Pins: pins[:1]})
	require.Error(t, err, "a log of another incarnation")
	_, err = verify(t, source(newLog(t, 2, 5).bodies), proof.Options{Pins: pins[:1]})
	require.ErrorIs(t, err, events.ErrIncarnation)
	_, stranger := keyOf(2)
	_, err = verify(t, source(l.bodies), proof.Options{Keys: []events.PublicKey{stranger}, Pins: pins[:1]})
	require.ErrorIs(t, err, proof.ErrNotSigned)
}

func requireFault(t testing.TB, err error) *proof.Fault {
	t.Helper()
	var fault *proof.Fault
	require.ErrorAs(t, err, &fault)
	return fault
}

// damage does one thing to a copy, and says from which Seq on it is not the log any more.
type damage struct {
	name string
	do   func(t testing.TB, random *rand.Rand, l *copied, i int) (bodies [][]byte, bad events.Seq)
}

var damages = []damage{
	{"flip", func(_ testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		bodies := slices.Clone(l.bodies)
		bodies[i] = bytes.Clone(bodies[i])
		bodies[i][random.IntN(len(bodies[i]))] ^= 1 << random.IntN(8)
		return bodies, l.commits[i].First
	}},
	{"shorten", func(_ testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		bodies := slices.Clone(l.bodies)
		bodies[i] = bodies[i][:random.IntN(len(bodies[i]))]
		return bodies, l.commits[i].First
	}},
	{"drop", func(_ testing.TB, _ *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return slices.Delete(slices.Clone(l.bodies), i, i+1), l.commits[i].First
	}},
	{"truncate", func(_ testing.TB, _ *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return l.bodies[:i], l.commits[i].First
	}},
	{"duplicate", func(_ testing.TB, _ *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return slices.Insert(slices.Clone(l.bodies), i, l.bodies[i]), l.commits[i].Last() + 1
	}},
	{"repeat an older one", func(_ testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return slices.Insert(slices.Clone(l.bodies), i+1, l.bodies[random.IntN(i+1)]), l.commits[i].Last() + 1
	}},
	{"swap", func(_ testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		bodies := slices.Clone(l.bodies)
		j := (i + 1 + random.IntN(len(bodies)-1)) % len(bodies)
		bodies[i], bodies[j] = bodies[j], bodies[i]
		return bodies, l.commits[min(i, j)].First
	}},
	{"put another log's in its place", func(t testing.TB, _ *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		bodies := slices.Clone(l.bodies)
		bodies[i] = newLog(t, 99, len(bodies)).bodies[i]
		return bodies, l.commits[i].First
	}},
	{"put one in its place that claims that of the one before, too", func(t testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		if i == 0 || len(l.commits[i-1].Events()) == 1 {
			return nil, 0
		}
		was := l.commits[i]
		c := &events.Commit{Schema: was.Schema, Incarnation: was.Incarnation, Term: was.Term, First: was.First - 1, Time: was.Time}
		c.Parent[0] = byte(random.IntN(256))
		require.NoError(t, c.Add(was.Events()...))
		body, err := c.Encode()
		require.NoError(t, err)
		bodies := slices.Clone(l.bodies)
		bodies[i] = body
		return bodies, was.First
	}},
	{"replace an event", func(t testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return altered(t, l, i, func(es []events.Event) []events.Event {
			es[random.IntN(len(es))] = someEvent(random)
			return es
		}), l.commits[i].First
	}},
	{"repeat an event", func(t testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		return altered(t, l, i, func(es []events.Event) []events.Event {
			return append(es, es[random.IntN(len(es))])
		}), l.commits[i].First
	}},
	{"swap events", func(t testing.TB, _ *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		if len(l.commits[i].Events()) == 1 {
			return nil, 0
		}
		return altered(t, l, i, func(es []events.Event) []events.Event {
			es[0], es[1] = es[1], es[0]
			return es
		}), l.commits[i].First
	}},
	{"take an event out", func(t testing.TB, random *rand.Rand, l *copied, i int) ([][]byte, events.Seq) {
		n := len(l.commits[i].Events())
		if n == 1 {
			return nil, 0
		}
		// Whether an event was taken out of this commit, or a commit behind it, nobody can tell: the Seq that is missing is named.
		return altered(t, l, i, func(es []events.Event) []events.Event {
			at := random.IntN(n)
			return slices.Delete(es, at, at+1)
		}), l.commits[i].Last()
	}},
}

// altered puts other events into a commit, and makes it look well by itself.
func altered(t testing.TB, l *copied, i int, change func([]events.Event) []events.Event) [][]byte {
	t.Helper()
	c := &events.Commit{}
	was := l.commits[i]
	c.Schema, c.Incarnation, c.Term, c.First, c.Parent, c.Time = was.Schema, was.Incarnation, was.Term, was.First, was.Parent, was.Time
	require.NoError(t, c.Add(change(slices.Clone(was.Events()))...))
	body, err := c.Encode()
	require.NoError(t, err)
	bodies := slices.Clone(l.bodies)
	bodies[i] = body
	return bodies
}

// Whatever is done to one commit of a stream's copy is found, and where it was done.
func TestDamageToAStreamIsFoundWhereItIs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	l := newLog(t, 3, 60)
	_, public := keyOf(1)
	opts := proof.Options{Keys: []events.PublicKey{public}, Pins: [][]byte{signed(t, l.head())}}
	for range *trials {
		d := damages[random.IntN(len(damages))]
		i := random.IntN(len(l.bodies))
		bodies, bad := d.do(t, random, l, i)
		if bodies == nil || slices.EqualFunc(bodies, l.bodies, bytes.Equal) {
			continue
		}
		_, err := verify(t, source(bodies), opts)
		require.Error(t, err, "%s commit %d", d.name, i)
		require.Equal(t, bad, requireFault(t, err).Seq, "%s commit %d of %d: %v", d.name, i, len(l.bodies), err)
	}
}

// The same in an archive whose writer gave it sums that fit.
func TestDamageToAnArchiveIsFoundWhereItIs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	l := newLog(t, 4, 30)
	_, public := keyOf(1)
	for range *trials / 4 {
		d := damages[random.IntN(len(damages))]
		i := random.IntN(len(l.bodies))
		bodies, bad := d.do(t, random, l, i)
		if bodies == nil || slices.EqualFunc(bodies, l.bodies, bytes.Equal) {
			continue
		}
		forged := &copied{bodies: bodies, commits: l.commits, heads: l.heads}
		_, err := verify(t, proof.ReadArchive(bytes.NewReader(forged.archive(t))), proof.Options{Keys: []events.PublicKey{public}})
		require.Error(t, err, "%s commit %d", d.name, i)
		if d.name == "repeat an event" && i == len(bodies)-1 {
			continue // the checkpoint looks like an older one then; the stream's test has the Seq
		}
		require.Equal(t, bad, requireFault(t, err).Seq, "%s commit %d of %d: %v", d.name, i, len(l.bodies), err)
	}
}

// Any one bit: also those by which a commit claims the place of the one before it, which its parent's hash speaks for.
func TestAnyBitIsFoundWhereItIs(t *testing.T) {
	l := newLog(t, 0, 5)
	_, public := keyOf(1)
	opts := proof.Options{Keys: []events.PublicKey{public}, Pins: [][]byte{signed(t, l.head())}}
	for i := range l.bodies {
		for bit := range 8 * len(l.bodies[i]) {
			bodies := slices.Clone(l.bodies)
			bodies[i] = bytes.Clone(bodies[i])
			bodies[i][bit/8] ^= 1 << (bit % 8)
			_, err := verify(t, source(bodies), opts)
			require.Equal(t, l.commits[i].First, requireFault(t, err).Seq, "commit %d of %d, bit %d: %v", i, len(l.bodies), bit, err)
		}
	}
}

// A flipped bit or a lost end of the file itself is found in the section where it is.
func TestDamageToAFileIsFoundInItsSection(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 4))
	l := newLog(t, 5, 40)
	marks := []int{4, 17, 30}
	file := l.archive(t, marks...)
	ends := sectionEnds(file)
	// A section of events lies between two checkpoints, so that each begins where a commit does.
	begins := map[int]events.Seq{}
	for i := range ends {
		seq := events.Seq(1)
		for j, mark := range marks {
			if i > 2*(j+1) { // its checkpoint
				seq = l.heads[mark].Seq + 1
			}
		}
		begins[i] = seq
	}
	for range *trials {
		damaged := bytes.Clone(file)
		at := random.IntN(len(file))
		section := 0
		for at >= ends[section] {
			section++
		}
		if random.IntN(4) == 0 {
			damaged = damaged[:at]
		} else {
			damaged[at] ^= 1 << random.IntN(8)
		}
		_, err := verify(t, proof.ReadArchive(iotest.HalfReader(bytes.NewReader(damaged))), proof.Options{})
		require.ErrorIs(t, err, proof.ErrDamaged)
		want := begins[section]
		if at >= ends[0] && file[start(ends, section)] != 'e' && section > 1 {
			want = requireFault(t, err).Seq // a checkpoint: all events before it were read
			require.Greater(t, want, events.Seq(1))
		}
		require.Equal(t, want, requireFault(t, err).Seq, "byte %d, section %d", at, section)
	}
	_, err := verify(t, proof.ReadArchive(bytes.NewReader(append(bytes.Clone(file), 0))), proof.Options{})
	require.ErrorIs(t, err, proof.ErrDamaged)
	_, err = verify(t, proof.ReadArchive(iotest.ErrReader(errors.New("the disk"))), proof.Options{})
	require.EqualError(t, err, "the disk", "nothing is said of what cannot be read")
}

func start(ends []int, section int) int { return ends[section-1] }

// sectionEnds gives where each section ends, the first line with the header's.
func sectionEnds(file []byte) (ends []int) {
	at := bytes.IndexByte(file, '\n') + 1
	for at < len(file) {
		n := int(file[at+1])<<24 | int(file[at+2])<<16 | int(file[at+3])<<8 | int(file[at+4])
		at += 5 + n + 32
		ends = append(ends, at)
	}
	return ends
}

// A checkpoint in the file is another one: older, of another log, by another key, or changed.
func TestAReplacedCheckpointIsFound(t *testing.T) {
	l, other := newLog(t, 6, 20), newLog(t, 7, 20)
	_, public := keyOf(1)
	stranger, _ := keyOf(2)
	head := l.head()
	byStranger, err := head.Sign(stranger)
	require.NoError(t, err)
	falseRoot, falseTime := l.head(), l.head()
	falseRoot.Root[0] ^= 1
	falseTime.Time++
	changed := signed(t, l.head())
	changed[len(changed)-5] ^= 1
	for name, c := range map[string]struct {
		note []byte
		bad  events.Seq
	}{
		"older":         {signed(t, l.heads[12]), l.heads[12].Seq + 1},
		"another log's": {signed(t, other.head()), 0},
		"another key's": {byStranger, l.head().Seq},
		"changed":       {changed, l.head().Seq},
		"a false root":  {signed(t, falseRoot), l.commits[19].First},
		"a false time":  {signed(t, falseTime), l.commits[19].First},
		"none":          {nil, l.head().Seq + 1},
	} {
		var file bytes.Buffer
		a, err := proof.NewArchive(&file, l.head().Incarnation, public)
		require.NoError(t, err)
		for _, body := range l.bodies {
			require.NoError(t, a.Commit(body))
		}
		require.NoError(t, a.End(c.note))
		_, err = verify(t, proof.ReadArchive(&file), proof.Options{})
		require.Error(t, err, name)
		if c.bad > 0 {
			require.Equal(t, c.bad, requireFault(t, err).Seq, "%s: %v", name, err)
		}
	}
}

// Many commits, few of them kept: what is shown stops before what does not fit, and a reader may stop too.
func TestReadShowsOnlyWhatFits(t *testing.T) {
	l := newLog(t, 8, 2000)
	r, err := proof.NewReplay(proof.Options{})
	require.NoError(t, err)
	enough := errors.New("enough")
	shown := 0
	require.ErrorIs(t, r.Read(source(l.bodies), func(events.Entry) error {
		if shown++; shown == 700 {
			return enough
		}
		return nil
	}), enough)
	assert.Equal(t, l.commits[699].Last(), r.Position().Seq)

	r, err = proof.NewReplay(proof.Options{})
	require.NoError(t, err)
	var last events.Seq
	err = r.Read(source(slices.Delete(slices.Clone(l.bodies), 900, 901)), func(e events.Entry) error {
		last = e.Commit.Last()
		return nil
	})
	assert.Equal(t, last+1, requireFault(t, err).Seq)
	_, err = verify(t, source(nil), proof.Options{})
	require.Error(t, err)
}

func FuzzReadArchive(f *testing.F) {
	l := newLog(f, 1, 5)
	f.Add(l.archive(f, 2))
	f.Fuzz(func(t *testing.T, file []byte) {
		fuzztest.Frugally(t, len(file), 32<<20, func() { // a compressed part of it may be as large as that
			_ = proof.ReadArchive(bytes.NewReader(file))(func(proof.Part) error { return nil })
		})
		fuzztest.Frugally(t, len(file), 0, func() {
			_, _ = proof.NewReplay(proof.Options{Pins: [][]byte{file}})
			_, _, _ = proof.OpenInclusion(file)
			_, _ = proof.OpenGrowth(file, proof.Checkpoint{})
		})
	})
}

// A reader that stops while a batch is on its way to it ends, whatever the batch met on the way.
func TestAReaderMayStopAtAnyTime(t *testing.T) {
	l := newLog(t, 9, 600)
	enough := errors.New("enough")
	for n := range 200 {
		r, err := proof.NewReplay(proof.Options{})
		require.NoError(t, err)
		shown := 0
		require.ErrorIs(t, r.Read(source(l.bodies), func(events.Entry) error {
			if shown++; shown > n*2 {
				return enough
			}
			return nil
		}), enough)
	}
}
