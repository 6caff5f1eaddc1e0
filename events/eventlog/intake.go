package eventlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/keyfleet/keyfleet/events"
)

// MaxBatchBytes is how much of the log fills one batch; the commit that fills it may go beyond. Large batches are for whoever is far
// behind: Pebble writes them in half the time.
const MaxBatchBytes = 8 << 20

// intake turns what the server sends to one consumer into batches of checked commits. NATS calls take from a
// goroutine that belongs to the subscription, one message at a time: it decodes and checks while the one that runs
// pump has the batch before delivered. Commits wait in between for at most one batch; then take blocks, and with it
// the answers to flow control, and so the server.
type intake struct {
	nc   *nats.Conn
	name string // of the consumer
	sub  *nats.Subscription

	// Of take alone.
	position  events.Position // behind the last commit taken in
	anchored  bool            // the commit at the position that we follow from has come
	delivered uint64          // the consumer's own count of what it sent
	broken    bool            // err is set: nothing more is taken in

	heard atomic.Bool // something came since pump last looked

	mu      sync.Mutex
	entries []events.Entry
	bytes   int
	err     error // why nothing more comes

	ready   chan struct{} // holds a value when entries or err are new
	space   chan struct{} // holds a value when entries were taken away
	stopped chan struct{} // closed when nobody pumps any more
	ended   chan struct{} // closed when take will not be called again
}

func newIntake(nc *nats.Conn, from events.Position) *intake {
	return &intake{
		nc:       nc,
		name:     nuid.Next(),
		position: from,
		anchored: from.Seq == 0,
		ready:    make(chan struct{}, 1),
		space:    make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		ended:    make(chan struct{}),
	}
}

func (in *intake) listen() error {
	sub, err := in.nc.Subscribe(in.nc.NewInbox(), in.take)
	if err != nil {
		return err
	}
	sub.SetClosedHandler(func(string) { close(in.ended) })
	if !sub.IsValid() { // closed before it had the handler: ended may never be
		return nats.ErrConnectionClosed
	}
	in.sub = sub
	// The consumer's window is 32 MiB, so what may wait here is bounded by the server. Should more come
	// nevertheless, NATS drops it, and the consumer's count shows that.
	return sub.SetPendingLimits(-1, 3*MaxBatchBytes+64<<20)
}

// close ends the subscription and waits for its goroutine.
func (in *intake) close() {
	close(in.stopped)
	_ = in.sub.Unsubscribe() // fails only when it is closed already
	<-in.ended
}

// pump delivers batches until something fails. A silence of the server counts only while we listen: a slow deliver
// holds up its heartbeats too.
func (in *intake) pump(ctx context.Context, status <-chan nats.Status, deliver func([]events.Entry) error) error {
	watch := time.NewTicker(heartbeat * 3 / 2)
	defer watch.Stop()
	silent := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			// Messages may be lost, and the stream behind the next connection may be another: begin anew.
			return fmt.Errorf("%w: connection to NATS is %s", errDisturbed, strings.ToLower(s.String()))
		case <-watch.C:
			if silent++; in.heard.Swap(false) {
				silent = 0
			}
			if silent == 2 { // the consumer or its server are gone
				return fmt.Errorf("%w: the server has fallen silent", errDisturbed)
			}
		case <-in.ready:
			entries, err := in.drain()
			if len(entries) > 0 {
				if err := deliver(entries); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
		}
	}
}

// drain takes what is at hand.
func (in *intake) drain() ([]events.Entry, error) {
	in.mu.Lock()
	entries, err := in.entries, in.err
	in.entries, in.bytes = nil, 0
	in.mu.Unlock()
	signal(in.space)
	return entries, err
}

// put adds what came, and waits while a batch is full.
func (in *intake) put(e events.Entry, size int) {
	in.mu.Lock()
	in.entries = append(in.entries, e)
	in.bytes += size
	full := in.bytes >= MaxBatchBytes
	in.mu.Unlock()
	signal(in.ready)
	for full {
		select {
		case <-in.space:
		case <-in.stopped:
			return
		}
		in.mu.Lock()
		full = in.bytes >= MaxBatchBytes
		in.mu.Unlock()
	}
}

