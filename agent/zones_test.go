package agent_test

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clustervision/luna/agent/agenttest"
	"github.com/clustervision/luna/inventory"
)

// TestADocumentWithABadZone holds that lines which no name server would load are
// refused in a document as they are by themselves, and that one which does not
// speak of them is nobody's fault.
func TestADocumentWithABadZone(t *testing.T) {
	h := agenttest.Mesh(t, 1)[0]
	apply := func(text string) error {
		_, err := h.Client.Apply(t.Context(), json.RawMessage(text), false)
		return err
	}
	if err := apply(`{"luna":1,"networks":{"n":{"network":"10.77.0.0/24","include":"www IN A"}}}`); err == nil || !strings.Contains(err.Error(), "include of network 'n'") {
		t.Errorf("got %v, want a word about the include", err)
	}
	for _, text := range []string{
		`{"luna":1,"networks":{"n":{"network":"10.77.0.0/24","include":"www IN A 10.77.0.9"}}}`,
		`{"luna":1,"networks":{"n":{"comment":"x"}}}`,
		`{"luna":1,"networks":{"n":{"include":null}}}`,
	} {
		if err := apply(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestZonesTellWhatChanges holds that the head says which of BIND's files differ
// from those in place, before they are written and after.
func TestZonesTellWhatChanges(t *testing.T) {
	h, dir := agenttest.Mesh(t, 1)[0], t.TempDir()
	differ := func(write bool) (changed []string) {
		t.Helper()
		zones, err := h.Client.Zones(t.Context(), write)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range zones.Files {
			if f.Changed {
				changed = append(changed, filepath.Base(f.Path))
			}
		}
		return changed
	}
	zoneDir, include, away, other := dir, filepath.Join(dir, "zones.conf"), filepath.Join(dir, "away"), "other"
	h.Do(t, inventory.AddNetwork{Name: "n", Prefix: netip.MustParsePrefix("10.77.0.0/24")}, inventory.ChangeCluster{NamedZoneDir: &away, NamedIncludeFile: &include})
	if got := differ(false); got != nil {
		t.Errorf("without the directory %v would be written", got)
	}
	h.Do(t, inventory.ChangeCluster{NamedZoneDir: &zoneDir})
	all := "n.luna.zone 0.77.10.in-addr.arpa.luna.zone zones.conf"
	if before, written := strings.Join(differ(false), " "), strings.Join(differ(true), " "); before != all || written != all {
		t.Errorf("before the first time %s would change, and then %s did, want %s", before, written, all)
	}
	h.Do(t, inventory.AddBMCSetup{Name: "b"}) // which is no business of the zones
	if got := differ(false); got != nil {
		t.Errorf("what is in place would change: %v", got)
	}
	h.Do(t, inventory.ChangeNetwork{Name: "n", NSHostname: &other})
	if got := strings.Join(differ(true), " "); got != "n.luna.zone 0.77.10.in-addr.arpa.luna.zone" {
		t.Errorf("another name server changes %s", got)
	}
}
