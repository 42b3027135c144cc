package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// programs is the directory of the programs under test; TestMain fills it.
var programs string

// TestMain builds the programs once. LUNA_PROGRAMS names a directory of others to judge, those of a
// package for one.
func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "luna-conformance-"); err == nil {
		defer os.RemoveAll(programs)
		err = makePrograms(os.Getenv("LUNA_PROGRAMS"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make the programs to judge:", err)
		return 1
	}
	return m.Run()
}

// makePrograms puts the programs into their directory: links to those given, or what is built now.
func makePrograms(given string) error {
	for name, of := range map[string]string{"lpower": "luna", "lchroot": "luna"} {
		if err := os.Symlink(of, filepath.Join(programs, name)); err != nil {
			return err
		}
	}
	if given != "" {
		for _, name := range []string{"luna", "luna-install"} {
			if err := os.Symlink(filepath.Join(given, name), filepath.Join(programs, name)); err != nil {
				return err
			}
		}
		return nil
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", programs+"/", "./cmd/luna", "./cmd/luna-install")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// frontend is the address of the one head of most tests.
const frontend = "10.30.255.254"

// The kernels of the image: what RPMs of a RHEL leave, the newer one last in the alphabet and not
// the other way round, so that the order of versions is told from that of words.
const (
	kernel    = "5.14.0-362.el9.x86_64"
	oldKernel = "5.14.0-70.el9.x86_64"
)

// lineTime is how long one line may take; packing a Debian takes half a minute on a busy machine.
const lineTime = 3 * time.Minute

// desk is where an administrator sits: a shell on a head. In its lines $IMG is a tree with a
// kernel, $P a directory for the cluster, $D an empty directory, $SOCK the agent's socket.
type desk struct {
	testing.TB
	head *site.Head
	lab  *lab.Lab
	env  []string
	dir  string
}

// newDesk starts an agent, of no cluster yet, on a host of a lab of its own. Where root is missing
// the test is skipped.
func newDesk(t testing.TB, labName string) *desk {
	t.Helper()
	l := labtest.New(t, labName)
	s, err := site.New(t.Context(), l, programs, 1)
	if err != nil {
		t.Fatal(err)
	}
	return deskAt(t, l, s.Heads[0])
}

func deskAt(t testing.TB, l *lab.Lab, h *site.Head) *desk {
	t.Helper()
	d := &desk{TB: t, head: h, lab: l, dir: filepath.Join(l.Dir(), h.Name+"-desk")}
	img := filepath.Join(d.dir, "img")
	for _, dir := range []string{"p", "home"} {
		d.must(os.MkdirAll(filepath.Join(d.dir, dir), 0o755))
	}
	makeTree(d, img, kernel, oldKernel)
	d.env = append(os.Environ(),
		"PATH="+programs+":"+os.Getenv("PATH"), "HOME="+filepath.Join(d.dir, "home"), "LUNA_SERVER=unix://"+h.Socket(),
		"SOCK="+h.Socket(), "P="+filepath.Join(d.dir, "p"), "IMG="+img, "LC_ALL=C.UTF-8", "LUNA_CREDENTIAL=", "EDITOR=false")
	return d
}

// makeTree makes a tree that has these kernels as far as packing with -c looks.
func makeTree(d *desk, tree string, kernels ...string) {
	d.Helper()
	for _, k := range kernels {
		for _, file := range []string{"boot/vmlinuz-" + k, "boot/initramfs-" + k + ".img", "lib/modules/" + k + "/modules.dep"} {
			path := filepath.Join(tree, file)
			d.must(os.MkdirAll(filepath.Dir(path), 0o755))
			d.must(os.WriteFile(path, []byte("for "+k+"\n"), 0o644))
		}
	}
}

// with is the desk for another test, with an empty $D.
func (d *desk) with(t testing.TB) *desk {
	t.Helper()
	n := *d
	n.TB = t
	n.env = append(n.env[:len(n.env):len(n.env)], "D="+t.TempDir())
	return &n
}

// again empties the store, whatever is in it.
func (d *desk) again() {
	d.Helper()
	if !d.head.Agent.Running() {
		d.Errorf("the agent has ended: see %s", d.head.Agent.Log())
		d.must(d.head.Start(d.Context()))
	}
	if r := d.run("", "luna cluster delete --force"); r.code != 0 && !strings.Contains(r.errs, "does not exist") {
		d.Fatalf("cannot empty the store: exit code %d, %s", r.code, r.errs)
	}
}

// reply is what came of a line.
type reply struct {
	out, errs string
	code      int
}

// run runs a line with the text on its stdin.
func (d *desk) run(stdin, line string) reply {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), lineTime)
	defer cancel()
	cmd := d.head.Command(ctx, "sh", "-c", line)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = d.env, strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		d.Fatalf("%s: %v", line, errors.Join(err, ctx.Err()))
	}
	return reply{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// ok runs lines that must end with exit code 0 each, and gives what the last one prints.
func (d *desk) ok(lines ...string) string {
	d.Helper()
	out := ""
	for _, line := range lines {
		out = d.okIn("", line)
	}
	return out
}

// okIn is ok for one line with a text on stdin.
func (d *desk) okIn(stdin, line string) string {
	d.Helper()
	r := d.run(stdin, line)
	if r.code != 0 {
		d.Fatalf("%s: exit code %d, want 0\n%s", line, r.code, r.errs)
	}
	return r.out
}

// fails runs a line that must end with that exit code and these words on stderr.
func (d *desk) fails(code int, words, line string) {
	d.Helper()
	r := d.run("", line)
	if r.code != code || !strings.Contains(r.errs, words) {
		d.Errorf("%s: exit code %d, want %d; stderr, which should have %q:\n%s", line, r.code, code, words, r.errs)
	}
	if r.out != "" && code != 0 {
		d.Errorf("%s: was refused and printed on stdout: %s", line, r.out)
	}
	for _, crash := range []string{"panic:", "goroutine ", "Traceback"} {
		if strings.Contains(r.errs, crash) {
			d.Errorf("%s: crashed: %s", line, r.errs)
		}
	}
}

// prints makes sure that a line prints that, to the byte.
func (d *desk) prints(want, line string) {
	d.Helper()
	got := d.ok(line)
	if got == want {
		return
	}
	if len(got)+len(want) > 4000 { // the first line that differs will do
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		i := 0
		for i < min(len(g), len(w))-1 && g[i] == w[i] {
			i++
		}
		got, want = fmt.Sprintf("line %d: %.500s", i+1, g[i]), fmt.Sprintf("%.500s", w[i])
	}
	d.Errorf("%s:\n%s\nwant:\n%s", line, got, want)
}

// has makes sure that a line prints these words.
func (d *desk) has(line string, words ...string) {
	d.Helper()
	got := d.ok(line)
	for _, w := range words {
		if !strings.Contains(got, w) {
			d.Errorf("%s: %q is not in\n%s", line, w, got)
		}
	}
}

// lacks makes sure that a line does not print these words.
func (d *desk) lacks(line string, words ...string) {
	d.Helper()
	got := d.ok(line)
	for _, w := range words {
		if strings.Contains(got, w) {
			d.Errorf("%s: %q is in\n%s", line, w, got)
		}
	}
}

// rows makes sure that the table of "luna OBJECT show NAME" has these rows: pairs of a field and
// its value.
func (d *desk) rows(show string, pairs ...string) {
	d.Helper()
	got := map[string]string{}
	for _, row := range readTable(d, d.ok(show)) {
		got[row[0]] = row[1]
	}
	for i := 0; i < len(pairs); i += 2 {
		if v, ok := got[pairs[i]]; !ok || v != pairs[i+1] {
			d.Errorf("%s: %s is %q (there: %v), want %q", show, pairs[i], v, ok, pairs[i+1])
		}
	}
}

// fields makes sure that the table has these rows and no others, in this order.
func (d *desk) fields(show, want string) {
	d.Helper()
	var got []string
	for _, row := range readTable(d, d.ok(show)) {
		got = append(got, row[0])
	}
	if g := strings.Join(got, " "); g != want {
		d.Errorf("%s has rows\n%s, want\n%s", show, g, want)
	}
}

// must ends the test at an error.
func (d *desk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// path is what a variable of the lines stands for.
func (d *desk) path(variable string) string {
	d.Helper()
	return d.ok("printf %s \"$" + variable + "\"")
}
