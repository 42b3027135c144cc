package swarm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A stock client downloads what we seed, through our tracker and our torrent file.
func TestAria2(t *testing.T) {
	aria2, err := exec.LookPath("aria2c")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("aria2c is missing: make deps installs it (Debian: aria2)")
		}
		t.Skip("aria2c is not installed")
	}
	data := randomBytes(12<<20, 40)
	d, path := artifactFile(t, data)
	h := newHead(t, 1, nil)
	mustSeed(t, h.machine, d, path)
	raw, err := d.Torrent([]string{"http://127.0.0.1:1/announce", h.url + "/announce"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	torrent := filepath.Join(dir, "image.torrent")
	if err := os.WriteFile(torrent, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, aria2, "--no-conf", "--seed-time=0", "--enable-dht=false", "--bt-enable-lpd=false",
		"--disable-ipv6=true", "--summary-interval=0", "--file-allocation=none", "--interface=127.0.0.20", "--dir="+dir, torrent)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("aria2c: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, d.Name))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("what aria2 fetched differs: %v", err)
	}
	if out, err := exec.CommandContext(ctx, aria2, "--no-conf", "-S", torrent).CombinedOutput(); err != nil || !strings.Contains(string(out), d.InfoHash) {
		t.Errorf("aria2c -S: %v\n%s", err, out)
	}
}
