package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/clustervision/luna/inventory"
)

// HandlerConfig is what a Handler works with.
type HandlerConfig struct {
	// View gives the state as this head knows it. Required.
	View func() *inventory.Inventory
	// Current tells whether View is not behind what the cluster has agreed on, as
	// far as this head can know. While it is, machines are sent to the other heads:
	// what this one says of them may have changed. Nil: it never is.
	Current func() bool
	// Live tells whether a head, by name, is alive as far as this head knows;
	// only live heads are named to nodes. Nil: all are.
	Live func(head string) bool
	// Files gives the path of an artifact on this head by its SHA-256 in lower
	// case hex, and false where this head has not got it. Required.
	Files func(sha256 string) (path string, ok bool)
	// Loaders are served under /boot, for UEFI HTTP boot and for sites that
	// load them so, and by OpenTFTP.
	Loaders Loaders
	// Tracker answers /announce and /scrape. Nil: nobody does.
	Tracker http.Handler
	// Torrent makes the .torrent of an artifact that names the trackers of
	// the given heads ("address:port"); an error that is fs.ErrNotExist means
	// there is no such artifact. Nil: there are none.
	Torrent func(sha256 string, heads []string) ([]byte, error)
	// BindMAC makes the MAC that of the node, and returns when View shows it.
	// Nil: no node can be bound from the boot menu.
	BindMAC func(ctx context.Context, node string, mac inventory.MAC) error
	// Report takes what a node reported. It must not block. Nil: dropped.
	Report func(node *inventory.Node, r Report)
	// Logger gets what an operator should see. Nil: slog.Default.
	Logger *slog.Logger
	// Now is the clock, for tests. Nil: time.Now.
	Now func() time.Time
}

// Handler answers nodes over HTTP. What is behind which path:
//
//	/luna?step=boot          the iPXE menu (Site.Menu)
//	/luna?step=discovery     the boot script of the machine that has one of the MACs in hwdata=
//	/luna?step=install       the install script to read; with status=, a report as Luna 1.2 sent it
//	/plan?node=N             the Plan, for N's present boot
//	/status?node=N           takes a Report of N's present boot
//	/boot/VERSION/vmlinuz    kernel and initrd of an image version; also under the names of 1.2
//	/boot/LOADER             undionly.kpxe, snponly.efi, ...
//	/artifacts/SHA256        any artifact, with ranges
//	/torrents/SHA256.torrent its torrent
//	/announce, /scrape       the tracker
//
// All but the plan, the report and the token inside a boot script is open to
// whoever reaches the port. A root file system holds /etc/shadow: it is served
// to those who know its hash, which stands in plans alone, and nothing is ever
// listed. See mayHaveToken for who gets a token.
type Handler struct {
	HandlerConfig
	mux   *http.ServeMux
	binds *rate.Limiter // of machines that become nodes at the menu: each is a change of the inventory, and anybody may ask for it
}

// bindsPerSecond is as many as people can choose at as many consoles.
const bindsPerSecond = 20

// NewHandler makes a Handler.
func NewHandler(c HandlerConfig) *Handler {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Report == nil {
		c.Report = func(*inventory.Node, Report) {}
	}
	if c.Current == nil {
		c.Current = func() bool { return true }
	}
	h := &Handler{HandlerConfig: c, mux: http.NewServeMux(), binds: rate.NewLimiter(bindsPerSecond, bindsPerSecond)}
	h.mux.HandleFunc("/luna", h.luna)
	h.mux.HandleFunc("GET /plan", h.plan)
	h.mux.HandleFunc("POST /status", h.status)
	h.mux.HandleFunc("GET /boot/{version}/vmlinuz", h.kernel)
	h.mux.HandleFunc("GET /boot/{version}/initrd", h.initrd)
	h.mux.HandleFunc("GET /boot/{name}", h.bootFile)
	h.mux.HandleFunc("GET /artifacts/{sha256}", h.artifact)
	h.mux.HandleFunc("GET /torrents/{file}", h.torrent)
	if c.Tracker != nil {
		h.mux.Handle("/announce", c.Tracker)
		h.mux.Handle("/scrape", c.Tracker)
	}
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		h.mux.ServeHTTP(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		refuse(w, http.StatusMethodNotAllowed, "only GET, HEAD and POST are answered here")
	}
}

// refuse answers with one line that a person can act on.
func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	http.Error(w, fmt.Sprintf(format, args...), code)
}

// send answers with a body and its length: iPXE shows progress by it, and a
// cut-off answer is noticed.
func send(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) //nolint:errcheck // the client has gone; there is nobody to tell
}

const plain = "text/plain; charset=utf-8"

