// Command tally runs `go test -json` with the arguments it is given and says
// what a reader wants to know: a line per package, everything a failed test
// printed, why a test was skipped. It ends with a line "N passed, N failed,
// N skipped", counted from go test's own events, subtests included, and exits
// as go test did.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	status, err := goTest(os.Stdout, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		status = 1
	}
	os.Exit(status)
}

// goTest returns go test's exit status. Its error means that go test could not
// be run or followed to its end.
func goTest(out io.Writer, args []string) (status int, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}

	t := newTally(out)
	followed := t.follow(events)
	ended := cmd.Wait()
	if exit := new(exec.ExitError); ended != nil && !errors.As(ended, &exit) {
		return 0, ended
	}
	status = cmd.ProcessState.ExitCode()
	t.close(status)
	return status, followed
}
