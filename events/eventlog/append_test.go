package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

// impostor answers appends in the server's place: the stream listens elsewhere meanwhile. Each request takes the
// next answer of the script. The last one is said again to whoever did not wait for it, as a slow disk makes callers do.
type impostor struct {
	t      *testing.T
	rig    *rig
	script []answer
	last   answer
}

// answer stores the request, or another commit in its place, and then says something, or nothing.
type answer struct {
	store   bool
	foreign bool
	say     string
}

const elsewhere = "keyfleet.elsewhere"

func refusal(code int) string {
	return fmt.Sprintf(`{"stream":"KEYFLEET_LOG","error":{"code":400,"err_code":%d,"description":"wrong last sequence: 7"}}`, code)
}

func (i *impostor) handle(m *nats.Msg) {
	a := answer{say: i.last.say}
	if len(i.script) > 0 {
		a, i.script = i.script[0], i.script[1:]
		i.last = a
	}
	body := m.Data
	if a.foreign {
		at := i.rig.position()
		body, _ = eventlogtest.NewCommit(i.t, at, 1).Encode()
	}
	if a.store || a.foreign {
		if _, err := i.rig.js.Publish(i.t.Context(), elsewhere, body); err != nil {
			i.t.Error(err)
		}
	}
	if a.say != "" {
		_ = m.Respond([]byte(a.say))
	}
}

// TestAppendSettles walks through each way in which an append's answer can be lost, late or strange.
func TestAppendSettles(t *testing.T) {
	const (
		ok        = `{"stream":"KEYFLEET_LOG","seq":2}`
		duplicate = `{"stream":"KEYFLEET_LOG","seq":2,"duplicate":true}`
		misplaced = `{"stream":"KEYFLEET_LOG","seq":9}`
		stranger  = `{"stream":"OTHER","seq":2}`
	)
	refused := errors.New("a certain refusal")
	for name, c := range map[string]struct {
		script []answer
		want   error
	}{
		"stored, answered":                          {[]answer{{store: true, say: ok}}, nil},
		"lost before it was stored":                 {[]answer{{}, {store: true, say: ok}}, nil},
		"stored, its answer lost (R1)":              {[]answer{{store: true}, {say: refusal(10071)}}, nil},
		"stored, its answer lost (R3)":              {[]answer{{store: true}, {say: refusal(10164)}}, nil},
		"stored, its answer lost, then a duplicate": {[]answer{{store: true}, {say: duplicate}}, nil},
		"conflict with a proposal that fails":       {[]answer{{say: refusal(10164)}, {say: refusal(10071)}, {store: true, say: ok}}, nil},
		"another one stands there":                  {[]answer{{foreign: true, say: refusal(10071)}}, events.ErrConflict},
		"lost, and another one stands there":        {[]answer{{}, {foreign: true, say: refusal(10071)}}, events.ErrConflict},
		"called a duplicate, and not stored":        {[]answer{{say: duplicate}, {store: true, say: ok}}, nil},
		"answered for another place":                {[]answer{{store: true, say: misplaced}}, nil},
		"answered for another place, not stored":    {[]answer{{say: misplaced}, {store: true, say: ok}}, nil},
		"answered for another stream":               {[]answer{{say: stranger}, {store: true, say: ok}}, nil},
		"answered with noise":                       {[]answer{{store: true, say: "}{"}, {say: refusal(10071)}}, nil},
		"an error of unknown outcome":               {[]answer{{store: true, say: refusal(10077)}, {say: refusal(10071)}}, nil},
		"too large":                                 {[]answer{{say: refusal(10054)}}, refused},
		"no room":                                   {[]answer{{say: refusal(10023)}}, refused},
		"no room after a loss":                      {[]answer{{}, {say: refusal(10023)}, {store: true, say: ok}}, nil},
		"no room after a loss that was stored":      {[]answer{{store: true}, {say: refusal(10023)}, {say: refusal(10071)}}, nil},
	} {
		t.Run(name, func(t *testing.T) { checkScript(t, c.script, c.want, refused) })
	}
}

