package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts plays the scripts in testdata against the real binary. Beside testscript's own commands there are
//
//	dev [args]            starts keyfleet dev in ./keyfleet-data, on free ports, for the rest of the script
//	status N cmd args     runs a command that must exit with status N
//	capture VAR regexp    sets VAR to the first group of what regexp finds in stdout
//	applied SEQ           waits until dev's verifier has applied SEQ
//	signingkey FILE       makes a signing key
//	shorten FILE N        takes the last N bytes off a file
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dev": scriptDev, "status": scriptStatus, "capture": scriptCapture, "applied": scriptApplied,
			"signingkey": scriptSigningKey, "shorten": scriptShorten,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("USER", "Somebody Else")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
	})
}

func scriptDev(ts *testscript.TestScript, _ bool, args []string) {
	d, err := launchDev(ts.MkAbs("keyfleet-data"), args...)
	ts.Check(err)
	ts.Defer(d.kill)
	for name, value := range map[string]string{
		"DEV_NATS": d.NATS, "DEV_HTTP": d.HTTP, "DEV_CHECK": d.Check, "DEV_ADMIN": d.Admin, "DEV_GATEWAY": d.Gateway,
	} {
		ts.Setenv(name, value)
	}
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command args")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, not %d", got, want)
	}
}

func scriptCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VAR regexp")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) < 2 {
		ts.Fatalf("%s is not in stdout", args[1])
	}
	ts.Setenv(args[0], found[1])
}

func scriptApplied(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: applied SEQ")
	}
	seq, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	dev := devFile{Check: ts.Getenv("DEV_CHECK")}
	ts.Check(dev.caughtUp(context.Background(), seq))
}

func scriptSigningKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: signingkey FILE")
	}
	_, err := makeSigningKey(ts.MkAbs(args[0]))
	ts.Check(err)
}

func scriptShorten(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shorten FILE N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	body := ts.ReadFile(args[0])
	ts.Check(os.Truncate(ts.MkAbs(args[0]), int64(len(body)-n)))
}
