package main

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
)

// What there is to be published to by somebody.
var guarded = strings.Fields(`keyfleet.log
	keyfleet.cmd.acme.alice.key.delete keyfleet.cmd.acme.bob.key.delete keyfleet.cmd.other.alice.key.delete
	keyfleet.fleet.alice.status keyfleet.fleet.alice.release keyfleet.fleet.bob.status keyfleet.fleet.root.release
	keyfleet.lease.ams keyfleet.ack.ams keyfleet.usage.ams keyfleet.lease.fra keyfleet.ack.fra keyfleet.usage.fra
	keyfleet.mirror.ams keyfleet.mirror.fra keyfleet.mirror.ada
	keyfleet.hub.CONSUMER.RESET.KEYFLEET_LOG.ams keyfleet.hub.CONSUMER.RESET.KEYFLEET_LOG.fra keyfleet.hub.STREAM.DELETE.KEYFLEET_LOG
	$JS.FC.KEYFLEET_LOG.ams.x $JS.FC.KEYFLEET_LOG.fra.x $KV.KEYFLEET_ELECTION.leader $O.KEYFLEET_SNAPSHOTS.M.x
	$JS.API.STREAM.CREATE.KEYFLEET_LOG $JS.API.STREAM.UPDATE.KEYFLEET_LOG $JS.API.STREAM.DELETE.KEYFLEET_LOG
	$JS.API.STREAM.PURGE.KEYFLEET_LOG $JS.API.STREAM.MSG.DELETE.KEYFLEET_LOG $JS.API.STREAM.RESTORE.KEYFLEET_LOG
	$JS.API.STREAM.INFO.KEYFLEET_LOG $JS.API.STREAM.CREATE.OTHER $JS.API.STREAM.DELETE.KV_KEYFLEET_ELECTION
	$JS.API.STREAM.SNAPSHOT.KEYFLEET_LOG $JS.API.STREAM.PEER.REMOVE.KEYFLEET_LOG
	$JS.API.STREAM.DELETE.OBJ_KEYFLEET_SNAPSHOTS $JS.API.STREAM.PURGE.OBJ_KEYFLEET_SNAPSHOTS $JS.API.STREAM.MSG.GET.KV_KEYFLEET_ELECTION
	$JS.API.CONSUMER.CREATE.KEYFLEET_LOG.x $JS.API.CONSUMER.CREATE.OTHER.x $JS.API.CONSUMER.RESET.KEYFLEET_LOG.fra
	$JS.API.CONSUMER.DURABLE.CREATE.KEYFLEET_LOG.x $JS.API.CONSUMER.DELETE.KV_KEYFLEET_ELECTION.x
	keyfleet.hub.CONSUMER.CREATE.KEYFLEET_LOG.x keyfleet.hub.CONSUMER.DELETE.KEYFLEET_LOG.ams keyfleet.hub.STREAM.MSG.GET.KEYFLEET_LOG
	keyfleet.hub.STREAM.INFO.OBJ_KEYFLEET_SNAPSHOTS keyfleet.hub.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS keyfleet.hub.DIRECT.GET.KEYFLEET_LOG
	keyfleet.hub.STREAM.PURGE.OBJ_KEYFLEET_SNAPSHOTS keyfleet.hub.STREAM.INFO.KV_KEYFLEET_ELECTION $JS.API.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS
	$JS.hub.API.STREAM.DELETE.KEYFLEET_LOG $JS.hub.API.CONSUMER.CREATE.KEYFLEET_LOG.x
	$SYS.REQ.SERVER.PING.JSZ $SYS.REQ.SERVER.PING.VARZ $SYS.REQ.SERVER.x.RELOAD $SYS.REQ.CLAIMS.UPDATE
	_INBOX.UB.x _R_.x`)

// What there is to be listened to.
var overheard = strings.Fields(`> keyfleet.> keyfleet.cmd.> keyfleet.fleet.> keyfleet.lease.* keyfleet.ack.*
	keyfleet.mirror.ams keyfleet.mirror.fra _INBOX.> _R_.> $JS.> $JSC.R.> $SYS.> $KV.>`)

