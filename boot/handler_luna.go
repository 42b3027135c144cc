package boot

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/clustervision/luna/inventory"
)

// The stages before an installer runs, under the names of 1.2.
const (
	StageMACAssigned = "boot.mac_assigned" // somebody chose this node's name in the boot menu
	StageBootRequest = "boot.request"      // the machine was given its boot script
)

const (
	bindTimeout   = 5 * time.Second // for a write that needs the quorum; iPXE gives up on us at the same time
	maxReportBody = 64 << 10        // bytes of a report
	maxReportText = 4 << 10         // bytes of its message that are kept: the last ones
	maxReportWord = 64              // bytes of its names
)

// stageRE is what Luna 1.2 took as the name of a stage, of a length that can be kept.
var stageRE = regexp.MustCompile(`^[ a-zA-Z0-9.\-_]{1,64}$`)

// luna answers /luna, by step as in Luna 1.2.
func (h *Handler) luna(w http.ResponseWriter, r *http.Request) {
	if !h.knows(w) {
		return
	}
	switch step := r.URL.Query().Get("step"); step {
	case "boot":
		h.menu(w, r)
	case "discovery":
		h.discovery(w, r)
	case "install":
		h.install(w, r)
	case "":
		refuse(w, http.StatusBadRequest, "the step is missing: step=boot, step=discovery or step=install")
	default:
		refuse(w, http.StatusBadRequest, "step '%s' is unknown: step=boot, step=discovery or step=install", step)
	}
}

func (h *Handler) menu(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	mac, err := inventory.ParseMAC(q.Get("mac"))
	if err != nil {
		mac = "" // iPXE then fills in its own
	}
	send(w, plain, []byte(h.site(r).Menu(mac, q.Get("list") != "")))
}

// discovery answers the machine that says "these are my MACs" with the script
// of its node. hwdata is a list joined by '|', as in Luna 1.2; what is no MAC in
// it is passed over. With node= the machine becomes that node first.
func (h *Handler) discovery(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("hwdata") == "" {
		refuse(w, http.StatusBadRequest, "the hardware addresses are missing: hwdata=MAC|MAC|...")
		return
	}
	kind := q.Get("type")
	if kind != "" && kind != "ipxe" && kind != "syslinux" {
		refuse(w, http.StatusNotFound, "type '%s' is unknown: ipxe or syslinux", kind)
		return
	}
	macs := parseHWData(q.Get("hwdata"))
	if q.Has("node") && !h.bind(w, r, macs) {
		return
	}
	s := h.site(r)
	n, ok := match(s.Inventory, macs)
	if !ok {
		refuse(w, http.StatusNotFound, "no node has one of these hardware addresses: luna node change NODE --mac MAC")
		return
	}
	token := h.token(s.Inventory, n, remote(r))
	script := ""
	if kind == "syslinux" {
		var err error
		if script, err = s.Syslinux(n, token); err != nil {
			refuse(w, http.StatusNotFound, "%v", err)
			return
		}
	} else {
		script = s.BootScript(n, token)
	}
	if r.Method != http.MethodHead {
		h.Report(n, Report{Stage: StageBootRequest})
	}
	send(w, plain, []byte(script))
}

// parseHWData gives the MACs in the order in which the machine names them, in
// lower case. Our menu puts the NIC that it booted from first; in the list of
// Luna 1.2 it is the first MAC too (its ${mac}).
func parseHWData(hwdata string) []inventory.MAC {
	var macs []inventory.MAC
	for _, field := range strings.Split(hwdata, "|") {
		if mac, err := inventory.ParseMAC(field); err == nil {
			macs = append(macs, mac)
		}
	}
	return macs
}

func match(inv *inventory.Inventory, macs []inventory.MAC) (*inventory.Node, bool) {
	for _, mac := range macs {
		if n, ok := inv.NodeByMAC(mac); ok {
			return n, true
		}
	}
	return nil, false
}

