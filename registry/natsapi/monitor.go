package natsapi

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/keyfleet/keyfleet/registry"
)

const serviceName = "keyfleet"

// monitor answers what `nats micro` asks. nats.go's own answers go to any reply subject that a caller names, so
// that a ping could be answered into the log; these go to those that commands are answered at.
type monitor struct {
	identity  micro.ServiceIdentity
	started   time.Time
	endpoints []*endpoint
}

// endpoint is where one verb is heard, and the counts that `nats micro stats` shows of it: of what was answered, while
// this registry was the active one.
type endpoint struct {
	verb          registry.Verb
	name, subject string

	requests, refusals, nanoseconds atomic.Int64
	lastRefusal                     atomic.Value // its registry.Code: a message may quote what only its caller may know
}

func newMonitor(version string) *monitor {
	m := &monitor{
		identity: micro.ServiceIdentity{Name: serviceName, ID: nuid.Next(), Version: version, Metadata: map[string]string{}},
		started:  time.Now().UTC(),
	}
	for _, v := range registry.Verbs() {
		name := strings.ReplaceAll(string(v), ".", "-")
		m.endpoints = append(m.endpoints, &endpoint{verb: v, name: name, subject: subjectOf("*", "*", v)})
	}
	return m
}

// note counts an answer. refused is empty when it is none.
func (e *endpoint) note(took time.Duration, refused registry.Code) {
	e.requests.Add(1)
	e.nanoseconds.Add(int64(took))
	if refused != "" {
		e.refusals.Add(1)
		e.lastRefusal.Store(refused)
	}
}

// subjects are all that are asked for a kind of answer: of all services, of all registries, of this one.
func (m *monitor) subjects(v micro.Verb) []string {
	all := micro.APIPrefix + "." + v.String()
	return []string{all, all + "." + m.identity.Name, all + "." + m.identity.Name + "." + m.identity.ID}
}

func (m *monitor) ping() micro.Ping {
	return micro.Ping{ServiceIdentity: m.identity, Type: micro.PingResponseType}
}

func (m *monitor) info() micro.Info {
	info := micro.Info{
		ServiceIdentity: m.identity,
		Type:            micro.InfoResponseType,
		Description:     "API keys: commands at " + subjectOf("<project>", "<actor>", "<noun>.<verb>"),
	}
	for _, e := range m.endpoints {
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{Name: e.name, Subject: e.subject})
	}
	return info
}

// stats has data beside each endpoint's own counts.
func (m *monitor) stats(data any) micro.Stats {
	stats := micro.Stats{ServiceIdentity: m.identity, Type: micro.StatsResponseType, Started: m.started}
	raw, _ := json.Marshal(data) // numbers and truths: cannot fail
	for _, e := range m.endpoints {
		s := &micro.EndpointStats{Name: e.name, Subject: e.subject, Data: raw,
			NumRequests: int(e.requests.Load()), NumErrors: int(e.refusals.Load()),
			ProcessingTime: time.Duration(e.nanoseconds.Load())}
		if code, refused := e.lastRefusal.Load().(registry.Code); refused {
			s.LastError = string(code)
		}
		if s.NumRequests > 0 {
			s.AverageProcessingTime = s.ProcessingTime / time.Duration(s.NumRequests)
		}
		stats.Endpoints = append(stats.Endpoints, s)
	}
	return stats
}

// state is what `nats micro stats` shows beside its counts.
func (s *Server) state() any {
	term, active := s.svc.Active()
	return struct {
		Active   bool   `json:"active"` // false: this registry stands by
		Term     uint64 `json:"term"`
		InFlight int    `json:"in_flight"`
	}{active, term, len(s.places)}
}

// offerMonitoring also while another registry is the active one.
func (s *Server) offerMonitoring() error {
	for verb, answer := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return s.monitor.ping() },
		micro.InfoVerb:  func() any { return s.monitor.info() },
		micro.StatsVerb: func() any { return s.monitor.stats(s.state()) },
	} {
		for _, subject := range s.monitor.subjects(verb) {
			err := s.subscribe(subject, func(m *nats.Msg) {
				if answerable(m.Reply) {
					data, _ := json.Marshal(answer()) // texts and numbers: cannot fail
					_ = s.nc.Publish(m.Reply, data)   // no connection, nobody to tell
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
