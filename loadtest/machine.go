package main

import (
	"context"
	"math"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/keyfleet/keyfleet/loadtest/report"
)

// thisMachine says what it is measured on. It looks on for a second, to see whether others are at work.
func thisMachine(ctx context.Context, keyfleet string) report.Machine {
	version := "unknown"
	if said, err := exec.CommandContext(ctx, keyfleet, "version").Output(); err == nil {
		_, rest, _ := strings.Cut(string(said), " ")
		version, _, _ = strings.Cut(rest, " ")
	}
	const look = time.Second
	before := machineTimes()
	time.Sleep(look)
	return report.Machine{
		CPU: cpuName(), Cores: runtime.NumCPU(), MemoryGiB: math.Round(10*memoryGiB()) / 10,
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Version: version,
		Busy: math.Round(100*(machineTimes()-before).Seconds()/look.Seconds()) / 100,
	}
}
