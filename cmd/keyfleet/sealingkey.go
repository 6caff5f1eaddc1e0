package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/registry"
)

// readSealingKeys gives what opens sealed admin parts: nil without a file.
func readSealingKeys(path string) (*sealing.Ring, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, flagError("sealing-key", "%v", err)
	}
	keys, err := sealing.ParseKeys(text)
	if err != nil {
		return nil, refusedError(registry.Invalid, "--sealing-key: %s: %v", path, err)
	}
	return sealing.NewRing(keys), nil
}

// explainSealed says what to do where a registry has not the keys that its log needs.
func explainSealed(err error) error {
	if errors.Is(err, events.ErrSealed) {
		return fmt.Errorf("%w: give a file with this key too, with --sealing-key", err)
	}
	return err
}
