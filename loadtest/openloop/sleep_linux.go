package openloop

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// newSleep gives a sleep for one goroutine that ends some 30 µs late: the runtime's own waits in steps of
// milliseconds once nothing else runs, and that would count as the server's.
func newSleep() (func(time.Duration), error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	timer := os.NewFile(uintptr(fd), "timer")
	expirations := make([]byte, 8)
	return func(d time.Duration) {
		err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
		if err == nil {
			_, err = timer.Read(expirations)
		}
		if err != nil {
			time.Sleep(d)
		}
		runtime.KeepAlive(timer)
	}, nil
}
