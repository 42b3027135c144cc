package swarm

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anacrolix/torrent/bencode"
	"github.com/google/go-cmp/cmp"
)

// golden compares got with the file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestDescriptorGolden(t *testing.T) {
	data := randomBytes(3*minPiece+1000, 20)
	d, _ := artifactFile(t, data)
	js, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "descriptor.json", append(js, '\n'))
	tor, err := d.Torrent([]string{"http://10.1.0.1:7050/announce", "http://10.1.0.2:7050/announce"}, []string{"http://10.1.0.1:7050/image"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "image.torrent", tor)
	again, err := d.Torrent([]string{"http://10.1.0.1:7050/announce", "http://10.1.0.2:7050/announce"}, []string{"http://10.1.0.1:7050/image"})
	if err != nil || !bytes.Equal(tor, again) {
		t.Errorf("the same torrent twice differs: %v", err)
	}
	var back Descriptor
	if err := json.Unmarshal(js, &back); err != nil || back.Validate() != nil {
		t.Errorf("after JSON: %v %v", err, back.Validate())
	}
}

// The torrent, decoded without our types, says what the file is.
func TestTorrentSaysWhatTheFileIs(t *testing.T) {
	data := randomBytes(2*minPiece+77, 21)
	d, _ := artifactFile(t, data)
	raw, err := d.Torrent([]string{"http://h1/announce", "http://h2/announce"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := bencode.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	var pieces string
	for p := data; len(p) > 0; p = p[min(len(p), minPiece):] {
		sum := sha1.Sum(p[:min(len(p), minPiece)])
		pieces += string(sum[:])
	}
	sum := sha256.Sum256(data)
	want := map[string]any{
		"announce":      "http://h1/announce",
		"announce-list": []any{[]any{"http://h1/announce", "http://h2/announce"}},
		"info": map[string]any{
			"name": "image.tar.zst", "length": int64(len(data)), "piece length": int64(minPiece),
			"pieces": pieces, "private": int64(1), "sha256": hex.EncodeToString(sum[:]),
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("torrent (-want +got):\n%s", diff)
	}
	// The info hash is that of the bytes in the file, whatever wrote them.
	info := raw[bytes.Index(raw, []byte("4:info"))+len("4:info") : len(raw)-1]
	ih := sha1.Sum(info)
	if hex.EncodeToString(ih[:]) != d.InfoHash {
		t.Errorf("info hash %s, of the bytes %x", d.InfoHash, ih)
	}
}

func TestPieceLength(t *testing.T) {
	const k, m, g = 1 << 10, 1 << 20, 1 << 30
	for _, c := range []struct{ size, want int64 }{
		{1, 64 * k},
		{20 * m, 64 * k},
		{100 * m, 256 * k},
		{200 * m, 512 * k},
		{851 * m, 2 * m},
		{g, 4 * m},
		{2 * g, 4 * m},
		{4 * g, 4 * m},
		{5 * g, 8 * m},
		{20 * g, 32 * m},
		{100 * g, 64 * m},
	} {
		if got := pieceLength(c.size); got != c.want {
			t.Errorf("pieceLength(%d) = %d KiB, want %d KiB", c.size, got/k, c.want/k)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	good, _ := artifactFile(t, randomBytes(3*minPiece, 22))
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Descriptor)
		want   string
	}{
		{"no name", func(d *Descriptor) { d.Name = "" }, "not a file name"},
		{"path as name", func(d *Descriptor) { d.Name = "../etc/passwd" }, "not a file name"},
		{"parent as name", func(d *Descriptor) { d.Name = ".." }, "not a file name"},
		{"binary name", func(d *Descriptor) { d.Name = "\xff" }, "not a file name"},
		{"another name", func(d *Descriptor) { d.Name = "other" }, "damaged"},
		{"no size", func(d *Descriptor) { d.Size = 0 }, "size"},
		{"huge size", func(d *Descriptor) { d.Size = 1 << 62 }, "pieces"},
		{"size of more pieces", func(d *Descriptor) { d.Size++ }, "bytes of piece hashes"},
		{"size within the last piece", func(d *Descriptor) { d.Size-- }, "damaged"},
		{"no piece length", func(d *Descriptor) { d.PieceLength = 0 }, "power of two"},
		{"odd piece length", func(d *Descriptor) { d.PieceLength-- }, "power of two"},
		{"huge piece length", func(d *Descriptor) { d.PieceLength = 1 << 40 }, "power of two"},
		{"a piece hash cut", func(d *Descriptor) { d.Pieces = d.Pieces[:len(d.Pieces)-1] }, "bytes of piece hashes"},
		{"a bit in a piece hash", func(d *Descriptor) { d.Pieces = bytes.Clone(d.Pieces); d.Pieces[25] ^= 4 }, "damaged"},
		{"sha256 cut", func(d *Descriptor) { d.SHA256 = d.SHA256[1:] }, "64 lower-case hex digits"},
		{"sha256 in capitals", func(d *Descriptor) { d.SHA256 = "A" + d.SHA256[1:] }, "64 lower-case hex digits"},
		{"another sha256", func(d *Descriptor) { d.SHA256 = strings.Repeat("0", 64) }, "damaged"},
		{"no info hash", func(d *Descriptor) { d.InfoHash = "" }, "damaged"},
		{"empty", func(d *Descriptor) { *d = Descriptor{} }, "not a file name"},
	} {
		d := good
		c.change(&d)
		err := d.Validate()
		if !errors.Is(err, ErrDescriptor) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := d.Torrent(nil, nil); !errors.Is(err, ErrDescriptor) {
			t.Errorf("%s: a torrent was written: %v", c.name, err)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	for path, data := range map[string]string{empty: "", full: "x"} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, path, as, want string
		ctx                  context.Context
	}{
		{"missing", filepath.Join(dir, "none"), "a", "no such file", t.Context()},
		{"empty", empty, "a", "not a file with content", t.Context()},
		{"directory", dir, "a", "not a file with content", t.Context()},
		{"bad name", full, "a/b", "not a file name", t.Context()},
		{"context ended", full, "a", "context canceled", ended},
	} {
		if _, err := Describe(c.ctx, c.path, c.as); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A file that changes while it is described is not described.
func TestDescribeChangingFile(t *testing.T) {
	for _, c := range []struct {
		size int64
		want string
	}{{minPiece + 2, "changed"}, {minPiece, "grew"}} {
		d := Descriptor{Name: "a", Size: c.size, PieceLength: minPiece}
		err := d.hashFrom(t.Context(), bytes.NewReader(make([]byte, minPiece+1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d bytes: %v", c.size, err)
		}
	}
}
