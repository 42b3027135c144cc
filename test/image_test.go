package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestImage: what is packed on one head is on all, comes to nodes as it was, and is
// booted by real machines, whichever head dies and whatever a disk does to it.
func TestImage(t *testing.T) {
	s := newMesh(t, "image", 3)
	ctx := labtest.Context(t, 20*time.Minute)
	_, err := s.ServeDHCP(ctx)
	must(t, err)
	tree := oddTree(t, s.Lab)
	h1 := s.Heads[0]
	addGroup(t, h1, tree)
	luna(t, h1, "osimage", "change", "compute", "--kernopts", "console=ttyS0")
	luna(t, h1, "node", "add", "-g", "compute", "-n", "node[001-006]")
	for i := range 6 {
		luna(t, h1, "node", "change", nodeName(i+1), "--mac", nodeMAC(i+1).String())
	}
	start := time.Now()
	version := luna(t, h1, "osimage", "pack", "compute")
	t.Logf("packed in %.1f s", time.Since(start).Seconds())

	t.Run("VersionReplicates", func(t *testing.T) { versionReplicates(t, s, version, start) })
	t.Run("UnpackedTreeIsEqual", func(t *testing.T) { sameListing(t, tree, install(t, s, 3)) })
	t.Run("CorruptPieces", func(t *testing.T) { corruptPieces(t, s, tree) })
	t.Run("Boot", func(t *testing.T) { bootMachines(t, s) })
	t.Run("BootableWithoutH1", func(t *testing.T) {
		h1.Agent.Kill9()
		must(t, site.SameTree(tree, install(t, s, 5), writtenByInstaller...))
		must(t, h1.Start(ctx))
		must(t, s.Settle(ctx))
	})
}

func nodeName(i int) string { return fmt.Sprintf("node%03d", i) }

func nodeMAC(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)} }

// oddTree makes a Debian that boots, and that has besides all kinds of files with
// all that an inode may have.
func oddTree(t *testing.T, l *lab.Lab) string {
	t.Helper()
	tree := filepath.Join(l.Dir(), "debian")
	shell(t, "", `cp -a "$1" "$2" && mkdir "$2/odd"`, labtest.Tree(t), tree)
	shell(t, filepath.Join(tree, "odd"), oddFiles)
	return tree
}

// oddFiles is made by the usual tools, as an administrator would.
const oddFiles = `
umask 022
echo content >plain; echo setuid >setuid; chmod 4755 setuid; echo setgid >setgid; chmod 2711 setgid
mkdir sticky private setgid.d; chmod 1777 sticky; chmod 0700 private; chmod 2775 setgid.d
echo secret >private/nobody; chmod 0 private/nobody
echo owned >owned; chown 1234:5678 owned; mkdir far; chown 4000000000:3000000000 far
echo acl >acl; setfacl -m u:1001:rw,g:2002:r,m::rw acl
mkdir acl.d; setfacl -m u:1001:rwx -d -m u:3003:rx,g::r acl.d
cp /bin/true capable; setcap cap_net_raw,cap_net_bind_service+ep capable
echo attributes >xattr; setfattr -n user.luna -v moon xattr; setfattr -n user.binary -v 0x00ff0a3d xattr
setfattr -n user.dir -v yes far
ln plain sticky/second; ln plain private/third
ln -s /etc/passwd absolute; ln -s nowhere dangling; ln -s ../etc/hosts relative; chown -h 77:88 dangling
mknod null c 1 3; mknod disk b 259 1000000; chmod 640 disk; mkfifo fifo
truncate -s 64M sparse; printf middle | dd of=sparse bs=1 seek=33000000 conv=notrunc 2>/dev/null; printf end >>sparse
truncate -s 1M hole; ln sparse private/sparse
: >empty; : >'größe-日本語'; : >"$(printf 'latin1-\351t\351')"; : >"$(printf 'two\nlines')"
: >-rf; : >' blank '; : >'back\slash'; : >"$(printf '%0255d' 0)"
deep=$(printf '%0200d/%0200d/%0200d' 1 2 3); mkdir -p "$deep"; echo deep >"$deep/file"
touch -h -d '1970-01-01 00:00:00 UTC' empty; touch -h -d '2099-12-31 23:59:59.987654321 UTC' plain
touch -h -d '1955-11-05 06:00:00.5 UTC' hole; touch -h -d '2001-09-09 01:46:40.000000001 UTC' dangling
touch -h -d '2010-10-10 10:10:10.101010101 UTC' fifo null far
`

// writtenByInstaller is what the installer makes the node's own.
var writtenByInstaller = []string{"etc/hostname", "etc/resolv.conf", "etc/systemd/network/10-luna-BOOTIF.network"}

// shell runs a script in a directory, and gives what it prints.
func shell(t *testing.T, dir, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-euc", script, "sh"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("%v: %s", err, failed.Stderr)
	}
	must(t, err)
	return string(out)
}

// versionReplicates makes sure that every head has the version, and that their
// disks hold the same.
func versionReplicates(t *testing.T, s *site.Site, version string, start time.Time) {
	for _, h := range s.Heads {
		var o struct {
			Versions []struct {
				ID    string   `json:"id"`
				State string   `json:"state"`
				Size  int64    `json:"size"`
				Heads []string `json:"heads"`
			} `json:"versions"`
		}
		must(t, site.Until(t.Context(), time.Minute, "all heads hold "+version, func() error {
			if err := h.JSON(t.Context(), &o, "osimage", "show", "compute"); err != nil {
				return err
			}
			if len(o.Versions) != 1 || o.Versions[0].ID != version || o.Versions[0].State != "boots" ||
				!slices.Equal(o.Versions[0].Heads, []string{"h1", "h2", "h3"}) {
				return fmt.Errorf("%s has %+v", h.Name, o.Versions)
			}
			return nil
		}))
		t.Logf("%s: %d MiB on all heads %.1f s after the pack began", h.Name, o.Versions[0].Size>>20, time.Since(start).Seconds())
	}
	want := sums(t, s.Heads[0])
	if strings.Count(want, "\n") != 3 {
		t.Errorf("h1 has not kernel, initrd and root, but\n%s", want)
	}
	for _, h := range s.Heads[1:] {
		if got := sums(t, h); got != want {
			t.Errorf("%s has\n%sand h1\n%s", h.Name, got, want)
		}
	}
}

