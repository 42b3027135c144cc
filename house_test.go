// Package luna holds the plan of the house as tests: who may import whom, that
// every package says what it is, and how large things may grow. The plan itself
// is docs/DESIGN.md.
package luna

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/clustervision/luna/"

// mayImport says, for each package, which others of this module it may import.
// A package that is not here is not part of the house: add it with its reason
// to docs/DESIGN.md.
var mayImport = map[string][]string{
	"inventory":        {},
	"consensus":        {},
	"image":            {},
	"swarm":            {},
	"pki":              {},
	"bmc":              {},
	"boot/tftp":        {},
	"fsm":              {"inventory"},
	"legacy":           {"inventory"},
	"dns":              {"inventory"},
	"api":              {"inventory"},
	"boot":             {"inventory"},
	"boot/dhcp":        {"inventory", "boot"},
	"installer":        {"boot", "image", "swarm"},
	"cli":              {"api", "bmc", "image", "inventory", "legacy"},
	"agent":            {"api", "boot", "boot/dhcp", "boot/tftp", "consensus", "dns", "fsm", "image", "inventory", "pki", "swarm"},
	"cmd/luna":         {"agent", "cli", "image"},
	"cmd/luna-install": {"installer"},
}

// fences keep a library behind the one package that wraps it, so that it can
// change or be changed without anyone else noticing.
var fences = map[string][]string{
	"github.com/hashicorp/raft":        {"consensus", "fsm"},
	"github.com/hashicorp/raft-boltdb": {"consensus"},
	"github.com/hashicorp/memberlist":  {"consensus"},
	"github.com/hashicorp/go-memdb":    {"inventory"},
	"github.com/anacrolix/":            {"swarm"},
	"github.com/insomniacslk/dhcp":     {"boot/dhcp", "installer"},
	"github.com/pin/tftp":              {"boot/tftp"},
	"github.com/bougou/go-ipmi":        {"bmc"},
	"github.com/danielgtaylor/huma":    {"api"},
	"github.com/miekg/dns":             {"dns"},
	"go.mongodb.org/":                  {"legacy"},
	"github.com/spf13/cobra":           {"cli", "cmd/luna"},
}

const (
	maxFile     = 600 // lines
	maxFunction = 80  // lines
)

var badName = regexp.MustCompile(`(^|/)(util|utils|common|helper|helpers|misc)(/|$|\.go$)`)

// source is one Go file that is not a test.
type source struct {
	path string // slashes, from the root
	pkg  string // its folder
	file *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{p, path.Dir(p), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		inTest := s.pkg == "test" || strings.HasPrefix(s.pkg, "test/") || s.pkg == "agent/agenttest"
		allowed, known := mayImport[s.pkg]
		if !known && !inTest {
			t.Errorf("%s: package %s is not in the plan of the house", s.path, s.pkg)
		}
		for _, i := range s.file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if to, ours := strings.CutPrefix(p, module); ours && !inTest && !slices.Contains(allowed, to) {
				t.Errorf("%s: %s may not import %s", s.path, s.pkg, to)
			}
			for library, users := range fences {
				if strings.HasPrefix(p, library) && !inTest && !slices.Contains(users, s.pkg) {
					t.Errorf("%s: %s stays behind %v", s.path, p, users)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if s.file.Doc != nil {
			docs[s.pkg]++
		} else if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = 0
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", pkg, n)
		}
	}
}

func TestNothingIsCalledUtil(t *testing.T) {
	for _, s := range sources(t) {
		if badName.MatchString(s.path) {
			t.Errorf("%s: name it for what it does", s.path)
		}
	}
}

// TestSizes holds what is a smell and not a law: split, or argue here.
func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if n := lines(t, s.path); n > maxFile {
			t.Errorf("%s has %d lines: it wants to be two (limit %d)", s.path, n, maxFile)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines (limit %d)", s.path, f.Name.Name, n, maxFunction)
			}
		}
	}
}

func lines(t *testing.T, name string) int {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
	}
	return n
}
