package ansible

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clustervision/luna/test/site"
)

// step is a task and what must come of it.
type step struct {
	module string
	args   string // JSON
	want   string // changed, same, would (change, in check mode), or else the words of a failure
	diff   string // words that the diff has
}

const (
	makes   = "changed"
	leaves  = "same"
	would   = "would"
	dryNone = "would not"
)

// steps are for each module: made in check mode, made, made again, changed in check mode, changed, changed
// again, wrong, absent while in use, and at last absent, twice. That check mode and failures changed
// nothing is seen by what the step after it has left to do.
func steps(tree string) []step {
	return []step{
		{"network", `{"name":"lab","network":"10.40.0.0","prefix":24}`, would, "10.40.0.0/24"},
		{"network", `{"name":"lab","network":"10.40.0.7","prefix":24}`, makes, "10.40.0.0/24"},
		{"network", `{"name":"lab","network":"10.40.0.7","prefix":24}`, leaves, ""},
		{"network", `{"name":"lab","prefix":20,"comment":"a lab","include":"www IN A 10.40.0.9\n"}`, would, "10.40.0.0/20"},
		{"network", `{"name":"lab","prefix":20,"comment":"a lab","include":"www IN A 10.40.0.9\n"}`, makes, "10.40.0.0/20"},
		{"network", `{"name":"lab","network":"10.40.0.0"}`, leaves, ""}, // and keeps prefix, comment and include
		{"network", `{"name":"lab","comment":"a lab","include":"www IN A 10.40.0.9\n"}`, dryNone, ""},
		{"network", `{"name":"lab","comment":""}`, makes, `"comment": null`},
		{"network", `{"name":"lab","include":"www IN A bogus"}`, "include of network 'lab'", ""},
		{"network", `{"name":"new"}`, "network 'new' is new: give its network and prefix", ""},
		{"network", `{"name":"new","network":"10.30.4.0","prefix":24}`, "10.30.0.0/16", ""}, // overlaps
		{"network", `{"name":"new","network":"10.50.0.300","prefix":24}`, "'10.50.0.300' is no IP address", ""},
		{"network", `{"name":"new","network":"10.50.0.0","prefix":31}`, "Prefix should be in the range [1..30]", ""},
		{"network", `{"name":"six","network":"fd00:1::","prefix":64}`, makes, "fd00:1::/64"},

		{"osimage", `{"name":"other","path":"` + tree + `","comment":"another"}`, would, "5.14.0-362"},
		{"osimage", `{"name":"other","path":"` + tree + `","comment":"another"}`, makes, "5.14.0-362"},
		{"osimage", `{"name":"other","path":"` + tree + `","kernver":"","dracutmodules":"","grab_filesystems":""}`, leaves, ""},
		{"osimage", `{"name":"other","kernopts":"quiet","kernmodules":"a,-b"}`, makes, "a,-b"},
		{"osimage", `{"name":"other","kernopts":"quiet"}`, dryNone, ""},
		{"osimage", `{"name":"new","path":"/nosuch"}`, "'/nosuch' is not a valid directory", ""},
		{"osimage", `{"name":"new","path":"` + tree + `"}`, "Path belongs to osimage 'other'", ""},
		{"osimage", `{"name":"new"}`, "osimage 'new' is new: give its path", ""},

		{"bmcsetup", `{"name":"lab","password":"top secret"}`, would, `"password": "********"`},
		{"bmcsetup", `{"name":"lab","password":"top secret"}`, makes, `"password": "********"`},
		{"bmcsetup", `{"name":"lab","password":"top secret"}`, leaves, ""},
		{"bmcsetup", `{"name":"lab","password":"even more","userid":4}`, makes, "another"},
		{"bmcsetup", `{"name":"lab","userid":4}`, leaves, ""},
		{"bmcsetup", `{"name":"lab","userid":99}`, "userid should be in the range [1..63], not 99", ""},

		{"group", `{"name":"lab","osimage":"other","interfaces":[{"name":"BOOTIF","networks":["lab"]}]}`, would, "BOOTIF"},
		{"group", `{"name":"lab","osimage":"other","interfaces":[{"name":"BOOTIF","networks":["lab"]}]}`, makes, "BOOTIF"},
		{"group", `{"name":"lab","osimage":"other"}`, leaves, ""}, // and keeps its interfaces
		{"group", `{"name":"lab","bmcsetup":"lab","domain":"lab","prescript":"true\n"}`, makes, "true"},
		{"group", `{"name":"lab","interfaces":[{"name":"BOOTIF","params":"MTU=9000"},{"name":"eth1","networks":["six"]}]}`, would, "MTU=9000"},
		{"group", `{"name":"lab","interfaces":[{"name":"BOOTIF","params":"MTU=9000"},{"name":"eth1","networks":["six"]}]}`, makes, "MTU=9000"},
		{"group", `{"name":"lab","interfaces":[{"name":"eth1"},{"name":"BOOTIF","networks":["lab"]}]}`, leaves, ""},
		{"group", `{"name":"lab","interfaces":[{"name":"BOOTIF","networks":["lab","six"]}]}`, makes, "eth1"}, // goes
		{"group", `{"name":"lab","interfaces":[{"name":"BOOTIF","networks":["lab","ipmi"]}]}`, "has two IPv4 networks, 'lab' and 'ipmi'", ""},
		{"group", `{"name":"lab","interfaces":[{"name":"a"},{"name":"a"}]}`, "interface 'a' of group 'lab' is there twice", ""},
		{"group", `{"name":"lab","interfaces":[{"name":"a","networks":["nosuch"]}]}`, "Object 'nosuch' of type 'network' does not exist", ""},
		{"group", `{"name":"lab","osimage":"nosuch"}`, "Object 'nosuch' of type 'osimage' does not exist", ""},
		{"group", `{"name":"new"}`, "group 'new' is new: give its osimage", ""},

		{"switch", `{"name":"lab","network":"lab","ip":"10.40.0.50"}`, would, "10.40.0.50"},
		{"switch", `{"name":"lab","network":"lab","ip":"10.40.0.50","read":"mine"}`, makes, "10.40.0.50"},
		{"switch", `{"name":"lab","network":"lab","ip":"10.40.0.50"}`, leaves, ""},
		{"switch", `{"name":"lab","network":"ipmi","ip":"10.31.0.50","oid":".1.3.6.1.2.1.17.4.3.1.2"}`, makes, "10.31.0.50"},
		{"switch", `{"name":"lab","ip":"10.31.253.21"}`, "10.31.253.21 is taken by switch 'switch01'", ""},
		{"switch", `{"name":"lab","oid":"x"}`, "is no OID", ""},
		{"switch", `{"name":"new","network":"lab"}`, "switch 'new' is new: give its ip", ""},

		{"otherdev", `{"name":"lab","connected":[{"network":"lab","ip":"10.40.0.60"}]}`, would, "10.40.0.60"},
		{"otherdev", `{"name":"lab","connected":[{"network":"lab","ip":"10.40.0.60"}]}`, makes, "10.40.0.60"},
		{"otherdev", `{"name":"lab","comment":"x"}`, makes, "x"},
		{"otherdev", `{"name":"lab","connected":[{"network":"lab","ip":"10.40.0.60"}]}`, leaves, ""},
		{"otherdev", `{"name":"lab","connected":[{"network":"ipmi","ip":"10.31.0.60"}]}`, makes, "10.31.0.60"},
		{"otherdev", `{"name":"lab","connected":[{"network":"lab","ip":"10.40.0.60"},{"network":"lab","ip":"10.40.0.61"}]}`, "two addresses in one network", ""},
		{"otherdev", `{"name":"lab","connected":[]}`, "must be connected", ""},
		{"otherdev", `{"name":"lab","connected":[{"network":"lab","ip":"10.31.0.1"}]}`, "10.31.0.1 is no address of network 'lab'", ""},

		{"node", `{"name":"lab1","group":"lab","mac":"52:54:00:00:07:07"}`, would, "52:54:00:00:07:07"},
		{"node", `{"name":"lab1","group":"lab","mac":"52-54-00-00-07-07","service":true,"switch":"lab","port":"7"}`, makes, "52:54:00:00:07:07"},
		{"node", `{"name":"lab1","mac":"52:54:00:00:07:07"}`, leaves, ""}, // and keeps service
		{"node", `{"name":"lab1","interfaces":[{"name":"BOOTIF","ip":["10.40.0.77","fd00:1::77"]}],"tags":["gpu"]}`, would, "fd00:1::77"},
		{"node", `{"name":"lab1","interfaces":[{"name":"BOOTIF","ip":["10.40.0.77","fd00:1::77"]}],"tags":["gpu"]}`, makes, "fd00:1::77"},
		{"node", `{"name":"lab1","interfaces":[{"name":"BOOTIF","ip":"10.40.0.77"}]}`, leaves, ""},
		{"node", `{"name":"lab1","port":"","mac":""}`, makes, `"mac": null`},
		{"node", `{"name":"lab1","mac":"zz"}`, "Invalid MAC address 'zz'", ""},
		{"node", `{"name":"lab1","interfaces":[{"name":"eth9","ip":"10.40.0.9"}]}`, "No such interface 'eth9'", ""},
		{"node", `{"name":"lab1","interfaces":[{"name":"BOOTIF","ip":"10.30.0.1"}]}`, "10.30.0.1 is no address of network 'lab'", ""},
		{"node", `{"name":"new"}`, "node 'new' is new: give its group", ""},
		{"node", `{"name":"node[1-3]","state":"absent"}`, "cannot name a node", ""},

		{"network", `{"name":"lab","state":"absent"}`, "[group/lab]", ""},
		{"osimage", `{"name":"other","state":"absent"}`, "[group/lab]", ""},
		{"bmcsetup", `{"name":"lab","state":"absent"}`, "[group/lab]", ""},
		{"group", `{"name":"lab","state":"absent"}`, "[node/lab1]", ""},
		{"switch", `{"name":"lab","state":"absent"}`, "[node/lab1]", ""},

		{"node", `{"name":"lab1","state":"absent"}`, would, "lab1"},
		{"node", `{"name":"lab1","state":"absent"}`, makes, ""},
		{"node", `{"name":"lab1","state":"absent"}`, leaves, ""},
		{"switch", `{"name":"lab","state":"absent"}`, makes, ""},
		{"switch", `{"name":"lab","state":"absent"}`, leaves, ""},
		{"otherdev", `{"name":"lab","state":"absent"}`, makes, ""},
		{"otherdev", `{"name":"lab","state":"absent"}`, leaves, ""},
		{"group", `{"name":"lab","state":"absent"}`, makes, ""},
		{"group", `{"name":"lab","state":"absent"}`, leaves, ""},
		{"bmcsetup", `{"name":"lab","state":"absent"}`, makes, ""},
		{"bmcsetup", `{"name":"lab","state":"absent"}`, leaves, ""},
		{"osimage", `{"name":"other","state":"absent"}`, makes, ""},
		{"osimage", `{"name":"other","state":"absent"}`, leaves, ""},
		{"network", `{"name":"lab","state":"absent"}`, makes, ""},
		{"network", `{"name":"lab","state":"absent"}`, leaves, ""},

		{"cluster", `{"nodedigits":4,"comment":"ours"}`, would, `"nodedigits": 4`},
		{"cluster", `{"nodedigits":4,"comment":"ours"}`, makes, `"nodedigits": 4`},
		{"cluster", `{"comment":"ours"}`, leaves, ""}, // and keeps its digits
		{"cluster", `{"user":"nosuch"}`, "No such user exists", ""},
		{"cluster", `{"path":"/nosuch"}`, "'/nosuch' is not a valid directory", ""},
		{"cluster", `{"makedhcp":true,"dhcp_net":"cluster","dhcp_range_start":"10.30.128.1"}`, "Network range should be specified", ""},
		{"cluster", `{"makedhcp":true,"dhcp_net":"cluster","dhcp_range_start":"10.30.129.1","dhcp_range_end":"10.30.129.9"}`, would, "10.30.129.1"},
		{"cluster", `{"makedhcp":true,"dhcp_net":"cluster","dhcp_range_start":"10.30.129.1","dhcp_range_end":"10.30.129.9"}`, makes, "10.30.129.1"},
		{"cluster", `{"makedhcp":true}`, leaves, ""},
		{"cluster", `{"named_zone_dir":"` + filepath.Dir(tree) + `","named_include_file":"` + filepath.Dir(tree) + `/zones.conf"}`, makes, "zones.conf"},
		{"cluster", `{"makedns":true}`, would, ""},
		{"cluster", `{"makedns":true}`, makes, ""},
		{"cluster", `{"makedns":true}`, leaves, ""},
		{"cluster", `{"server":"https://10.30.255.254/x"}`, "is no address of a head", ""},
	}
}

