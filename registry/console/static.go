package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:embed static
var staticFiles embed.FS

// file is one of the console's own, with the version that its address names: browsers keep it for as long as it is that one.
type file struct {
	body    []byte
	version string
}

var files = func() map[string]file {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	all := map[string]file{}
	for _, e := range entries {
		body, err := staticFiles.ReadFile(path.Join("static", e.Name()))
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		all[e.Name()] = file{body, hex.EncodeToString(sum[:8])}
	}
	return all
}()

func staticURL(name string) string { return "/static/" + name + "?v=" + files[name].version }

func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	f, known := files[name]
	if !known || r.URL.Path != "/static/"+name || r.URL.Query().Get("v") != f.version {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.body))
}
