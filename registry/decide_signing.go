package registry

import (
	"slices"

	"github.com/keyfleet/keyfleet/events"
)

// maxSigningKeys is how many keys a log has at a time: two while one takes the other's place, and verifiers have to remember all
// of them in a record of bounded size.
const maxSigningKeys = 4

// addSigningKey lets heads and grants be signed by one more key. One that is there already stays.
func (d *decision) addSigningKey() error {
	key, err := d.signingKey()
	keys := d.Charter().SigningKeys
	switch {
	case err != nil:
		return err
	case slices.Contains(keys, key):
		return nil
	case len(keys) >= maxSigningKeys:
		return refuse(Conflict, "the log has %d signing keys already: retire those that nobody signs with", len(keys))
	}
	d.add(events.Event{Fact: &events.SigningKeyAdded{SigningKey: key}}, events.Admin{})
	return nil
}

// retireSigningKey has nobody believe what the key signs from here on. The registry that decides it signs with another.
func (d *decision) retireSigningKey() error {
	key, err := d.signingKey()
	keys := d.Charter().SigningKeys
	switch {
	case err != nil:
		return err
	case !slices.Contains(keys, key):
		return refuse(NotFound, "%s is none of the log's signing keys; keyfleet fleet --json shows them as log_keys", key)
	case len(keys) == 1:
		return refuse(Conflict, "%s is the log's only signing key: add another first, with keyfleet fleet signing-key add", key)
	case key == d.cmd.signs:
		return refuse(Conflict, "the active registry signs with %s: start every registry with the new key first (--signing-key)", key)
	}
	d.add(events.Event{Fact: &events.SigningKeyRetired{SigningKey: key}}, events.Admin{})
	return nil
}

func (d *decision) signingKey() (key events.PublicKey, err error) {
	if err := key.UnmarshalText([]byte(d.cmd.Request.SigningKey)); err != nil {
		return key, refuseField("signing_key", "signing_key is the public half of a key, 64 hexadecimal digits: %v", err)
	}
	return key, nil
}