func checkScript(t *testing.T, script []answer, want, refused error) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	r.log.SetPatience(50*time.Millisecond, 0)
	at := r.position()
	config := r.info().Config
	config.Subjects = []string{elsewhere}
	if _, err := r.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	i := &impostor{t: t, rig: r, script: script}
	sub, err := r.admin.Subscribe(eventlog.Subject, i.handle)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()

	c := eventlogtest.NewCommit(t, at, 1)
	_, err = r.log.Append(t.Context(), at, c)
	switch {
	case errors.Is(want, refused) && err != nil:
		if errors.Is(err, events.ErrConflict) || errors.Is(err, events.ErrOutcomeUnknown) {
			t.Fatalf("got %v, want a plain refusal", err)
		}
	case !errors.Is(err, want):
		t.Fatalf("got %v, want %v", err, want)
	}
	if len(i.script) != 0 {
		t.Fatalf("%d answers were not asked for", len(i.script))
	}
	body, _ := c.Encode()
	held, err := r.log.Read(t.Context(), 2)
	if want == nil && (err != nil || held.Chain != events.HashCommit(body)) {
		t.Fatalf("it said the commit is durable, and the log does not hold it: %v", err)
	}
	if last := r.info().State.LastSeq; last > 2 {
		t.Fatalf("the log holds %d messages", last)
	}
}

func TestAppendGivesUpOnAClosedConnection(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	nc := r.servers[0].Connect()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: r.servers[0].SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	at := r.position()
	nc.Close()
	_, err = log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 1))
	if !errors.Is(err, events.ErrOutcomeUnknown) || !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatalf("appended over a closed connection: %v", err)
	}
}

func TestAppendRefusesWhatTheServerCannotTake(t *testing.T) {
	var opts *server.Options
	s := eventlogtest.StartServer(t, func(o *server.Options) { opts = o })
	r := newRig(t, []*eventlogtest.Server{s})
	s.Stop()
	opts.MaxPayload = 20_000 // less than Open wants
	s.Start()
	at := r.position()
	_, err := r.log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 500))
	if !errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, events.ErrOutcomeUnknown) {
		t.Fatalf("a commit beyond the server's max_payload: %v", err)
	}
	if r.position() != at {
		t.Fatal("it was written nevertheless")
	}
}

// TestAppendOutlivesAnOutage has the server away for longer than several attempts.
func TestAppendOutlivesAnOutage(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	r.log.SetPatience(50*time.Millisecond, 0)
	at := r.position()
	r.servers[0].Stop()
	c := eventlogtest.NewCommit(t, at, 1)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.log.Append(short, at, c); !errors.Is(err, events.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("appended without a server: %v", err)
	}
	r.servers[0].Start()
	e, err := r.log.Append(t.Context(), at, c) // the same bytes, as the protocol asks
	if err != nil {
		t.Fatal(err)
	}
	if p := eventlogtest.Behind(e); r.position() != p {
		t.Fatalf("the log ends at %+v, not %+v", r.position(), p)
	}
}

func TestAppendCostsOneRoundTrip(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	at := r.position()
	asked, err := r.admin.SubscribeSync("$JS.API.>")
	if err != nil {
		t.Fatal(err)
	}
	published, err := r.admin.SubscribeSync(eventlog.Subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.admin.Flush(); err != nil { // whatever was sent before the ack has arrived now
		t.Fatal(err)
	}
	questions, _, _ := asked.Pending()
	publishes, _, _ := published.Pending()
	if questions != 0 || publishes != 1 {
		t.Fatalf("a lone append asked %d questions and published %d times", questions, publishes)
	}
}

func TestHeaders(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	at := r.position()
	var es []events.Event
	for i := range 40 {
		e := eventlogtest.NewCommit(t, at, 1).Events()[0]
		e.Project = fmt.Sprintf("p%d", i/2)
		es = append(es, e)
	}
	es = append(es, events.Event{Fact: &events.SchemaRaised{Schema: 2}})
	if _, err := r.log.Append(t.Context(), at, eventlogtest.NewCommitOf(t, at, es...)); err != nil {
		t.Fatal(err)
	}
	stream, err := r.js.Stream(t.Context(), eventlog.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Keyfleet-Seq":                  "2",
		"Keyfleet-Events":               "41",
		"Keyfleet-Types":                "created,schema_raised",
		"Keyfleet-Projects":             "p0,p1,p2,p3,p4,p5,p6,p7,p8,p9,p10,p11,p12,p13,p14,p15,…",
		jetstream.ExpectedLastSeqHeader: "1",
		jetstream.MsgIDHeader:           "",
	} {
		if got := strings.Join(m.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
