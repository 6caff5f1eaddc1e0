//go:build !linux

package verifier

import "github.com/keyfleet/keyfleet/events/slot"

// placeOf has every start be another instance on systems without tmpfs and boot ids: fit for development alone.
func placeOf(*slot.File, string) (place, error) { return place{}, nil }