// modules plays all steps.
func modules(t *testing.T, p *player, tree string) {
	makeTree(t, tree)
	all := steps(tree)
	var tasks []map[string]any
	for i, s := range all {
		task := map[string]any{"name": fmt.Sprintf("%d luna_%s %s", i, s.module, s.args), "luna_" + s.module: json.RawMessage(s.args)}
		if s.want == would || s.want == dryNone {
			task["check_mode"] = true
		}
		tasks = append(tasks, task)
	}
	for i, r := range p.playTasks(tasks, "--diff") {
		s := all[i]
		switch s.want {
		case makes, would:
			if r.Failed || !r.Changed {
				t.Errorf("%s: want a change, got %s", r.Task, r.words())
			}
		case leaves, dryNone:
			if r.Failed || r.Changed || len(r.Diff) > 0 && string(r.Diff) != "[]" {
				t.Errorf("%s: want no change, got %s", r.Task, r.words())
			}
		default:
			if !r.Failed || r.Changed || !strings.Contains(r.Msg, s.want) {
				t.Errorf("%s: want a failure with %q, got %s", r.Task, s.want, r.words())
			}
			if strings.HasPrefix(s.want, "[") && (r.Kind != "in-use" || !slices.Contains(r.Users, s.want)) {
				t.Errorf("%s: the users are %v, of kind %s", r.Task, r.Users, r.Kind)
			}
		}
		if !strings.Contains(string(r.Diff), s.diff) {
			t.Errorf("%s: its diff has no %q: %s", r.Task, s.diff, r.Diff)
		}
		if strings.Contains(string(r.Diff)+r.Msg, "top secret") {
			t.Errorf("%s: the password is told", r.Task)
		}
	}
}

