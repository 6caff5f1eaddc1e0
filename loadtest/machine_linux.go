package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tickLength is the unit of time in /proc, the same on every Linux that Go runs on.
const tickLength = 10 * time.Millisecond

// cpuTime is what a process has used of the cores so far.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte(") ")) // the name may have anything in it
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d has no times in /proc", pid)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tickLength, err
}

// resident is what a process has in memory, in bytes, the files that it has mapped among it.
func resident(pid int) (int64, error) { return readKiB(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") }

func readKiB(path, name string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s says nothing of %s", path, name)
}

// machineTimes is what all processes together have used of the cores.
func machineTimes() (busy time.Duration) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(first) {
		if ticks, err := strconv.ParseInt(field, 10, 64); err == nil && i <= 8 && i != 4 && i != 5 { // neither idle nor waiting for disks
			busy += time.Duration(ticks) * tickLength
		}
	}
	return busy
}

func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.TrimLeft(name, "\t :")
		}
	}
	return "unknown"
}

func memoryGiB() float64 {
	total, err := readKiB("/proc/meminfo", "MemTotal:")
	if err != nil {
		return 0
	}
	return float64(total) / (1 << 30)
}
