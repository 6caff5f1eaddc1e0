package main

import (
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/usage"
)

// A NATS server keeps nobody from having an answer, or a consumer's messages, delivered into a subject of their own
// account. So everyone who could gain by it has an account of their own, which imports from the log's account exactly
// the subjects that are theirs: whatever they have delivered where, it stays among what they may do anyway. In the log's account
// are registries alone, and who sets up the log.

// rights are what one user may do, in terms of the account that the user belongs to.
type rights struct {
	publish, deny, subscribe []string
	inboxes                  bool // of everyone in the account, not only the user's own: for leaf nodes
}

// What the log's account offers to others. Who is offered what is said by their own accounts' imports.
func hubExports() jwt.Exports {
	exports := jwt.Exports{{Name: "mirror", Subject: eventlog.MirrorSubject + "*", Type: jwt.Stream}}
	for _, service := range []string{
		"keyfleet.cmd.>", "keyfleet.fleet.>", head.RenewSubject + "*", head.AckSubject + "*", usage.Subject + "*",
		resetSubject("*"), flowSubject("*"), snapshotInfo, snapshotRead,
	} {
		exports.Add(&jwt.Export{Name: service, Subject: jwt.Subject(service), Type: jwt.Service})
	}
	return exports
}

// resetSubject is where a mirror asks to be fed from where it is.
func resetSubject(pop string) string {
	return "$JS.API.CONSUMER.RESET." + eventlog.StreamName + "." + pop
}

// flowSubject is where a mirror says that it took in what was sent.
func flowSubject(pop string) string { return "$JS.FC." + eventlog.StreamName + "." + pop + ".*" }

// snapshotInfo and snapshotRead are what reading snapshots takes: the names of objects, and one message at a time.
const (
	snapshotInfo = "$JS.API.STREAM.INFO.OBJ_KEYFLEET_SNAPSHOTS"
	snapshotRead = "$JS.API.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS"
)

// atHub is a question to the hub's JetStream as it is asked from another domain.
func atHub(subject string) string {
	return eventlog.HubAPI + strings.TrimPrefix(subject, "$JS.API")
}

// registryRights are all that keeps the log going, without what could end it.
func registryRights() rights {
	r := rights{
		publish: []string{
			eventlog.Subject, "$JS.API.>", "$JS.FC.>", "$JS.ACK.>", "$KV.KEYFLEET_ELECTION.>", "$O.KEYFLEET_SNAPSHOTS.>",
			"_R_.>", // where answers to other accounts go
		},
		subscribe: []string{"keyfleet.cmd.>", "keyfleet.fleet.>", head.RenewSubject + "*", head.AckSubject + "*", "$SRV.>"},
	}
	for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT", "MSG.DELETE", "PEER.REMOVE"} {
		r.deny = append(r.deny, "$JS.API.STREAM."+verb+"."+eventlog.StreamName)
	}
	return r
}

// setupRights are for keyfleet init, and keyfleet deploy admit.
func setupRights() rights {
	return rights{publish: []string{eventlog.Subject, "$JS.API.>"}}
}

// probeRights let a user of the system account ask the servers about themselves.
func probeRights(about ...string) rights {
	var r rights
	for _, what := range about {
		r.publish = append(r.publish, "$SYS.REQ.SERVER.PING."+what)
	}
	return r
}

// commandSubjects are those of one actor, in one project or, without one, over the fleet.
func commandSubjects(project, actor string) []string {
	if project == "" {
		return []string{"keyfleet.fleet." + actor + ".>"}
	}
	return []string{
		"keyfleet.cmd." + project + "." + actor + ".>",
		"keyfleet.fleet." + actor + ".status", "keyfleet.fleet." + actor + ".confirm",
	}
}

// verifierSubjects are what a verifier tells and asks the hub.
func (s *site) verifierSubjects() []string {
	return []string{head.RenewSubject + s.name, head.AckSubject + s.name, usage.Subject + s.name, atHub(snapshotInfo), atHub(snapshotRead)}
}

// hubSubjects are all that a site may say to the hub, as the site says it.
func (s *site) hubSubjects() []string {
	subjects := []string{atHub(resetSubject(s.name)), flowSubject(s.name)}
	if s.verifier {
		subjects = slices.Concat(subjects, s.verifierSubjects())
	}
	return subjects
}

// imports are the same for the site's account at the hub, and the mirror's feed.
func (s *site) imports(hub string) jwt.Imports {
	imports := jwt.Imports{{Name: "mirror", Account: hub, Subject: jwt.Subject(eventlog.MirrorSubject + s.name), Type: jwt.Stream}}
	for _, local := range s.hubSubjects() {
		there := strings.Replace(local, eventlog.HubAPI, "$JS.API", 1)
		imports.Add(&jwt.Import{Name: there, Account: hub, Subject: jwt.Subject(there), LocalSubject: jwt.RenamingSubject(local), Type: jwt.Service})
	}
	return imports
}

// leafRights are the same once more: the site's server signs in at the hub with them.
func (s *site) leafRights() rights {
	return rights{publish: s.hubSubjects(), subscribe: []string{eventlog.MirrorSubject + s.name, "$JSC.R.>"}, inboxes: true}
}

// readerRights are for who follows the site's copy of the log, on the site's own server.
func (s *site) readerRights() rights {
	r := rights{publish: []string{
		"$JS.API.STREAM.INFO." + eventlog.StreamName, "$JS.API.STREAM.MSG.GET." + eventlog.StreamName,
		"$JS.API.CONSUMER.CREATE." + eventlog.StreamName + ".>", "$JS.API.CONSUMER.MSG.NEXT." + eventlog.StreamName + ".>",
		"$JS.API.CONSUMER.INFO." + eventlog.StreamName + ".*", "$JS.API.CONSUMER.DELETE." + eventlog.StreamName + ".*",
		"$JS.FC." + eventlog.StreamName + ".>",
	}}
	if s.verifier {
		r.publish = slices.Concat(r.publish, s.verifierSubjects())
	}
	return r
}

// mirrorRights let keyfleet deploy mirror make the site's copy of the log, once.
func (s *site) mirrorRights() rights {
	return rights{publish: []string{"$JS.API.STREAM.CREATE." + eventlog.StreamName}}
}
