package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// What is no commit may come into the log of a dev, where whoever reaches loopback can publish. It ends progress, and nothing else: what
// was known is answered on, also by the next process, and nobody crashes over it again and again.
func TestAPoisonedLogIsAnsweredFromBefore(t *testing.T) {
	for name, poison := range map[string]string{
		"garbage": "garbage", "nothing": "", "an empty list": "\x90", "a list without end": "\xdd\xff\xff\xff\xff", "nested without end": strings.Repeat("\x91", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := startDev(t, t.TempDir()+"/data")
			alive, _ := dev.newKey(t, "alive", "echo-model")
			dead, _ := dev.newKey(t, "dead", "echo-model")
			gone := dev.request(t, "keyfleet.cmd.demo.dev.key.delete", `{"key":"dead","wait":"confirmed"}`)
			nc, err := nats.Connect(dev.NATS)
			require.NoError(t, err)
			defer nc.Close()
			stored, err := nc.Request("keyfleet.log", []byte(poison), 10*time.Second)
			require.NoError(t, err)
			require.Contains(t, string(stored.Data), `"seq"`)
			answers := func() bool {
				return dev.check(t, alive, uint64(gone.Seq)) == http.StatusOK && dev.check(t, dead, uint64(gone.Seq)) == http.StatusUnauthorized
			}
			require.Eventually(t, func() bool { return strings.Contains(dev.stderr.String(), "verifier cannot follow the log for now") }, 30*time.Second, 20*time.Millisecond)
			require.True(t, answers())
			_, status := dev.keyfleet(t, "", "keys", "create", "late", "--timeout", "1s")
			require.Equal(t, statusUnavailable, status, "what cannot be read cannot be decided upon")
			require.True(t, answers())
			select {
			case <-dev.ended:
				require.Fail(t, "it ended")
			default:
			}
		})
	}
}
