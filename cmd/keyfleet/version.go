package main

import (
	"fmt"
	"io"
	"regexp"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
)

var releaseForm = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(-[-.0-9A-Za-z]+)?)$`)

// semanticVersion is the version in the only form that NATS micro takes.
func semanticVersion() string {
	if release := releaseForm.FindStringSubmatch(version); release != nil {
		return release[1]
	}
	return "0.0.0"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Schema  uint64 `json:"schema"` // of the log's events, the newest that it understands
			}{version, runtime.Version(), events.Schema}
			return a.show(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "keyfleet %s (%s, schema %d)\n", v.Version, v.Go, v.Schema)
				return err
			})
		},
	}
}