// bind gives the named node the MAC of the NIC that the machine boots from,
// which is the first one. Any other would put the node's static address on
// another port.
func (h *Handler) bind(w http.ResponseWriter, r *http.Request, macs []inventory.MAC) bool {
	n, ok := h.node(w, r, h.View())
	switch {
	case !ok:
		return false
	case len(macs) == 0:
		refuse(w, http.StatusBadRequest, "there is no hardware address in hwdata to give to node '%s'", n.Name)
		return false
	case n.MAC == macs[0], r.Method == http.MethodHead:
		return true
	case h.BindMAC == nil:
		refuse(w, http.StatusServiceUnavailable, "this head cannot bind hardware addresses")
		return false
	}
	if !h.binds.Allow() {
		refuse(w, http.StatusServiceUnavailable, "too many machines become nodes at the boot menu in this second: ask again")
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), bindTimeout)
	defer cancel()
	if err := h.BindMAC(ctx, n.Name, macs[0]); err != nil {
		h.Logger.Warn("cannot bind the hardware address that was asked for in the boot menu", "node", n.Name, "mac", macs[0], "error", err)
		refuse(w, http.StatusServiceUnavailable, "node '%s' cannot be given %s: %v", n.Name, macs[0], err)
		return false
	}
	h.Logger.Info("hardware address bound from the boot menu", "node", n.Name, "mac", macs[0])
	h.Report(n, Report{Stage: StageMACAssigned})
	return true
}

// install shows the install script, or takes a report as Luna 1.2's client sent
// it.
func (h *Handler) install(w http.ResponseWriter, r *http.Request) {
	s := h.site(r)
	n, ok := h.node(w, r, s.Inventory)
	if !ok {
		return
	}
	present := h.checkToken(r, s.Inventory, n) == nil
	if q := r.URL.Query(); q.Has("status") {
		h.legacyStatus(n, r, q.Get("status"), present)
		send(w, plain, nil)
		return
	}
	plan, err := s.Plan(n, "")
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	detail := Masked
	if present {
		detail = Full
	} else if isHead(s.Inventory, remote(r)) {
		detail = Scripts
	}
	if present && r.Method != http.MethodHead {
		h.Report(n, Report{Stage: StageRequest, Version: plan.ImageVersion})
	}
	send(w, plain, []byte(InstallScript(plan, detail)))
}

// legacyStatus keeps a stage that is named well and comes from the node or
// from a head. Anything else is dropped without a word, as in Luna 1.2.
func (h *Handler) legacyStatus(n *inventory.Node, r *http.Request, stage string, present bool) {
	inv, from := h.View(), remote(r)
	owner, ok := inv.Owner(from)
	own := ok && owner.Type == "node" && owner.ID == n.ID
	if r.Method != http.MethodHead && stageRE.MatchString(stage) && (present || own || isHead(inv, from)) {
		h.Report(n, Report{Stage: stage})
	}
}

func (h *Handler) status(w http.ResponseWriter, r *http.Request) {
	inv := h.View()
	n, ok := h.node(w, r, inv)
	if !ok {
		return
	}
	if err := h.checkToken(r, inv, n); err != nil {
		unauthorized(w, n, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReportBody))
	if err != nil {
		refuse(w, http.StatusBadRequest, "the report cannot be read: %v", err)
		return
	}
	var report Report
	if err := json.Unmarshal(body, &report); err != nil {
		refuse(w, http.StatusBadRequest, "the report is no JSON of a report: %v", err)
		return
	}
	if !stageRE.MatchString(report.Stage) {
		refuse(w, http.StatusBadRequest, "'%s' cannot name a stage: use up to 64 letters, digits, blanks, '.', '_' and '-'", first(report.Stage, 64))
		return
	}
	if len(report.Version) > maxReportWord || len(report.Run) > maxReportWord {
		refuse(w, http.StatusBadRequest, "the version or the run of the report is longer than %d bytes", maxReportWord)
		return
	}
	report.Percent = min(max(report.Percent, 0), 100)
	report.Message = report.Message[max(0, len(report.Message)-maxReportText):]
	h.Report(n, report)
	w.WriteHeader(http.StatusNoContent)
}

// first gives the beginning of a text, of at most n bytes.
func first(s string, n int) string { return s[:min(n, len(s))] }
