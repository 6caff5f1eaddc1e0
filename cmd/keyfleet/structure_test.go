// The rules that keep the tree readable, held to the tree as it is: what may
// import what, what a package says of itself, what things are called and where
// they lie. The rules stand in structure_rules_test.go.

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	module = "github.com/keyfleet/keyfleet"
	root   = "../.."
)

func TestStructureImports(t *testing.T) {
	g := importGraph{}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			g[shortened(p.ImportPath)] = append(g[shortened(p.ImportPath)], shortened(imported))
		}
	}
	report(t, importFaults(g))
}

func TestStructurePackageDocs(t *testing.T) {
	for _, p := range ourPackages(t) {
		files := slices.Concat(p.GoFiles, p.CgoFiles)
		if len(files) > 0 { // a package of tests alone has no reader to speak to
			report(t, docFaults(p.ImportPath, p.Name, packageDoc(t, p.Dir, files)))
		}
	}
}

func TestStructurePackageNames(t *testing.T) {
	for _, p := range ourPackages(t) {
		report(t, nameFaults(p.ImportPath, p.Name))
	}
}

func TestStructureTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	report(t, topLevelFaults(names, strings.Split(string(ignored), "\n")))
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, fault := range faults {
		t.Error(fault)
	}
}

// listedPackage is what the rules need of `go list -json`.
type listedPackage struct {
	ImportPath, Name, Dir      string
	GoFiles, CgoFiles, Imports []string
}

// packages lists the module's packages and all that they depend on.
func packages(t *testing.T) []listedPackage {
	t.Helper()
	list, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func ourPackages(t *testing.T) []listedPackage {
	t.Helper()
	list := slices.DeleteFunc(slices.Clone(packages(t)), func(p listedPackage) bool {
		return !isOurs(shortened(p.ImportPath))
	})
	if len(list) == 0 {
		t.Fatalf("go list names no package of %s: the rules have nothing to hold", module)
	}
	return list
}

var goList = sync.OnceValues(func() (list []listedPackage, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,Imports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listedPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
})

// shortened writes the module's own packages as importGraph does.
func shortened(importPath string) string {
	if folder, ours := strings.CutPrefix(importPath, module+"/"); ours {
		return "./" + folder
	}
	return importPath
}

func packageDoc(t *testing.T, dir string, files []string) (doc string) {
	t.Helper()
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil,
			parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		doc += parsed.Doc.Text()
	}
	return doc
}
