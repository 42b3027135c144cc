package boot

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/clustervision/luna/inventory"
)

var sha256RE = regexp.MustCompile(`^[0-9a-f]{64}$`)

func isSHA256(s string) bool { return sha256RE.MatchString(s) }

func (h *Handler) kernel(w http.ResponseWriter, r *http.Request) {
	h.versionFile(w, r, func(v *inventory.ImageVersion) inventory.Artifact { return v.Kernel })
}

func (h *Handler) initrd(w http.ResponseWriter, r *http.Request) {
	h.versionFile(w, r, func(v *inventory.ImageVersion) inventory.Artifact { return v.Initrd })
}

func (h *Handler) versionFile(w http.ResponseWriter, r *http.Request, artifact func(*inventory.ImageVersion) inventory.Artifact) {
	v, ok := h.View().Version(r.PathValue("version"))
	if !ok {
		refuse(w, http.StatusNotFound, "no osimage has a version '%s'", r.PathValue("version"))
		return
	}
	h.serve(w, r, artifact(v))
}

// bootFile answers for the loaders, and for kernels and initrds under the names
// that Luna 1.2 gave them.
func (h *Handler) bootFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if path, ok := h.Loaders.lookup(name); ok {
		http.ServeFile(w, r, path)
		return
	}
	if a, ok := legacyFile(h.View(), name); ok {
		h.serve(w, r, a)
		return
	}
	refuse(w, http.StatusNotFound, "no loader, kernel or initrd has that name")
}

// legacyFile finds <osimage>-vmlinuz-<kernver> and <osimage>-initramfs-<kernver>
// in the version that the osimage boots.
func legacyFile(inv *inventory.Inventory, name string) (inventory.Artifact, bool) {
	for image := range inv.OSImages() {
		rest, ok := strings.CutPrefix(name, image.Name+"-")
		if !ok {
			continue
		}
		v, ok := inv.BootVersion(image.ID)
		switch {
		case !ok:
		case rest == "vmlinuz-"+v.KernVer:
			return v.Kernel, true
		case rest == "initramfs-"+v.KernVer:
			return v.Initrd, true
		}
	}
	return inventory.Artifact{}, false
}

func (h *Handler) artifact(w http.ResponseWriter, r *http.Request) {
	if !isSHA256(r.PathValue("sha256")) {
		refuse(w, http.StatusNotFound, "an artifact is /artifacts/SHA256, in lower case hex")
		return
	}
	h.serve(w, r, inventory.Artifact{SHA256: r.PathValue("sha256")}) // who asks by a hash looks at what comes
}

// serve answers with an artifact. A head that has not got it says so at once:
// whoever asks goes on to the next head. One that was cut short it has not: firmware
// would boot it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, a inventory.Artifact) {
	path, ok := h.Files(a.SHA256)
	if !ok {
		refuse(w, http.StatusNotFound, "this head does not hold that file (yet): ask another head")
		return
	}
	f, err := os.Open(path)
	if err != nil {
		h.Logger.Error("cannot open an artifact that this head should hold", "path", path, "error", err)
		refuse(w, http.StatusNotFound, "this head cannot read that file: ask another head")
		return
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || a.Size > 0 && st.Size() != a.Size {
		h.Logger.Error("an artifact has not the size that it should have", "path", path, "size", a.Size, "error", err)
		refuse(w, http.StatusNotFound, "this head's copy of that file is damaged: ask another head")
		return
	}
	// What a hash names never changes, so there is no time to compare.
	w.Header().Set("ETag", `"`+a.SHA256+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// OpenTFTP gives what TFTP serves under a name, to the asking address: the
// loaders, first/<mac> for iPXE, and pxelinux.cfg/01-<mac> for firmware that
// reads it. The set is closed: a name is looked up and never becomes a path. Any
// other is fs.ErrNotExist.
func (h *Handler) OpenTFTP(name string, from netip.Addr) (io.ReadSeekCloser, error) {
	if path, ok := h.Loaders.lookup(name); ok {
		return os.Open(path)
	}
	if !h.Current() {
		return nil, fmt.Errorf("%s: this head does not know what is newest: %w", name, fs.ErrNotExist)
	}
	s := Site{Inventory: h.View(), Live: h.Live}
	if network, ok := s.Inventory.NetworkOf(from); ok {
		s.At = network.Prefix
	}
	if hw, ok := strings.CutPrefix(name, firstPrefix); ok {
		mac, err := inventory.ParseMAC(hw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return nopCloser{strings.NewReader(s.FirstScript(mac))}, nil
	}
	hw, ok := strings.CutPrefix(name, "pxelinux.cfg/01-")
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	mac, err := inventory.ParseMAC(hw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	n, ok := s.Inventory.NodeByMAC(mac)
	if !ok {
		return nil, fmt.Errorf("%s: no node has that hardware address: %w", name, fs.ErrNotExist)
	}
	config, err := s.Syslinux(n, h.token(s.Inventory, n, from))
	if err != nil {
		return nil, err
	}
	h.Report(n, Report{Stage: StageBootRequest})
	return nopCloser{bytes.NewReader([]byte(config))}, nil
}

// nopCloser makes a file of what is in memory.
type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }
