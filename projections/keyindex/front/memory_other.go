//go:build unix && !linux

package front

func adviseHugePages([]byte) {}
