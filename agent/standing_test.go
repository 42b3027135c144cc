package agent

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

// TestLastSure: how long a head that starts has not been current does not depend on a
// clock that is set while the machine runs, and nothing is taken for good news.
func TestLastSure(t *testing.T) {
	id, up, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	record := func(r sureRecord) string {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct {
		name, text string
		want       time.Duration
	}{
		{"a new head", "", 0},
		{"garbage", "{", inventory.RetiredFor},
		{"in this boot", record(sureRecord{ago(time.Hour), id, up - time.Hour}), time.Hour},
		{"in this boot, and the clock was set back", record(sureRecord{ago(-50 * time.Hour), id, up - time.Hour}), time.Hour},
		{"in another boot", record(sureRecord{ago(30 * time.Hour), "another", up}), 30 * time.Hour},
		{"in another boot, and in the future", record(sureRecord{ago(-30 * time.Hour), "another", up}), 30 * time.Hour},
		{"by the last release", record(sureRecord{Current: ago(time.Hour)}), time.Hour},
	} {
		m := &member{cfg: Config{DataDir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
		if tc.text != "" {
			if err := os.WriteFile(m.surePath(), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.lastSure(); (got - tc.want).Abs() > time.Minute {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	m := &member{cfg: Config{DataDir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	m.saveSure(ago(10 * time.Minute))
	if got := m.lastSure(); (got - 10*time.Minute).Abs() > time.Minute {
		t.Errorf("what was saved: %s, want 10m", got)
	}
}

// TestSetAsideKeepsAll: the state of before may be the last there is.
func TestSetAsideKeepsAll(t *testing.T) {
	dir := t.TempDir()
	a := &Agent{cfg: Config{Name: "h1", DataDir: dir}, log: slog.New(slog.DiscardHandler)}
	state := filepath.Join(dir, "raft")
	for _, content := range []string{"precious", "empty"} {
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(state, "raft.db"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.setAside(); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"raft.before": "precious", "raft.before2": "empty"} {
		if got, err := os.ReadFile(filepath.Join(dir, name, "raft.db")); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestSweep: what a killed agent left half written goes, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	kept := []string{"identity.json", "current.json", "join.key", "restore.snap", "artifacts", "raft", "raft.before2", "identity.json.2026-11-29", "initrd-mine"}
	gone := []string{"initrd-123", "identity.json.42", "join.key.42", "restore.snap.42"}
	for _, name := range append(kept, gone...) {
		if err := os.MkdirAll(filepath.Join(dir, name, "upper"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweep(Config{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	for _, name := range kept {
		if !exists(filepath.Join(dir, name)) {
			t.Errorf("%s is gone", name)
		}
	}
	for _, name := range gone {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("%s is still there", name)
		}
	}
}