// knows tells whether this head may say what a machine boots, or refuses. One that
// has just started has caught up with nobody and may know nothing at all: a menu
// that it made then would name no heads, ask nobody any more, and keep its machine
// for ever.
func (h *Handler) knows(w http.ResponseWriter) bool {
	if _, ok := h.View().Cluster(); ok && h.Current() {
		return true
	}
	refuse(w, http.StatusServiceUnavailable, "this head has not caught up with the cluster yet: ask another head")
	return false
}

// site gives what answers to this request are made from.
func (h *Handler) site(r *http.Request) Site {
	s := Site{Inventory: h.View(), Live: h.Live}
	if network, ok := s.Inventory.NetworkOf(remote(r)); ok {
		s.At = network.Prefix
	}
	return s
}

// remote gives the address that the request came from; zero if unknown.
func remote(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// node gives the node that the request names, or refuses.
func (h *Handler) node(w http.ResponseWriter, r *http.Request, inv *inventory.Inventory) (*inventory.Node, bool) {
	name := r.URL.Query().Get("node")
	if name == "" {
		refuse(w, http.StatusBadRequest, "the name of the node is missing: node=NAME")
		return nil, false
	}
	n, ok := inv.Node(name)
	if !ok {
		refuse(w, http.StatusBadRequest, "%s", inventory.NotFound("node", name).Text)
	}
	return n, ok
}

// mayHaveToken tells whether a boot script for the node may carry a token when
// it goes to that address. A script is given to whoever sends the node's MAC,
// for that is all that firmware can say of itself. But an address that belongs
// to somebody else is refused: a user on another node, or on a head, can send
// any MAC and cannot change the address he sends it from. The node itself has
// its address from DHCP, or a pool address on the boot that binds it; an
// address that nobody knows is one that a foreign DHCP server gave.
func mayHaveToken(inv *inventory.Inventory, n *inventory.Node, from netip.Addr) bool {
	if owner, ok := inv.Owner(from); ok {
		return owner.Type == "node" && owner.ID == n.ID
	}
	if lease, ok := inv.LeaseAt(from); ok {
		return lease.MAC == n.MAC
	}
	return !isHead(inv, from)
}

// isHead tells whether the request comes from a head, where administrators
// work.
func isHead(inv *inventory.Inventory, from netip.Addr) bool {
	if !from.IsValid() || from.IsLoopback() {
		return true
	}
	_, head := inv.HeadAt(from)
	return head
}

// token gives a boot token for the node, or the word that stands for one.
func (h *Handler) token(inv *inventory.Inventory, n *inventory.Node, from netip.Addr) string {
	c, ok := inv.Cluster()
	if !ok || !mayHaveToken(inv, n, from) {
		return masked
	}
	return NewToken(c.Secrets.BootKey, n.ID, h.Now())
}

// checkToken tells whether the request carries the node's boot token.
func (h *Handler) checkToken(r *http.Request, inv *inventory.Inventory, n *inventory.Node) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ErrTokenMissing
	}
	c, ok := inv.Cluster()
	if !ok {
		return ErrTokenWrong
	}
	return CheckToken(c.Secrets.BootKey, strings.TrimSpace(token), n.ID, h.Now())
}

func unauthorized(w http.ResponseWriter, n *inventory.Node, err error) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="luna boot"`)
	refuse(w, http.StatusUnauthorized, "node '%s': %v", n.Name, err)
}

func (h *Handler) plan(w http.ResponseWriter, r *http.Request) {
	if !h.knows(w) {
		return
	}
	s := h.site(r)
	n, ok := h.node(w, r, s.Inventory)
	if !ok {
		return
	}
	if err := h.checkToken(r, s.Inventory, n); err != nil {
		unauthorized(w, n, err)
		return
	}
	plan, err := s.Plan(n, r.URL.Query().Get("version"))
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	body, err := json.Marshal(plan)
	if err != nil {
		h.Logger.Error("cannot encode the plan", "node", n.Name, "error", err)
		refuse(w, http.StatusInternalServerError, "the plan of node '%s' cannot be encoded: %v", n.Name, err)
		return
	}
	if r.Method == http.MethodGet {
		h.Report(n, Report{Stage: StageRequest, Version: plan.ImageVersion})
	}
	send(w, "application/json", append(body, '\n'))
}

func (h *Handler) torrent(w http.ResponseWriter, r *http.Request) {
	sha, ok := strings.CutSuffix(r.PathValue("file"), ".torrent")
	if !ok || !isSHA256(sha) || h.Torrent == nil {
		refuse(w, http.StatusNotFound, "no such torrent: a torrent is /torrents/SHA256.torrent")
		return
	}
	s := h.site(r)
	body, err := h.Torrent(sha, s.heads("", s.At, nil))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, "no artifact of that hash is known")
	case err != nil:
		h.Logger.Error("cannot make a torrent", "error", err)
		refuse(w, http.StatusInternalServerError, "the torrent cannot be made: %v", err)
	default:
		send(w, "application/x-bittorrent", body)
	}
}
