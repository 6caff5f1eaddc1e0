package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

var powerCuts = flag.Int("power-cuts", 3, "how often to cut the power of a dev")

// outage is a dev, or more, on a disk whose power is cut again and again, and what it acknowledged.
type outage struct {
	*testing.T
	disk  *forgetfulDisk
	data  string
	start func() (at devFile, kill func())

	memory string // what verifiers keep on tmpfs

	mu           sync.Mutex
	alive, dead  map[string]string // names of keys, with their secrets
	acknowledged int
	unsure       map[string]bool // names whose last command was not answered
}

const callersInAnOutage = 8

// A loss of power takes nothing away that was acknowledged, and lets nobody in who was shut out.
func TestALossOfPowerTakesNothingAcknowledged(t *testing.T) {
	o := newOutage(t)
	var slowest time.Duration
	for range *powerCuts {
		slowest = max(slowest, o.live(300*time.Millisecond))
	}
	lost, checked := o.look()
	t.Logf("%d cuts of power: %d commands acknowledged, %d keys checked, %d lost; ready again after %s at most", *powerCuts, o.acknowledged, checked, lost, slowest)
	require.Zero(t, lost)
	require.Greater(t, o.acknowledged, *powerCuts*10)
}

// The test above can fail: with a disk that says it has synced, and has not, keys are missed, or dev does not get ready.
func TestALossOfPowerIsSeenOnADiskThatLies(t *testing.T) {
	o := newOutage(t)
	startDev(t, o.data).kill()
	o.disk.mu.Lock()
	o.disk.lies = true
	o.disk.mu.Unlock()
	o.live(300 * time.Millisecond)
	dev, ready, err := spawnDev(o.data)
	require.NoError(t, err)
	defer dev.kill()
	select {
	case ok := <-ready:
		if ok {
			require.NoError(t, dev.readAddresses())
			lost, _ := o.lookAt(&dev.devFile)
			require.NotZero(t, lost)
		}
	case <-time.After(5 * time.Second):
	}
}

func newOutage(t *testing.T) *outage {
	disk := newForgetfulDisk(t)
	memory, err := os.MkdirTemp("/dev/shm", "keyfleet-test-") //nolint:usetesting // tmpfs, which a loss of power takes as well
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(memory) })
	t.Setenv("RUNTIME_DIRECTORY", memory)
	o := &outage{T: t, disk: disk, memory: memory, data: filepath.Join(disk.dir, "data"), alive: map[string]string{}, dead: map[string]string{}, unsure: map[string]bool{}}
	o.start = func() (devFile, func()) {
		dev := startDev(o, o.data)
		return dev.devFile, dev.kill
	}
	return o
}

// live has callers create and delete keys for a while, and then cuts the power. It gives how long it took until all was ready.
func (o *outage) live(while time.Duration) time.Duration {
	o.Helper()
	begun := time.Now()
	dev, kill := o.start()
	ready := time.Since(begun)
	hangUp := o.callAll(dev.NATS)
	time.Sleep(while)
	o.disk.cut()
	kill()
	hangUp()
	o.disk.restore(o.T)
	kept, err := os.ReadDir(o.memory)
	require.NoError(o, err)
	for _, of := range kept {
		require.NoError(o, os.RemoveAll(filepath.Join(o.memory, of.Name())))
	}
	return ready
}

// callAll has callers at work until they are told to hang up.
func (o *outage) callAll(url string) (hangUp func()) {
	ctx, end := context.WithCancel(o.Context())
	var callers sync.WaitGroup
	for i := range callersInAnOutage {
		callers.Go(func() { o.call(ctx, url, fmt.Sprintf("%d-%d", time.Now().UnixNano(), i)) })
	}
	return func() {
		end()
		callers.Wait()
	}
}

// call creates keys, and deletes every other one.
func (o *outage) call(ctx context.Context, url, as string) {
	nc, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return
	}
	defer nc.Close()
	client := natsapi.NewClient(nc, "demo", "dev")
	do := func(verb registry.Verb, name string, r registry.Request) (reply registry.KeyReply, answered bool) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err := client.Do(attempt, verb, r, &reply)
		o.mu.Lock()
		defer o.mu.Unlock()
		if err != nil {
			o.unsure[name] = true
			return reply, false
		}
		o.acknowledged++
		return reply, true
	}
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("key-%s-%d", as, n)
		made, ok := do(registry.KeyCreate, name, registry.Request{Name: name, Deployments: &[]string{"echo-model"}})
		if !ok {
			return
		}
		o.mu.Lock()
		o.alive[name] = made.Secret
		o.mu.Unlock()
		if n%2 == 0 {
			continue
		}
		if _, ok = do(registry.KeyDelete, name, registry.Request{Key: name}); !ok {
			return
		}
		o.mu.Lock()
		o.dead[name] = made.Secret
		delete(o.alive, name)
		o.mu.Unlock()
	}
}

// look starts all once more, and counts keys that are not as they were acknowledged.
func (o *outage) look() (lost, checked int) {
	dev, kill := o.start()
	defer kill()
	return o.lookAt(&dev)
}

func (o *outage) lookAt(dev *devFile) (lost, checked int) {
	o.Helper()
	newest := dev.request(o.T, "keyfleet.cmd.demo.dev.key.create", fmt.Sprintf(`{"name":"newest-%d"}`, time.Now().UnixNano()))
	for status, keys := range map[int]map[string]string{http.StatusOK: o.alive, http.StatusUnauthorized: o.dead} {
		for name, secret := range keys {
			if o.unsure[name] {
				continue
			}
			checked++
			if got := dev.check(o.T, secret, uint64(newest.Seq)); got != status {
				lost++
				o.Logf("%s: %d, want %d", name, got, status)
			}
		}
	}
	return lost, checked
}