// sums gives name and hash of each artifact on a head's disk.
func sums(t *testing.T, h *site.Head) string {
	t.Helper()
	return shell(t, filepath.Join(h.Dir(), "artifacts"), "sha256sum *")
}

// install boots a simulated node to the end, and gives the tree that it has.
func install(t *testing.T, s *site.Site, i int) string {
	t.Helper()
	ctx := labtest.Context(t, 5*time.Minute)
	start := time.Now()
	n, err := s.Lab.Node(ctx, lab.NodeConfig{Name: nodeName(i), MAC: nodeMAC(i)})
	must(t, err)
	root, err := installOn(ctx, s, n)
	must(t, err)
	t.Logf("%s has its tree after %.1f s", nodeName(i), time.Since(start).Seconds())
	asked := s.Other(nil)
	must(t, site.Until(ctx, 10*time.Second, "its success is known", func() error {
		stage, _, err := asked.Stage(ctx, nodeName(i))
		if err == nil && stage != "install.success" {
			err = fmt.Errorf("it is at %s", stage)
		}
		return err
	}))
	return root
}

func installOn(ctx context.Context, s *site.Site, n *lab.Node) (root string, err error) {
	booted, err := n.Boot(ctx)
	if err != nil {
		return "", err
	}
	root = filepath.Join(s.Lab.Dir(), n.Name()+"-root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	p, err := n.Install(booted, filepath.Join(s.Bin, "luna-install"), root, "--once", "--seed", "0")
	if err != nil {
		return "", err
	}
	return root, p.Wait(ctx)
}

// listing says all there is to say about a tree, but for what the installer
// writes, by programs that have nothing to do with Luna.
const listing = `
export LC_ALL=C
all() {
	find . \( -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/systemd/network/10-luna-BOOTIF.network \) -prune \
		-o -not -path . -not -path ./etc -not -path ./etc/systemd/network "$@" -print0 | sort -z
}
all | xargs -0 stat --printf '%N\t%F, mode %a, owner %u:%g, modified %.9Y, device %t:%T, %h links\n'
all -not -type l | xargs -0 getfacl -n -p
all | xargs -0 getfattr -h -d -m - -e hex
all -type f | xargs -0 getcap
all -type f | xargs -0 sha256sum
all -not -type d -links +1 | xargs -0 stat --printf '%i\t%n\n' |
	awk -F'\t' '{ if (!($1 in first)) first[$1] = $2; print $2 " is the same file as " first[$1] }'
`

// sameListing compares two trees by their listings, and looks at holes, of which
// a listing says nothing.
func sameListing(t *testing.T, want, got string) {
	t.Helper()
	files := make([]string, 2)
	for i, tree := range []string{want, got} {
		files[i] = filepath.Join(t.TempDir(), "listing")
		text := shell(t, tree, listing)
		for _, must := range []string{"cap_net_bind_service", "user:1001:rw", "user.luna=0x", "mode 4755", "is the same file as ./odd/", "device 103:f4240"} {
			if !strings.Contains(text, must) {
				t.Errorf("the listing of %s has no %q: it proves nothing", tree, must)
			}
		}
		must(t, os.WriteFile(files[i], []byte(text), 0o600))
		if blocks := strings.Fields(shell(t, tree, "du -k odd/sparse"))[0]; len(blocks) > 3 {
			t.Errorf("%s: odd/sparse, of 64 MiB with three words in it, takes %s KiB", tree, blocks)
		}
	}
	if difference := shell(t, "", `diff -U1 "$1" "$2" | head -50 || true`, files...); difference != "" {
		t.Errorf("the node's tree differs:\n%s", difference)
	}
}

// corruptPieces spoils the image on the disks of two heads, in every piece, and
// boots a node, which must have the tree all the same.
func corruptPieces(t *testing.T, s *site.Site, tree string) {
	// The largest of the three is the root file system; iPXE cannot verify the others.
	sum := strings.TrimSpace(shell(t, filepath.Join(s.Heads[0].Dir(), "artifacts"), "ls -S | head -1"))
	for _, h := range s.Heads[1:] {
		path := filepath.Join(h.Dir(), "artifacts", sum)
		good, err := os.ReadFile(path)
		must(t, err)
		bad := slices.Clone(good)
		for i := 0; i < len(bad); i += 64 << 10 {
			bad[i] ^= 0xff
		}
		overwrite(t, path, bad)
		defer overwrite(t, path, good)
		if served := download(t, s.Heads[0].Host, fmt.Sprintf("http://%s:7050/artifacts/%s", h.Addr, sum)); !bytes.Equal(served, bad) {
			t.Errorf("%s serves something else: this proves nothing", h.Name)
		}
	}
	must(t, site.SameTree(tree, install(t, s, 4), writtenByInstaller...))
}

// overwrite changes a file in place, as a bad disk does: who has it open sees it.
func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(content, 0)
	must(t, errors.Join(err, f.Close()))
}

func download(t *testing.T, from *lab.Host, url string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	response, err := from.HTTP().Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return body
}
