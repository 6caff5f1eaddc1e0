package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	defaultData    = "./keyfleet-data"
	defaultNATS    = "nats://127.0.0.1:4222"
	defaultProject = "demo"
)

// devFile is DIR/dev.json: where a dev that is ready listens, and who it takes its user for. It is
// part of the public contract. NATS is a nats:// URL, the others are http:// URLs.
type devFile struct {
	NATS     string `json:"nats"`
	HTTP     string `json:"http"`
	Check    string `json:"check"`
	Admin    string `json:"admin"`
	Gateway  string `json:"gateway"`
	Project  string `json:"project"`
	Actor    string `json:"actor"`
	AdminKey string `json:"admin_key"` // the credential for REST; nowhere else on this machine
}

// devFilePath is the file while dev is ready; lastDevFilePath is the same file while it is not.
func devFilePath(data string) string     { return filepath.Join(data, "dev.json") }
func lastDevFilePath(data string) string { return filepath.Join(data, "dev.last.json") }

// readDevFile gives the zero devFile where there is none.
func readDevFile(path string) (devFile, error) {
	var f devFile
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("%s is damaged (%w); remove it and start keyfleet dev again", path, err)
	}
	return f, nil
}

// write puts the file in place as a whole: readers see all of it or nothing.
func (f devFile) write(data string) (err error) {
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(data, "dev.json.*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(append(body, '\n'))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err = os.Rename(temporary.Name(), devFilePath(data)); err != nil {
		return err
	}
	if err := os.Remove(lastDevFilePath(data)); !errors.Is(err, fs.ErrNotExist) {
		return err // the admin key is to be in one place
	}
	return nil
}

// setAsideDevFile takes dev.json out of sight while dev is not ready: its presence says that dev is. The
// admin key in it is kept, in a file of the same mode.
func setAsideDevFile(data string) error {
	err := os.Rename(devFilePath(data), lastDevFilePath(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
