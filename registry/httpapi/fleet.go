package httpapi

import (
	"strconv"

	"github.com/keyfleet/keyfleet/registry"
)

// The fleet is no project's: whoever is admitted may see it. Receipts name verifiers, and no keys.

func fleetStatus(c *call) (any, error) {
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	return c.look(registry.FleetStatus, registry.Request{})
}

func confirmation(c *call) (any, error) {
	if err := c.checkQuery("wait_timeout"); err != nil {
		return nil, err
	}
	seq, err := strconv.ParseUint(c.r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		return nil, invalid("seq", "a Seq is a whole number from 1, not %q", c.r.PathValue("seq"))
	}
	return c.look(registry.FleetConfirm, registry.Request{Seq: seq, WaitTimeout: c.r.URL.Query().Get("wait_timeout")})
}
