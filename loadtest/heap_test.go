package main

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeapIsReadFromAProfile(t *testing.T) {
	const profile = `heap profile: 4: 75497600 [9: 80000000] @ heap/1048576
1: 67108864 [1: 67108864] @ 0x1 0x2
#	0x1	main.main+0x1	/src/main.go:23

1: 8388608 [1: 8388608] @ 0x3
#	0x3	github.com/cockroachdb/pebble/v2/internal/manual.New+0x35	/src/manual.go:30
#	0x4	github.com/cockroachdb/pebble/v2.(*DB).newMemTable+0x35	/src/db.go:30

0: 0 [3: 3000] @ 0x5
#	0x5	main.gone+0x1	/src/main.go:24

2: 128 [2: 128] @ 0x6
#	0x6	main.small+0x1	/src/main.go:25

# runtime.MemStats
# Alloc = 3840504
`
	total, err := readHeap(strings.NewReader(profile))
	require.NoError(t, err)
	require.InDelta(t, 64<<20+2*524_288, total, 1000, "the cache is left out, and two small objects stand for the many that no sample met")

	_, err = readHeap(strings.NewReader("404 page not found"))
	require.Error(t, err)
	_, err = readHeap(strings.NewReader(""))
	require.Error(t, err)
}

// What the runtime writes today is what is read.
func TestHeapOfThisProcess(t *testing.T) {
	measured := func() int64 {
		runtime.GC()
		var text bytes.Buffer
		require.NoError(t, pprof.Lookup("heap").WriteTo(&text, 1))
		total, err := readHeap(&text)
		require.NoError(t, err)
		return total
	}
	before := measured()
	kept := make([]byte, 64<<20)
	require.InDelta(t, 64<<20, measured()-before, 8<<20)
	runtime.KeepAlive(kept)
}
