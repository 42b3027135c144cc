package conformance

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// ownWorld hides what the machine has where the page has its files.
var ownWorld = []string{
	"unshare", "--mount", "--propagation", "private", "sh", "-euc",
	`for dir in /opt /root; do mount -t tmpfs tmpfs $dir; done; exec "$@"`, "sh",
}

// TestFromLuna12: the commands of docs/from-1.2.md run as they stand, from top to bottom, with the
// database and the image of a site of 1.2.
func TestFromLuna12(t *testing.T) {
	l := labtest.New(t, "from12")
	s, err := site.New(t.Context(), l, programs, 0)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Add(t.Context(), "h1", netip.MustParseAddr(frontend))
	if err != nil {
		t.Fatal(err)
	}
	h.Around = ownWorld
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := deskAt(t, l, h).with(t)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	d.must(err)
	d.env = append(d.env, "TREE="+filepath.Join(l.Dir(), "tree"), "DUMP="+filepath.Join(root, "legacy", "testdata", "clean", "dump"))
	// The tree is a Debian whose kernel is called as that of the database.
	d.ok("cp -a "+labtest.Tree(t)+" $TREE", `cd $TREE && k=$(ls lib/modules) && new=3.10.0-862.el7.x86_64 && mv lib/modules/$k lib/modules/$new &&
		mv boot/vmlinuz-$k boot/vmlinuz-$new && chroot . depmod $new`)
	inside := fmt.Sprintf("nsenter --mount=/proc/%d/ns/mnt sh -c ", h.Agent.Pid())
	d.ok(inside + `'mkdir -p /opt/luna/os/compute && mount --bind $TREE /opt/luna/os/compute && cp -r $DUMP /root/dump'`)
	text, err := os.ReadFile(filepath.Join(root, "docs", "from-1.2.md"))
	d.must(err)
	lines := 0
	for line := range strings.Lines(string(text)) {
		code, isCode := strings.CutPrefix(line, "    ")
		if !isCode {
			continue
		}
		lines++
		start := time.Now()
		file := filepath.Join(d.path("D"), "line")
		d.must(os.WriteFile(file, []byte(code), 0o600))
		if r := d.run("", inside+`". `+file+`"`); r.code != 0 {
			t.Errorf("%s: exit code %d: %s", strings.TrimSpace(code), r.code, r.errs)
		}
		t.Logf("%5.1f s  %s", time.Since(start).Seconds(), strings.TrimSpace(code))
	}
	if lines < 30 {
		t.Errorf("the page has %d commands", lines)
	}
}