func (in *intake) fail(err error) {
	in.broken = true
	in.mu.Lock()
	in.err = err
	in.mu.Unlock()
	signal(in.ready)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take handles one message. After the first fault it ignores everything.
func (in *intake) take(m *nats.Msg) {
	in.heard.Store(true)
	if in.broken {
		return
	}
	var err error
	if rest, ok := strings.CutPrefix(m.Reply, "$JS.ACK."); ok {
		err = in.takeCommit(rest, m.Data)
	} else {
		err = in.takeControl(m)
	}
	if err != nil {
		in.fail(err)
	}
}

// takeCommit handles a message of the stream. NATS gives each message memory of its own, so its body may be kept.
func (in *intake) takeCommit(place string, body []byte) error {
	streamSeq, delivered, err := sequences(place)
	if err != nil {
		return err
	}
	if delivered != in.delivered+1 {
		return fmt.Errorf("%w: messages were lost on the way", errDisturbed)
	}
	in.delivered = delivered
	if !in.anchored {
		return in.anchor(streamSeq, body)
	}
	c, err := events.DecodeCommit(body)
	if err != nil {
		return fmt.Errorf("stream message %d: %w", streamSeq, err)
	}
	e := events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: streamSeq}
	next, err := in.position.Next(e)
	if err != nil {
		return fmt.Errorf("stream message %d: %w", streamSeq, err)
	}
	in.position = next
	in.put(e, len(body))
	return nil
}

// anchor looks for the commit that we follow from, which must come before any other is believed.
func (in *intake) anchor(streamSeq uint64, body []byte) error {
	from := in.position
	switch {
	case streamSeq < from.StreamSeq:
		return nil // a replica that is catching up began earlier than it was asked to
	case streamSeq > from.StreamSeq:
		return fmt.Errorf("%w: message %d, which held Seq %d, is not in the stream any more", events.ErrGap, from.StreamSeq, from.Seq)
	case events.HashCommit(body) == from.Chain:
		in.anchored = true
		return nil
	}
	if c, err := events.DecodeCommit(body); err == nil && c.Incarnation != from.Incarnation {
		return fmt.Errorf("%w: had %s, found %s", events.ErrIncarnation, from.Incarnation, c.Incarnation)
	}
	return fmt.Errorf("%w: message %d, which held Seq %d, is another one now", events.ErrFork, streamSeq, from.Seq)
}

// takeControl handles what the server says about the consumer.
func (in *intake) takeControl(m *nats.Msg) error {
	if status := m.Header.Get("Status"); status != "100" {
		return fmt.Errorf("%w: the server ended it: %s %s", errDisturbed, status, m.Header.Get("Description"))
	}
	if m.Reply != "" { // flow control: all that was sent before it has been taken in
		return in.permit(m.Reply)
	}
	if stalled := m.Header.Get("Nats-Consumer-Stalled"); stalled != "" { // our answer to flow control was lost
		return in.permit(stalled)
	}
	if last := m.Header.Get("Nats-Last-Consumer"); last != strconv.FormatUint(in.delivered, 10) {
		return fmt.Errorf("%w: %s messages were sent, %d came", errDisturbed, last, in.delivered)
	}
	if !in.anchored { // the stream ended before it, or was replaced, after we looked
		return fmt.Errorf("%w: message %d did not come", errDisturbed, in.position.StreamSeq)
	}
	return nil
}

// permit lets the server send more. Others may publish to our inbox where users are not kept apart: what they name is
// not to be written to by us, who may write to the log.
func (in *intake) permit(flow string) error {
	if !strings.HasPrefix(flow, "$JS.FC.") {
		return fmt.Errorf("%w: it was asked to answer at %q, which is no subject of flow control", errDisturbed, flow)
	}
	return in.nc.Publish(flow, nil)
}

// sequences reads a delivery's place in the stream, and in what the consumer sent, from the subject for its ack:
// stream.consumer.deliveries.streamSeq.delivered.… with domain and account in front where servers add them.
func sequences(place string) (streamSeq, delivered uint64, err error) {
	skip, rest := 3, place
	if strings.Count(place, ".") >= 8 {
		skip = 5
	}
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	first, rest, _ := strings.Cut(rest, ".")
	second, _, _ := strings.Cut(rest, ".")
	if streamSeq, err = strconv.ParseUint(first, 10, 64); err == nil {
		delivered, err = strconv.ParseUint(second, 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w: a message without its place in the stream: %w", errDisturbed, err)
	}
	return streamSeq, delivered, nil
}
