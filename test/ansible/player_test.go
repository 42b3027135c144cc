package ansible

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// playTime is how long one play may take, on a busy machine.
const playTime = 5 * time.Minute

// asInstalled lays out a head as the packages do, in a mount namespace of its own, and becomes the
// command: the collection by its install.sh, the script of the inventory where 1.2 had it, and the
// agent's socket. $1 is a directory for it, $2 the collection's source, $3 the socket.
const asInstalled = `
dir=$1 source=$2 socket=$3; shift 3
mount -t tmpfs tmpfs "$dir"
for over in usr/share etc; do
	mkdir -p "$dir/$over/upper" "$dir/$over/work"
	mount -t overlay -o "lowerdir=/$over,upperdir=$dir/$over/upper,workdir=$dir/$over/work" overlay "/$over"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/luna
ln -s "$socket" /run/luna/luna.sock
"$source/install.sh" /usr/share
rm -rf /etc/ansible/hosts
mkdir -p /etc/ansible/hosts
ln -s /usr/share/luna/inventory /etc/ansible/hosts/luna
exec "$@"
`

// player is an administrator with Ansible on a head.
type player struct {
	testing.TB
	head *site.Head
	lab  *lab.Lab
	dir  string
	env  []string
}

// newSite makes a lab with heads that are no mesh yet, and gives an administrator on the first.
func newSite(t *testing.T, labName string, heads int) (*site.Site, *player) {
	t.Helper()
	l := labtest.New(t, labName)
	requireAnsible(t)
	bin, err := site.Bin()
	must(t, err)
	s, err := site.New(t.Context(), l, bin, heads)
	must(t, err)
	return s, newPlayer(t, s, s.Heads[0])
}

func requireAnsible(t testing.TB) {
	t.Helper()
	for _, program := range []string{"ansible", "ansible-playbook", "ansible-galaxy", "ansible-inventory", "ansible-doc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: run make deps", err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlayer(t testing.TB, s *site.Site, h *site.Head) *player {
	t.Helper()
	p := &player{TB: t, head: h, lab: s.Lab, dir: filepath.Join(s.Lab.Dir(), h.Name+"-ansible")}
	programs := filepath.Join(p.dir, "bin")
	must(t, os.MkdirAll(programs, 0o755))
	must(t, os.MkdirAll(filepath.Join(p.dir, "world"), 0o755))
	must(t, os.Symlink(filepath.Join(s.Bin, "luna"), filepath.Join(programs, "luna")))
	must(t, os.Symlink("luna", filepath.Join(programs, "lchroot")))
	callback, err := filepath.Abs("testdata/callback")
	must(t, err)
	p.env = append(os.Environ(),
		"PATH="+programs+":/usr/sbin:/usr/bin:/sbin:/bin", "HOME="+s.Lab.Dir(), "LC_ALL=C.UTF-8", "LUNA_SERVER=", "LUNA_CREDENTIAL=", "LUNA_LCHROOT=lchroot",
		"ANSIBLE_STDOUT_CALLBACK=lines", "ANSIBLE_CALLBACK_PLUGINS="+callback, "ANSIBLE_PIPELINING=1", "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
		"ANSIBLE_LOCALHOST_WARNING=0", "ANSIBLE_NOCOLOR=1")
	return p
}

// with is the player with more in the environment, for another test.
func (p *player) with(t testing.TB, env ...string) *player {
	n := *p
	n.TB, n.env = t, append(n.env[:len(n.env):len(n.env)], env...)
	return &n
}

// collection gives the collection as ansible-galaxy builds and installs it, made once for a lab.
func (p *player) collection() string {
	p.Helper()
	dir := filepath.Join(p.lab.Dir(), "collection")
	installed := filepath.Join(dir, inCollections)
	if _, err := os.Stat(installed); err != nil {
		install(p, dir, p.env)
	}
	return installed
}

// inCollections is the collection's place below a directory of collections.
const inCollections = "ansible_collections/clustervision/luna"

// source is the collection's source.
func source(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../../ansible")
	must(t, err)
	return dir
}

// install builds the collection of this source and installs it into a directory of collections.
func install(t testing.TB, dir string, env []string) {
	t.Helper()
	for _, argv := range [][]string{
		{"ansible-galaxy", "collection", "build", "--force", "--output-path", dir, source(t)},
		{"sh", "-c", "exec ansible-galaxy collection install --no-deps --force -p " + dir + " " + dir + "/clustervision-luna-*.tar.gz"},
	} {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}

// run runs a command on the head, as the packages leave it.
func (p *player) run(argv ...string) (out, errs string, err error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), playTime)
	defer cancel()
	world := filepath.Join(p.dir, "world")
	cmd := p.head.Command(ctx, append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-euc", asInstalled, "sh", world, source(p), p.head.Socket()}, argv...)...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, p.dir, &stdout, &stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		p.Fatalf("%s: not within %s\n%s", argv[0], playTime, stderr.String())
	}
	return stdout.String(), stderr.String(), err
}

// result is what a task came to.
type result struct {
	Task        string
	Host        string
	Changed     bool
	Failed      bool
	Unreachable bool
	Msg         string
	Meta        string
	Kind        string
	Users       []string
	Stdout      string
	RC          int
	Object      map[string]any
	Diff        json.RawMessage
	Results     []result // of a loop
	Warnings    []string
}

// play runs a playbook, and gives what its tasks came to; the run itself must end well.
func (p *player) play(playbook string, options ...string) []result {
	p.Helper()
	results, out, errs, err := p.tryPlay(playbook, options...)
	if err != nil {
		p.Fatalf("ansible-playbook %s: %v\n%s%s", filepath.Base(playbook), err, out, errs)
	}
	return results
}

func (p *player) tryPlay(playbook string, options ...string) (results []result, out, errs string, err error) {
	p.Helper()
	out, errs, err = p.run(append([]string{"ansible-playbook", playbook}, options...)...)
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "{") {
			continue
		}
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			p.Fatalf("%v: %s", err, lines.Text())
		}
		results = append(results, r)
	}
	return results, out, errs, err
}

// playTasks plays tasks on this head, each of which may fail.
func (p *player) playTasks(tasks []map[string]any, options ...string) []result {
	p.Helper()
	b, err := json.Marshal([]any{map[string]any{"hosts": "localhost", "connection": "local", "gather_facts": false, "ignore_errors": true, "tasks": tasks}})
	must(p, err)
	playbook := filepath.Join(p.TempDir(), "tasks.yml") // JSON is YAML
	must(p, os.WriteFile(playbook, b, 0o644))
	results := p.play(playbook, options...)
	if len(results) != len(tasks) {
		p.Fatalf("%d tasks came to %d results", len(tasks), len(results))
	}
	return results
}

// changed gives the names of the tasks that changed something.
func changed(results []result) []string {
	var names []string
	for _, r := range results {
		if r.Changed {
			names = append(names, r.Task)
		}
	}
	return names
}

// exitCode is that of a command that ran.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}
