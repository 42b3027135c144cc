package agent_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/inventory"
	"github.com/clustervision/luna/swarm"
)

// published is an image version whose files were put into a head's store by hand.
type published struct {
	inventory.ImageVersion
	content map[string][]byte // by SHA-256
}

// publish adds an osimage with a version that the head holds.
func publish(t *testing.T, h *agenttest.Head) published {
	t.Helper()
	h.Do(t, inventory.AddOSImage{Name: "compute", Path: "/tree", KernVer: "6.1"})
	p := published{content: map[string][]byte{}}
	p.ID, p.KernVer, p.Created = "0123456789abcdef", "6.1", time.Now().UTC()
	for _, f := range []struct {
		artifact *inventory.Artifact
		name     string
		size     int
	}{{&p.Kernel, "compute-vmlinuz-6.1", 100_000}, {&p.Initrd, "compute-initramfs-6.1", 300_000}, {&p.Root, "compute.tar.zst", 3_000_001}} {
		b := make([]byte, f.size)
		_, _ = rand.Read(b) // never fails
		tmp := filepath.Join(h.Config.DataDir, "artifacts", "tmp")
		noError(t, os.WriteFile(tmp, b, 0o600))
		d, err := swarm.Describe(t.Context(), tmp, f.name)
		noError(t, err)
		noError(t, os.Rename(tmp, file(h, d.SHA256)))
		text, err := json.Marshal(d)
		noError(t, err)
		*f.artifact = inventory.Artifact{SHA256: d.SHA256, Size: d.Size, Descriptor: text}
		p.content[d.SHA256] = b
	}
	h.Do(t, inventory.PublishVersion{OSImage: "compute", Version: p.ImageVersion, Head: h.Name})
	return p
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// age makes the files of the version old ones on a head.
func (p *published) age(t *testing.T, h *agenttest.Head) {
	t.Helper()
	for sum := range p.content {
		noError(t, os.Chtimes(file(h, sum), old, old))
	}
}

// old is before anything that a test does.
var old = time.Now().Add(-24 * time.Hour)

func file(h *agenttest.Head, sum string) string {
	return filepath.Join(h.Config.DataDir, "artifacts", sum)
}

// holders gives the names of the heads that hold the version, as h knows.
func (p *published) holders(h *agenttest.Head) (names []string) {
	v, ok := h.View().Version(p.ID)
	if !ok {
		return nil
	}
	for _, id := range v.Holders {
		if head, ok := h.View().HeadByID(id); ok {
			names = append(names, head.Name)
		}
	}
	slices.Sort(names)
	return names
}

// heldBy waits until these heads hold the version, and have its files. That is one
// condition: a head that looks between the harm to one file and to the next fetches
// the one, and holds the version until it looks again.
func (p *published) heldBy(t *testing.T, asked *agenttest.Head, heads ...*agenttest.Head) {
	t.Helper()
	var names []string
	for _, h := range heads {
		names = append(names, h.Name)
	}
	agenttest.Eventually(t, 30*time.Second, fmt.Sprintf("%v hold the version, whole", names), func() bool {
		return slices.Equal(p.holders(asked), names) && !slices.ContainsFunc(heads, p.lacking)
	})
}

// lacking tells whether a file of the version is not on a head's disk as it should be.
func (p *published) lacking(h *agenttest.Head) bool {
	for sum, want := range p.content {
		if got, err := os.ReadFile(file(h, sum)); err != nil || !bytes.Equal(got, want) {
			return true
		}
	}
	return false
}

// serves asks a head for an artifact as a node does; nil where it has none.
func serves(t *testing.T, h *agenttest.Head, sum string) []byte {
	t.Helper()
	url := "http://" + netip.AddrPortFrom(h.Config.Bind, uint16(h.Config.HTTPPort)).String() + "/artifacts/" + sum
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	noError(t, err)
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	noError(t, err)
	if resp.StatusCode == http.StatusNotFound {
		return nil
	}
	return b
}

// version gives the version as the head knows it: another one after each change.
func version(t *testing.T, h *agenttest.Head, id string) *inventory.ImageVersion {
	t.Helper()
	v, ok := h.View().Version(id)
	if !ok {
		t.Fatalf("%s does not know version %s", h.Name, id)
	}
	return v
}

func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o600) // the same file
}

