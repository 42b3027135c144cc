package ansible

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// release and nextRelease are the versions of the packages that are installed and upgraded to.
const (
	release     = "v2.7.0"
	nextRelease = "v2.8.0"
)

// servers are bare machines on one network, and a desk from which Ansible comes to them by ssh.
type servers struct {
	testing.TB
	lab       *lab.Lab
	desk      *lab.Host
	all       []*server
	inventory map[string]any // variables of the group
	dir       string         // of the inventory, packages and the desk's home
	// collections is a path of Ansible's, where the collection is installed.
	collections string
}

// server is a machine that may be in the inventory.
type server struct {
	*lab.Container
	name string
	addr netip.Addr
	vars map[string]any // nil where it is not in the inventory
}

// newServers boots n bare servers, h1 to hn, and builds meanwhile what is installed on them: packages
// of two releases, and the collection.
func newServers(t *testing.T, labName string, n int, shares ...string) *servers {
	t.Helper()
	labtest.RequireRoot(t)
	tree := labtest.HeadTree(t)
	l := labtest.New(t, labName)
	s := &servers{TB: t, lab: l, dir: filepath.Join(l.Dir(), "desk"), inventory: map[string]any{}}
	must(t, os.MkdirAll(s.dir, 0o755))
	var err error
	s.desk, err = l.Host(t.Context(), "desk", netip.PrefixFrom(netip.MustParseAddr("10.30.255.200"), site.Network.Bits()))
	must(t, err)
	work, ctx := errgroup.WithContext(t.Context())
	for i := range n {
		v := &server{name: fmt.Sprintf("h%d", i+1), addr: netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)})}
		s.all = append(s.all, v)
		host, err := l.Host(t.Context(), v.name, netip.PrefixFrom(v.addr, site.Network.Bits()))
		must(t, err)
		work.Go(func() (err error) {
			v.Container, err = host.Boot(ctx, tree, shares...)
			return err
		})
	}
	work.Go(func() error {
		for _, version := range []string{release, nextRelease} {
			if err := s.build(ctx, version); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, work.Wait())
	desk := &player{TB: t, lab: l, env: os.Environ()}
	s.collections = filepath.Join(desk.collection(), "../../..")
	return s
}

// build builds the packages of a version into a directory of that name.
func (s *servers) build(ctx context.Context, version string) error {
	cmd := exec.CommandContext(ctx, "make", "-s", "-C", "../..", "packages",
		"ARCH=amd64", "FORMAT=deb", "VERSION="+version, "DIST="+filepath.Join(s.dir, version))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make packages: %w\n%s", err, out)
	}
	return nil
}

// write writes the inventory, with the packages of a version.
func (s *servers) write(version string) (path string) {
	s.Helper()
	hosts := map[string]any{}
	for _, v := range s.all {
		if v.vars == nil {
			continue
		}
		vars := map[string]any{"ansible_host": v.addr, "luna_bind": v.addr}
		for name, value := range v.vars {
			vars[name] = value
		}
		hosts[v.name] = vars
	}
	vars := map[string]any{
		"luna_packages":                "{{ query('fileglob', '" + filepath.Join(s.dir, version) + "/*.deb') }}",
		"ansible_user":                 "root",
		"ansible_ssh_private_key_file": s.all[0].SSHKey(),
		"ansible_ssh_common_args":      "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
	}
	for name, value := range s.inventory {
		vars[name] = value
	}
	b, err := json.Marshal(map[string]any{"luna_heads": map[string]any{"hosts": hosts, "vars": vars}})
	must(s, err)
	path = filepath.Join(s.dir, "hosts.yml") // JSON is YAML
	must(s, os.WriteFile(path, b, 0o644))
	return path
}

// played is what a run of ansible-playbook came to.
type played struct {
	out    string
	took   time.Duration
	failed bool
	// changed is how much was changed on each host.
	changed map[string]int
}

var recap = regexp.MustCompile(`(?m)^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// play runs a playbook of the collection with the packages of a version.
func (s *servers) play(playbook, version string, options ...string) played {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 2*playTime)
	defer cancel()
	book := filepath.Join(s.collections, "ansible_collections/clustervision/luna/playbooks", playbook+".yml")
	cmd := s.desk.Command(ctx, append([]string{"ansible-playbook", "-i", s.write(version), book}, options...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "LC_ALL=C.UTF-8", "ANSIBLE_NOCOLOR=1", "ANSIBLE_PIPELINING=1",
		"ANSIBLE_COLLECTIONS_PATH="+s.collections, "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3", "ANSIBLE_HOST_KEY_CHECKING=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	p := played{out: out.String(), took: time.Since(began), failed: err != nil, changed: map[string]int{}}
	for _, line := range recap.FindAllStringSubmatch(p.out, -1) {
		p.changed[line[1]], _ = strconv.Atoi(line[2]) // the expression says that it is a number
	}
	s.Logf("ansible-playbook %s %s: %.0f s, changed %v", playbook, strings.Join(options, " "), p.took.Seconds(), p.changed)
	if ctx.Err() != nil {
		s.Fatalf("%s: %v\n%s", playbook, ctx.Err(), p.out)
	}
	return p
}

// must ends the test where the run failed.
func (p played) must(t testing.TB) played {
	t.Helper()
	if p.failed {
		t.Fatal(p.out)
	}
	return p
}

// total is how much was changed on all hosts.
func (p played) total() (sum int) {
	for _, n := range p.changed {
		sum += n
	}
	return sum
}

// luna runs a luna command on a server.
func (s *servers) luna(v *server, args ...string) string {
	s.Helper()
	out, err := v.Run(s.Context(), append([]string{"luna"}, args...)...)
	must(s, err)
	return out
}

// list gives the heads as a server sees them.
func (s *servers) list(asked *server) (heads []api.Head) {
	s.Helper()
	must(s, json.Unmarshal([]byte(s.luna(asked, "head", "list", "-o", "json")), &heads))
	return heads
}

// heads waits until the server sees the mesh as those of the others: all alive, voting and not drained.
func (s *servers) heads(asked *server, of ...*server) {
	s.Helper()
	must(s, site.Until(s.Context(), time.Minute, "the mesh is as it shall be", func() error {
		out, err := asked.Run(s.Context(), "luna", "head", "list", "-o", "json")
		if err != nil {
			return err
		}
		var list []api.Head
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		if len(list) != len(of) {
			return fmt.Errorf("%s sees %+v", asked.name, list)
		}
		for i, h := range list {
			if h.Name != of[i].name || h.State != "alive" || h.Role != "voter" || h.Drained {
				return fmt.Errorf("%s sees %+v", asked.name, h)
			}
		}
		return nil
	}))
}
