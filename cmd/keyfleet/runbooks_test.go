package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var pageLink = regexp.MustCompile(`\]\(([^)#]*)#([^)]*)\)`)

// Nobody can carry out what a runbook shows without a disaster at hand, but it has to be a command line that makes sense.
func TestRunbookCommands(t *testing.T) {
	for _, block := range blocksOf(t, runbooksPage, "sh") {
		for line := range strings.Lines(block) {
			if line, ours := strings.CutPrefix(strings.TrimSpace(line), "keyfleet "); ours {
				require.NoError(t, parseOnly(line), line)
			}
		}
	}
	for _, wrong := range []string{"fleet leese 3m", "fleet lease", "fleet --wotch", "audit verify a b", "verifier ams-1"} {
		require.Error(t, parseOnly(wrong), wrong)
	}
}

// parseOnly goes as far as the binary does before it acts.
func parseOnly(line string) error {
	line, _, _ = strings.Cut(line, " > ")
	var args []string
	for _, arg := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1) {
		args = append(args, strings.Trim(arg, "'"))
	}
	a := &app{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
	cmd, rest, err := a.rootCommand().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestRunbookLinks(t *testing.T) {
	for _, link := range pageLink.FindAllStringSubmatch(read(t, runbooksPage), -1) {
		page := runbooksPage
		if link[1] != "" {
			page = "../../docs/" + link[1]
		}
		var anchors []string
		for _, heading := range found(pageHeading, read(t, page)) {
			anchors = append(anchors, anchorOf(heading))
		}
		require.Contains(t, anchors, link[2], link[0])
	}
}