// mayOf names, for each set of credentials, all of guarded and overheard that it opens.
var mayOf = map[string]struct{ publish, subscribe string }{
	"admins/acme.alice": {"keyfleet.cmd.acme.alice.key.delete keyfleet.fleet.alice.status", ""},
	"admins/acme.bob":   {"keyfleet.cmd.acme.bob.key.delete keyfleet.fleet.bob.status", ""},
	"owners/root":       {"keyfleet.fleet.root.release", ""},
	"hub/system":        {"$SYS.REQ.SERVER.PING.JSZ", ""},
	"hub/metrics":       {"$SYS.REQ.SERVER.PING.JSZ $SYS.REQ.SERVER.PING.VARZ", ""},
	"hub/registry": {`keyfleet.log $JS.FC.KEYFLEET_LOG.ams.x $JS.FC.KEYFLEET_LOG.fra.x $KV.KEYFLEET_ELECTION.leader
		$O.KEYFLEET_SNAPSHOTS.M.x $JS.API.STREAM.INFO.KEYFLEET_LOG $JS.API.STREAM.CREATE.OTHER $JS.API.STREAM.DELETE.KV_KEYFLEET_ELECTION
		$JS.API.STREAM.DELETE.OBJ_KEYFLEET_SNAPSHOTS $JS.API.STREAM.PURGE.OBJ_KEYFLEET_SNAPSHOTS $JS.API.STREAM.MSG.GET.KV_KEYFLEET_ELECTION
		$JS.API.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS $JS.API.CONSUMER.DURABLE.CREATE.KEYFLEET_LOG.x $JS.API.CONSUMER.DELETE.KV_KEYFLEET_ELECTION.x
		$JS.API.CONSUMER.CREATE.KEYFLEET_LOG.x $JS.API.CONSUMER.CREATE.OTHER.x $JS.API.CONSUMER.RESET.KEYFLEET_LOG.fra
		$JS.hub.API.CONSUMER.CREATE.KEYFLEET_LOG.x _R_.x`,
		"keyfleet.cmd.> keyfleet.fleet.> keyfleet.lease.* keyfleet.ack.*"},
	"sites/ams/leaf": {`keyfleet.lease.ams keyfleet.ack.ams keyfleet.usage.ams keyfleet.hub.CONSUMER.RESET.KEYFLEET_LOG.ams
		keyfleet.hub.STREAM.INFO.OBJ_KEYFLEET_SNAPSHOTS keyfleet.hub.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS
		$JS.FC.KEYFLEET_LOG.ams.x`, "keyfleet.mirror.ams _INBOX.> $JSC.R.>"},
	"sites/ams/setup": {"$JS.API.STREAM.CREATE.KEYFLEET_LOG", ""},
	"sites/ams/verifier": {`keyfleet.lease.ams keyfleet.ack.ams keyfleet.usage.ams
		keyfleet.hub.STREAM.INFO.OBJ_KEYFLEET_SNAPSHOTS keyfleet.hub.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS $JS.FC.KEYFLEET_LOG.ams.x $JS.FC.KEYFLEET_LOG.fra.x
		$JS.API.STREAM.INFO.KEYFLEET_LOG $JS.API.CONSUMER.CREATE.KEYFLEET_LOG.x`, ""},
	"sites/ada/auditor": {`$JS.FC.KEYFLEET_LOG.ams.x $JS.FC.KEYFLEET_LOG.fra.x
		$JS.API.STREAM.INFO.KEYFLEET_LOG $JS.API.CONSUMER.CREATE.KEYFLEET_LOG.x`, ""},
}

func TestCredentialsOpenNoMoreThanTheyMust(t *testing.T) {
	d := deploy(t)
	site := map[string]*server.Server{"ams": d.startSite("ams"), "ada": d.startSite("ada")}
	for who, may := range mayOf {
		at := d.hub
		if parts := strings.Split(who, "/"); parts[0] == "sites" && parts[2] != "leaf" {
			at = site[parts[1]]
		}
		t.Run(who, func(t *testing.T) {
			nc := d.as(who, at)
			var open []string
			for _, subject := range guarded {
				require.NoError(t, nc.Publish(subject, nil))
				if !refused(t, nc, subject) {
					open = append(open, subject)
				}
			}
			require.ElementsMatch(t, strings.Fields(may.publish), open)
			open = nil
			for _, subject := range overheard {
				_, err := nc.SubscribeSync(subject)
				require.NoError(t, err)
				if !refused(t, nc, subject) {
					open = append(open, subject)
				}
			}
			require.ElementsMatch(t, strings.Fields(may.subscribe), open)
		})
	}
}

