package ansible

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
)

// promisedTime is for three bare servers to become a mesh of three.
const promisedTime = 3 * time.Minute

// TestRole is the life of a site: three bare servers become a mesh by one playbook, which changes
// nothing when it is run again; they are upgraded while nodes boot; a fourth is added and one leaves;
// nodes are installed from them, a machine among them, while a head dies. In a soak also: what check mode
// says on bare servers, a head that is lost and replaced, and a mesh that nobody can be asked for.
func TestRole(t *testing.T) {
	tree := labtest.Tree(t)
	s := newServers(t, "role", 4, tree)
	for _, v := range s.all[:3] {
		v.vars = map[string]any{}
	}
	if soak() {
		t.Run("Looked", func(t *testing.T) { s.on(t).looked(s.all[:3]) })
	}
	t.Run("Made", func(t *testing.T) { s.on(t).made(s.all[:3]) })
	if t.Failed() {
		return
	}
	t.Run("Same", func(t *testing.T) { s.on(t).same() })
	t.Run("Upgraded", func(t *testing.T) { s.on(t).upgraded(s.all[:3]) })
	t.Run("Exchanged", func(t *testing.T) { s.on(t).exchanged() })
	t.Run("Scenario", func(t *testing.T) { s.on(t).scenario(tree, []*server{s.all[0], s.all[2], s.all[3]}) })
	if soak() {
		t.Run("Replaced", func(t *testing.T) { s.on(t).replaced() })
		t.Run("Refused", func(t *testing.T) { s.on(t).refused() })
	}
}

func soak() bool { return os.Getenv("LUNA_SOAK") != "" }

// on is the same servers in a part of the test.
func (s *servers) on(t testing.TB) *servers {
	n := *s
	n.TB = t
	return &n
}

// looked: on bare servers check mode tells what would be done, and does nothing.
func (s *servers) looked(all []*server) {
	p := s.play("site", release, "--check", "--diff").must(s)
	for _, words := range []string{"h1 would begin a mesh", "h2 would join the mesh of h1", "luna_2.7.0_amd64.deb"} {
		if !strings.Contains(p.out, words) {
			s.Errorf("it does not tell that %q", words)
		}
	}
	for _, v := range all {
		if out, err := v.Run(s.Context(), "sh", "-c", "! test -e /usr/bin/luna -o -e /etc/luna -o -e /var/cache/luna-packages"); err != nil {
			s.Errorf("%s was changed: %v %s", v.name, err, out)
		}
	}
}

// made: one run makes a mesh of all, and leaves no token anywhere.
func (s *servers) made(all []*server) {
	p := s.play("site", release, "-vvv").must(s) // as loud as people debug with
	if p.took > promisedTime {
		s.Errorf("it took %s, %s are promised", p.took, promisedTime)
	}
	s.heads(all[2], all...)
	const token = "luna1." // is how each begins
	if strings.Contains(p.out, token) {
		s.Error("a token was printed")
	}
	for _, v := range all {
		if out, err := v.Run(s.Context(), "sh", "-c",
			"! journalctl --no-pager | grep -F "+token+"; ! grep -rlF "+token+" /root /tmp /var/tmp /var/log /etc"); err != nil || out != "" {
			s.Errorf("%s: a token was left behind: %v %s", v.name, err, out)
		}
	}
}

// same: where all is as it shall be, nothing is changed and nothing would be.
func (s *servers) same() {
	if p := s.play("site", release).must(s); p.total() != 0 {
		s.Errorf("the second run changed something\n%s", p.out)
	}
	if p := s.play("site", release, "--check", "--diff").must(s); p.total() != 0 || strings.Contains(p.out, "\n+++ ") {
		s.Errorf("check mode would change something\n%s", p.out)
	}
}

// exchanged: a fourth head comes and one leaves, in one run.
func (s *servers) exchanged() {
	h1, h2, h3, h4 := s.all[0], s.all[1], s.all[2], s.all[3]
	h2.vars, h4.vars = map[string]any{"luna_state": "absent"}, map[string]any{}
	s.play("site", nextRelease).must(s)
	s.heads(h4, h1, h3, h4)
	if out, err := h2.Run(s.Context(), "sh", "-c",
		"systemctl is-active luna; test -e /usr/lib/luna/luna-install && echo installed; ls /var/lib/luna"); err != nil || !strings.HasPrefix(out, "inactive") ||
		strings.Contains(out, "installed") || strings.Contains(out, "identity.json") || !strings.Contains(out, "artifacts") {
		s.Errorf("the head that left: %v\n%s", err, out)
	}
}

// replaced: one of three heads dies for good, and another one, which has left before, takes its place.
func (s *servers) replaced() {
	h1, h2, h3, h4 := s.all[0], s.all[1], s.all[2], s.all[3]
	h3.Kill9()
	h3.vars, h2.vars = nil, map[string]any{}
	s.inventory["luna_removed_heads"] = []string{h3.name}
	s.play("site", nextRelease).must(s)
	s.heads(h4, h1, h2, h4)
}

// refused: where a head cannot be asked, no second mesh is begun.
func (s *servers) refused() {
	h1, h4 := s.all[0], s.all[3]
	for _, v := range []*server{h1, h4} {
		_, err := v.Run(s.Context(), "systemctl", "stop", "luna")
		must(s, err)
	}
	s.all[2].vars = map[string]any{} // which is dead
	h2 := s.all[1]
	_, err := h2.Run(s.Context(), "sh", "-c", "systemctl stop luna; rm -r /var/lib/luna/*")
	must(s, err)
	p := s.play("site", nextRelease, "--limit", h2.name)
	if !p.failed || !strings.Contains(p.out, "There may be a mesh: h1 is a member whose agent does not answer, h4 is a member whose agent does not answer, h3 cannot be reached") {
		s.Errorf("it did not refuse\n%s", p.out)
	}
}

// TestSerial, in a soak: of bare machines that come one after the other, two become heads of one mesh and
// the third its witness. An upgrade that breaks off leaves one head drained, and goes on from there.
func TestSerial(t *testing.T) {
	if !soak() {
		t.Skip("takes minutes: for make soak")
	}
	s := newServers(t, "serial", 3)
	h1, h2, w := s.all[0], s.all[1], s.all[2]
	h1.vars, h2.vars, w.vars = map[string]any{}, map[string]any{}, map[string]any{"luna_witness": true}
	s.inventory["luna_safe_retries"] = 2

	s.play("upgrade", release).must(s) // the one with serial: 1
	list := s.list(h1)
	if len(list) != 3 || list[0].Witness || list[1].Witness || !list[2].Witness {
		t.Fatalf("the mesh is %+v", list)
	}
	if p := s.play("upgrade", release).must(s); p.total() != 0 {
		t.Errorf("the second run changed something\n%s", p.out)
	}

	_, err := w.Run(t.Context(), "systemctl", "stop", "luna")
	must(t, err)
	p := s.play("upgrade", nextRelease)
	if !p.failed || p.changed["h2"] != 0 {
		t.Fatalf("it did not stop at the first head, which may not go down\n%s", p.out)
	}
	if list := s.list(h2); !list[0].Drained || list[1].Drained || list[0].Version != release {
		t.Errorf("after a broken upgrade the mesh is %+v", list)
	}
	_, err = w.Run(t.Context(), "systemctl", "start", "luna")
	must(t, err)
	s.play("upgrade", nextRelease).must(s)
	for _, h := range s.list(h2) {
		if h.Version != nextRelease || h.Drained || h.State != "alive" {
			t.Errorf("after the upgrade %s is %+v", h.Name, h)
		}
	}
}
