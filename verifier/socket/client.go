package socket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/keyfleet/keyfleet/verifier"
)

// Client asks over one connection. It is safe for concurrent use: checks that are under way at the same time share writes
// and reads.
type Client struct {
	conn  net.Conn
	ready chan struct{} // has room for the word that there is something to write
	ended chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex
	out     []byte
	waiting []chan<- Answer // in the order of requests
	err     error           // why no further answer will come
}

// Dial connects to a verifier's socket.
func Dial(path string) (*Client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, ready: make(chan struct{}, 1), ended: make(chan struct{})}
	c.done.Go(c.write)
	c.done.Go(c.read)
	return c, nil
}

// Close ends the connection. Checks under way get an error.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.done.Wait()
	return err
}

// Check asks. An error means that there is no answer; after one that is not of ctx or of the request's size there will be
// none on this connection any more.
func (c *Client) Check(ctx context.Context, r verifier.Request) (Answer, error) {
	reply := make(chan Answer, 1)
	if err := c.send(&r, reply); err != nil {
		return Answer{}, err
	}
	select {
	case a := <-reply:
		return a, nil
	case <-ctx.Done():
		return Answer{}, ctx.Err() // the answer still comes, and goes nowhere
	case <-c.ended:
	}
	select {
	case a := <-reply: // the last one that came
		return a, nil
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		return Answer{}, c.err
	}
}

func (c *Client) send(r *verifier.Request, reply chan<- Answer) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.out, err = appendRequest(c.out, r); err != nil {
		return err
	}
	c.waiting = append(c.waiting, reply)
	select {
	case c.ready <- struct{}{}:
	default:
	}
	return nil
}

// write sends what has come together while it sent what came before.
func (c *Client) write() {
	var sent []byte
	for {
		select {
		case <-c.ready:
		case <-c.ended:
			return
		}
		c.mu.Lock()
		c.out, sent = sent[:0], c.out
		c.mu.Unlock()
		if _, err := c.conn.Write(sent); err != nil {
			_ = c.conn.Close() // read tells everybody
			return
		}
	}
}

func (c *Client) read() {
	in := bufio.NewReaderSize(c.conn, bufferSize)
	var frame [lengthSize + answerSize]byte
	for {
		_, err := io.ReadFull(in, frame[:])
		var a Answer
		if err == nil {
			a, err = parseAnswer(&frame)
		}
		c.mu.Lock()
		if err == nil && len(c.waiting) == 0 {
			err = errMalformed // nothing was asked
		}
		if err != nil {
			c.err = errors.Join(errors.New("the verifier's socket gives no more answers"), err, c.conn.Close())
			c.mu.Unlock()
			close(c.ended)
			return
		}
		c.waiting[0] <- a // it has room
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
	}
}