func (r *result) words() string {
	return fmt.Sprintf("changed %t, failed %t, %q, diff %s", r.Changed, r.Failed, r.Msg, r.Diff)
}

// lostAnswers: a head that dies between a change and its answer, or is cut off from the others. What was
// made is found out and not made twice, and of what was not, nothing is claimed.
func lostAnswers(t *testing.T, p *player, h *site.Head) {
	agent := throughSocket(h)
	serve := func(name string, passOn bool) string {
		return serveSocket(t, filepath.Join(p.dir, name), func(w http.ResponseWriter, r *http.Request) {
			write := r.Method != http.MethodGet && r.URL.Query().Get("dry_run") == ""
			if !write || passOn {
				pass(t, agent, w, r, !write)
			}
			if write {
				panic(http.ErrAbortHandler)
			}
		})
	}
	cutOff := serveSocket(t, filepath.Join(p.dir, "cutoff.sock"), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Luna-Stale", "this head is cut off")
		refusal := `{"kind":"not-found","message":"it came when nobody told this head","object":"node"}`
		status := http.StatusNotFound
		if r.Method != http.MethodGet && r.URL.Query().Get("dry_run") == "" {
			refusal, status = `{"kind":"unavailable","message":"there is no quorum"}`, http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, refusal) // whoever asked is gone if it fails
	})
	task := func(name, socket string) map[string]any {
		return map[string]any{"luna_node": map[string]any{"name": name, "group": "compute", "server": []string{"unix://" + socket, "unix://" + h.Socket()}}}
	}
	r := p.playTasks([]map[string]any{
		task("lost1", serve("made.sock", true)), task("lost2", serve("notmade.sock", false)),
		{"luna_node": map[string]any{"name": "node002", "mac": "52:54:00:00:00:0b", "server": []string{"unix://" + cutOff, "unix://" + h.Socket()}}},
		{"luna_node": map[string]any{"name": "node002", "group": "compute", "server": []string{"unix://" + cutOff}}},
	})
	if !r[0].Changed || r[0].Failed || !slices.ContainsFunc(r[0].Warnings, func(w string) bool { return strings.Contains(w, "it was made") }) {
		t.Errorf("a change that was made, its answer lost: %s, %v", r[0].words(), r[0].Warnings)
	}
	if !r[1].Failed || r[1].Kind != "unknown" || !strings.Contains(r[1].Msg, "may have been made or not") {
		t.Errorf("a change that got lost: %s", r[1].words())
	}
	if r[2].Failed || r[2].Changed || !slices.ContainsFunc(r[2].Warnings, func(w string) bool { return strings.Contains(w, "is cut off") }) {
		t.Errorf("a head that is cut off was believed while another was there: %s, %v", r[2].words(), r[2].Warnings)
	}
	if !r[3].Failed || r[3].Kind != "unavailable" || !strings.Contains(r[3].Msg, "there is no quorum") {
		t.Errorf("with none but a head that is cut off: %s", r[3].words())
	}
	if _, err := h.Luna(t.Context(), "node", "show", "lost2"); err == nil {
		t.Error("lost2 was made, in a second attempt")
	}
}
