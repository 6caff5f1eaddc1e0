package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyfleet/keyfleet/loadtest/report"
)

func readRun(path string) (*report.Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &report.Run{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is not what loadtest run writes: %w", path, err)
	}
	return r, nil
}

// writeResults replaces what an earlier run has left in the directory.
func writeResults(dir string, r *report.Run) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var page, tables bytes.Buffer
	if err := errors.Join(report.Write(&page, r, nil), report.WriteMarkdown(&tables, r)); err != nil {
		return err
	}
	write := func(name string, content []byte) error { return os.WriteFile(filepath.Join(dir, name), content, 0o600) }
	return errors.Join(write("run.json", append(text, '\n')), write("index.html", page.Bytes()),
		write("README.md", tables.Bytes()), write("numbers.svg", report.Numbers(r)))
}
