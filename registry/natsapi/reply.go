package natsapi

import (
	"strings"

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

// respond answers over the connection rather than by the request's own methods: those note errors where micro reads
// them as soon as the handler has returned, which is before anything is answered.
func (s *Server) respond(req micro.Request, reply any, err error) {
	asMsgpack := isMsgpack(req)
	m := &nats.Msg{Subject: req.Reply()}
	if err == nil {
		m.Data, err = encode(reply, asMsgpack)
	}
	if most := s.nc.MaxPayload(); err == nil && int64(len(m.Data)) > most {
		err = invalid("limit", "the answer has %d bytes and the NATS server passes on %d; ask for less with limit", len(m.Data), most)
	}
	if asMsgpack {
		m.Header = nats.Header{contentType: {msgpackType}}
	}
	if err != nil {
		refuse(m, registry.AsRefusal(err), asMsgpack)
	}
	_ = s.nc.PublishMsg(m) // no connection, nobody to tell
}

func refuse(m *nats.Msg, r *registry.Refusal, asMsgpack bool) {
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header[micro.ErrorCodeHeader] = []string{string(r.Code)}
	m.Header[micro.ErrorHeader] = []string{oneLine(r.Message)}
	m.Data, _ = encode(problem{r.Code, r.Message, r.Field}, asMsgpack) // texts alone: cannot fail
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
