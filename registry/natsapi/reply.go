package natsapi

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyfleet/keyfleet/registry"
)

// problem is the body of a refusal.
type problem struct {
	Code    registry.Code `json:"code"`
	Message string        `json:"message"`
	Field   string        `json:"field,omitempty"`
}

func (s *Server) respond(c call, reply any, err error) {
	asMsgpack := isMsgpack(c.Msg)
	m := &nats.Msg{Subject: c.Reply}
	if asMsgpack {
		m.Header = nats.Header{contentType: {msgpackType}}
	}
	if err == nil {
		m.Data, err = encode(reply, asMsgpack)
	}
	if most := s.nc.MaxPayload(); err == nil && int64(m.Size()) > most { // headers count too
		err = invalid("limit", "the answer has %d bytes and the NATS server passes on %d; ask for less with limit", m.Size(), most)
	}
	var refused registry.Code
	if err != nil {
		r := registry.AsRefusal(err)
		refused = r.Code
		refuse(m, r, asMsgpack)
	}
	c.at.note(time.Since(c.begun), refused)
	_ = s.nc.PublishMsg(m) // no connection, nobody to tell
}

func refuse(m *nats.Msg, r *registry.Refusal, asMsgpack bool) {
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	p := problem{r.Code, shortened(r.Message), shortened(r.Field)}
	m.Header[micro.ErrorCodeHeader] = []string{string(p.Code)}
	m.Header[micro.ErrorHeader] = []string{oneLine(p.Message)}
	m.Data, _ = encode(p, asMsgpack) // texts alone: cannot fail
}

// shortened keeps a refusal that quotes what it was asked from being more than the server passes on.
func shortened(s string) string {
	const most, more = 500, "…"
	if len(s) <= most {
		return s
	}
	end := most - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// oneLine keeps a sentence from being more than one header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