// TestLostArtifacts: whatever happens to an artifact on a head's disk, the head
// holds the version no more, gets it anew, and holds it again.
func TestLostArtifacts(t *testing.T) {
	heads := agenttest.Mesh(t, 3)
	p := publish(t, heads[0])
	p.heldBy(t, heads[1], heads...)
	h := heads[1]
	wake := 0
	for name, harm := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 1000) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"grown":     func(path string) error { return os.Truncate(path, 5_000_000) },
	} {
		t.Run(name+" while it runs", func(t *testing.T) {
			before := version(t, heads[0], p.ID)
			for sum := range p.content {
				noError(t, harm(file(h, sum)))
			}
			wake++
			heads[0].Do(t, network(wake)) // without a change, a minute may pass before it looks
			agenttest.Eventually(t, 30*time.Second, "it is no holder for a while", func() bool {
				return version(t, heads[0], p.ID) != before
			})
			p.heldBy(t, heads[0], heads...)
		})
	}
	t.Run("flipped bits after a kill", func(t *testing.T) {
		for sum := range p.content {
			h.Kill(t)
			noError(t, errors.Join(flip(file(h, sum)), os.RemoveAll(filepath.Join(h.Config.DataDir, "scrubbed.json"))))
			h.Run(t)
			agenttest.Eventually(t, 30*time.Second, "the file is whole", func() bool {
				b, err := os.ReadFile(file(h, sum))
				return err == nil && bytes.Equal(b, p.content[sum])
			})
			p.heldBy(t, heads[0], heads...)
			if got := serves(t, h, sum); !bytes.Equal(got, p.content[sum]) {
				t.Errorf("it serves %d bytes of something else", len(got))
			}
		}
		if left, err := filepath.Glob(file(h, "damaged-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// TestTheLastCopyIsLost: it is not served, kept for who may rescue something of it,
// and the way out is said until it was taken.
func TestTheLastCopyIsLost(t *testing.T) {
	h := agenttest.Start(t, "only")
	agenttest.Init(t, h)
	p := publish(t, h)
	p.heldBy(t, h, h)
	sum := p.Root.SHA256
	h.Kill(t)
	noError(t, errors.Join(flip(file(h, sum)), os.RemoveAll(filepath.Join(h.Config.DataDir, "scrubbed.json"))))
	h.Run(t)
	warning := func() string {
		// Not over the connection that is still open to the agent that was killed.
		list, err := agenttest.Client(h.Config.Socket).Heads(t.Context())
		if err != nil || len(list) != 1 {
			return ""
		}
		return strings.Join(list[0].Warnings, "\n")
	}
	kept := file(h, "damaged-"+sum)
	agenttest.Eventually(t, 40*time.Second, "the way out is said", func() bool {
		return strings.Contains(warning(), "luna osimage pack compute") && strings.Contains(warning(), kept)
	})
	t.Log(warning())
	if got := p.holders(h); len(got) > 0 {
		t.Errorf("still held by %v", got)
	}
	if b := serves(t, h, sum); b != nil {
		t.Errorf("%d bytes are served", len(b))
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	noError(t, os.WriteFile(file(h, sum), p.content[sum], 0o600)) // as packing again would
	h.Stop(t)                                                     // which forgets that it was damaged, as packing does
	h.Run(t)
	p.heldBy(t, h, h)
	agenttest.Eventually(t, 10*time.Second, "the warning is gone", func() bool { return warning() == "" })
}

// TestArtifactsOutliveALeave: who joins again has them still, and removes later what
// nobody needs.
func TestArtifactsOutliveALeave(t *testing.T) {
	heads := agenttest.Mesh(t, 2)
	p := publish(t, heads[0])
	p.heldBy(t, heads[0], heads...)
	_, err := leave(t, heads[1], false)
	noError(t, err)
	p.age(t, heads[1])
	nobodys := file(heads[1], strings.Repeat("0", 64))
	noError(t, os.WriteFile(nobodys, []byte("of a version of long ago"), 0o600))
	noError(t, os.Chtimes(nobodys, old, old))
	heads[1].JoinAt(t, heads[0])
	p.heldBy(t, heads[0], heads...)
	for sum := range p.content {
		if st, err := os.Stat(file(heads[1], sum)); err != nil || !st.ModTime().Before(time.Now().Add(-time.Hour)) {
			t.Errorf("%s was fetched anew (%v)", sum, err)
		}
	}
	n := 1
	agenttest.Eventually(t, soon, "what no version needs is removed", func() bool {
		heads[0].Do(t, network(n)) // it looks on changes
		n++
		_, err := os.Stat(nobodys)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestNoRoomForAVersion: a head does not begin to fetch what does not fit, says so, and
// fetches it when there is room.
func TestNoRoomForAVersion(t *testing.T) {
	h1 := agenttest.Start(t, "h1")
	agenttest.Init(t, h1)
	h2 := agenttest.Start(t, "h2", onSmallDisk(t))
	h2.JoinAt(t, h1)
	ballast := filepath.Join(h2.Config.DataDir, "ballast")
	var st unix.Statfs_t
	noError(t, unix.Statfs(h2.Config.DataDir, &st))
	noError(t, os.WriteFile(ballast, make([]byte, int64(st.Bavail)*st.Bsize-2<<20), 0o600))
	p := publish(t, h1)
	agenttest.Eventually(t, soon, "h2 says that it has no room", func() bool {
		s, err := h2.Client.Self(t.Context())
		return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "fetch compute.tar.zst: it needs 2 MiB in ")
	})
	if _, err := os.Stat(file(h2, p.Kernel.SHA256)); err != nil {
		t.Errorf("what fits is not fetched: %v", err)
	}
	h2.Do(t, network(1)) // it writes as ever
	noError(t, os.Remove(ballast))
	p.heldBy(t, h1, h1, h2)
}