// refused reports whether the server said that the subject, which was the last one used, is not for this user.
func refused(t *testing.T, nc *nats.Conn, subject string) bool {
	t.Helper()
	require.NoError(t, nc.Flush())
	err := nc.LastError()
	if err == nil {
		return false
	}
	own := strings.Replace(subject, "$JS.hub.API", "$JS.API", 1) // as servers name what is asked of their own domain
	return strings.Contains(err.Error(), `"`+subject+`"`) || strings.Contains(err.Error(), `"`+own+`"`)
}

// Permissions speak of what a user publishes, not of where answers go. So here is one who may do everything, but
// in the account of an admin, of a PoP or of an auditor: nothing that is somebody else's is reached from there.
func TestAccountsKeepWhatPermissionsCannot(t *testing.T) {
	for account, own := range map[string][]string{
		"admins.acme.alice": {"keyfleet.cmd.acme.alice.key.delete", "keyfleet.fleet.alice.status"},
		"owners.root":       {"keyfleet.fleet.root.release"},
		"sites.ams":         {"keyfleet.lease.ams", "keyfleet.ack.ams", "keyfleet.usage.ams"},
		"sites.ada":         {},
	} {
		t.Run(account, func(t *testing.T) { keepsToItsOwn(t, account, own) })
	}
}

func keepsToItsOwn(t *testing.T, account string, own []string) {
	d := deploy(t)
	log := d.almighty("log")
	heard := &heardSubjects{all: map[string]bool{}}
	for _, subject := range []string{"keyfleet.>", "$KV.>", "_INBOX.victim"} {
		_, err := log.Subscribe(subject, func(m *nats.Msg) {
			heard.add(m.Subject)
			_ = m.Respond([]byte("answer"))
		})
		require.NoError(t, err)
	}
	require.NoError(t, log.Flush())
	_, _, status := d.ask("deploy", "admit", "ams", "--creds", d.creds("hub/setup"))
	require.Equal(t, statusDone, status)
	snapshots, err := eventlog.KeepSnapshots(t.Context(), d.as("hub/registry", d.hub), 1) // there to be asked for
	require.NoError(t, err)
	require.NoError(t, snapshots.Put(t.Context(), "table-x", strings.NewReader("content")))

	mallory := d.almighty(account)
	asked := append([]string{"keyfleet.hub.CONSUMER.RESET.KEYFLEET_LOG.ams", "keyfleet.hub.STREAM.INFO.OBJ_KEYFLEET_SNAPSHOTS",
		"keyfleet.hub.DIRECT.GET.OBJ_KEYFLEET_SNAPSHOTS", "$JS.API.STREAM.INFO.KEYFLEET_LOG"}, own...)
	for _, question := range asked {
		for _, subject := range append([]string{"_INBOX.victim"}, guarded...) {
			require.NoError(t, mallory.Publish(subject, nil))
			require.NoError(t, mallory.PublishRequest(question, subject, nil))
		}
	}
	require.NoError(t, mallory.Flush())
	if len(own) > 0 { // what was sent before has been heard by then
		_, err := mallory.Request(own[0], nil, 10*time.Second)
		require.NoError(t, err)
	}
	require.NoError(t, log.Flush())
	require.Subset(t, own, heard.list())
	js, err := jetstream.New(log)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), eventlog.StreamName)
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.LastSeq, "nothing was appended to the log")
}

// almighty connects, at the hub, a user who may do everything in an account.
func (d *deployed) almighty(account string) *nats.Conn {
	d.Helper()
	a, err := keyring{filepath.Join(d.dir, "keys")}.account(account)
	require.NoError(d, err)
	require.NoError(d, a.issue(d.creds("mallory."+account), "mallory", rights{publish: []string{">"}, subscribe: []string{">"}}))
	return d.as("mallory."+account, d.hub)
}

// heardSubjects is written by a subscription and read by a test.
type heardSubjects struct {
	mu  sync.Mutex
	all map[string]bool
}

func (h *heardSubjects) add(subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[subject] = true
}

func (h *heardSubjects) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	subjects := make([]string, 0, len(h.all))
	for subject := range h.all {
		subjects = append(subjects, subject)
	}
	return subjects
}
