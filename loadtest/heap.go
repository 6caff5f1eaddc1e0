package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
)

// collect has the process collect its garbage, and returns when it has.
func (p *process) collect(ctx context.Context) error {
	_, err := p.heap(ctx)
	return err
}

// heap is what the process has in use on its heap once its garbage is collected, in bytes, without Pebble's caches.
func (p *process) heap(ctx context.Context) (bytes int64, err error) {
	url := "http://" + p.addresses["admin"] + "/debug/pprof/heap?gc=1&debug=1"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return readHeap(answer.Body)
}

// pebblesOwn is who takes memory for Pebble's memtables and block cache.
const pebblesOwn = "cockroachdb/pebble/v2/internal/manual."

// readHeap adds up a heap profile, as its text form has it: a line with what is in use from one place in the code,
//
//	objects: bytes [objects ever: bytes ever] @ addresses
//
// and the calls that led there. Only samples are written, one for every so many bytes as the first line says twice over.
func readHeap(profile io.Reader) (total int64, err error) {
	lines := bufio.NewScanner(profile)
	lines.Buffer(nil, 1<<20)
	var everBytes, everObjects, doubleRate, objects, bytes int64
	if !lines.Scan() {
		return 0, errors.Join(io.ErrUnexpectedEOF, lines.Err())
	}
	_, err = fmt.Sscanf(lines.Text(), "heap profile: %d: %d [%d: %d] @ heap/%d", &objects, &bytes, &everObjects, &everBytes, &doubleRate)
	if err != nil {
		return 0, fmt.Errorf("not a heap profile: %w", err)
	}
	sum, place := 0.0, 0.0
	for lines.Scan() {
		n, _ := fmt.Sscanf(lines.Text(), "%d: %d [%d: %d] @", &objects, &bytes, &everObjects, &everBytes)
		switch {
		case n == 4:
			sum += place
			place = unsampled(objects, bytes, float64(doubleRate)/2)
		case strings.Contains(lines.Text(), pebblesOwn):
			place = 0
		}
	}
	return int64(sum + place), lines.Err()
}

// unsampled estimates how many bytes there are where so many were sampled: small objects are met seldom.
func unsampled(objects, bytes int64, rate float64) float64 {
	if objects == 0 {
		return 0
	}
	return float64(bytes) / (1 - math.Exp(-float64(bytes)/float64(objects)/rate))
}
