package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/swarm"
)

// head is a head as a node sees it: plan, status, artifacts. Its handlers may be
// replaced for a while by what goes wrong in the field.
type head struct {
	*httptest.Server
	site *site

	mu      sync.Mutex
	trouble map[string]http.HandlerFunc // by the first part of the path
	asked   map[string]int              // requests, by the same
}

// site is what all heads have in common.
type site struct {
	plan     boot.Plan
	artifact string // path
	heads    []*head

	mu      sync.Mutex
	reports []boot.Report
}

const testToken = "T0ken"

// newSite packs a small tree and starts heads that offer it. No head is a tracker
// or a peer, so that it all goes by HTTP, after the two seconds that the swarm
// waits for peers.
func newSite(t *testing.T, heads int) *site {
	t.Helper()
	s := &site{plan: goodPlan()}
	s.plan.PartScript, s.plan.PostScript = "true", ""
	s.pack(t, "/etc/machine = of the image\n")
	for range heads {
		s.start(t)
	}
	return s
}

// start adds one head, and names all in the plan.
func (s *site) start(t *testing.T) *head {
	t.Helper()
	h := &head{site: s, trouble: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	s.heads = append(s.heads, h)
	s.plan.Heads = nil
	for _, h := range s.heads {
		s.plan.Heads = append(s.plan.Heads, h.Listener.Addr().String())
	}
	return h
}

// pack makes an artifact of a tree with one file that is given, as plant has it,
// and one of some megabytes.
func (s *site) pack(t *testing.T, file string) {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	plant(t, tree, []string{
		strings.TrimPrefix(file, "/"), "etc/os-release = ID=test\n", "sbin/init -> ../lib/systemd/systemd",
		"usr/lib/systemd/systemd-networkd", enabledNetworkd,
	})
	noise := make([]byte, 3*mib)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	s.artifact = filepath.Join(dir, "artifact")
	f, err := os.Create(s.artifact)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := image.Pack(t.Context(), tree, f, image.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := swarm.Describe(t.Context(), s.artifact, "test")
	if err != nil {
		t.Fatal(err)
	}
	s.describe(t, desc)
	s.plan.Root.UnpackedSize = sum.Unpacked
}

func (s *site) describe(t *testing.T, desc swarm.Descriptor) {
	t.Helper()
	data, err := json.Marshal(desc)
	if err != nil {
		t.Fatal(err)
	}
	s.plan.Root.SHA256, s.plan.Root.Size, s.plan.Root.Descriptor = desc.SHA256, desc.Size, data
}

// boot is the command line that the heads would write.
func (s *site) boot() Boot {
	return Boot{Node: s.plan.Node, Hostname: s.plan.Node, Heads: s.plan.Heads, Token: testToken, Console: "/dev/console"}
}

func (h *head) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(r.URL.Path, "/")[1]
	h.mu.Lock()
	h.asked[part]++
	trouble := h.trouble[part]
	h.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		http.Error(w, "this is not the token", http.StatusForbidden)
		return
	}
	if trouble != nil {
		trouble(w, r)
		return
	}
	switch part {
	case "plan":
		w.Write(h.site.planJSON())
	case "status":
		var rep boot.Report
		if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.site.mu.Lock()
		defer h.site.mu.Unlock()
		h.site.reports = append(h.site.reports, rep)
	case "artifacts":
		if !strings.HasSuffix(r.URL.Path, "/"+h.site.plan.Root.SHA256) {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, h.site.artifact)
	default:
		http.NotFound(w, r)
	}
}

func (s *site) planJSON() []byte {
	data, err := json.Marshal(s.plan)
	if err != nil {
		panic(err)
	}
	return data
}

// set has a head answer so, or well again with nil.
func (h *head) set(part string, trouble http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trouble[part] = trouble
}

// times is how often the head was asked.
func (h *head) times(part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[part]
}

// stages are the reports in the order of their arrival, each stage once in a row
// however often it was reported, with ! for a failure.
func (s *site) stages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.reports {
		name := strings.TrimPrefix(r.Stage, "install.")
		if r.Failed {
			// That it began may have been overtaken by that it failed: a report of the
			// same stage takes the place of one that has not gone out yet.
			if n := len(all); n > 0 && all[n-1] == name {
				all = all[:n-1]
			}
			name += "!"
		}
		if len(all) == 0 || all[len(all)-1] != name {
			all = append(all, name)
		}
	}
	return all
}

// failure is the message of the first failure that was reported.
func (s *site) failure() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.reports {
		if r.Failed {
			return r.Message
		}
	}
	return ""
}

// config is that of a simulated node of the site.
func (s *site) config(t *testing.T) Config {
	t.Helper()
	return Config{
		Boot: s.boot(), Root: filepath.Join(t.TempDir(), "root"), Simulated: true,
		Backoff: 10 * time.Millisecond, Console: testWriter{t}, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

// install runs an installer to its end.
func install(t *testing.T, cfg Config) error {
	t.Helper()
	in, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Second, errors.New("the test ran out of time"))
	defer cancel()
	return in.Run(ctx)
}

// checkTree compares what matters of the tree: the image's content, the node's
// name and network, and that nothing of the installer is left.
func checkTree(t *testing.T, root string) {
	t.Helper()
	for path, want := range map[string]string{
		"etc/machine":  "of the image\n",
		"etc/hostname": "node001.cluster\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("/%s is %q (%v), want %q", path, got, err, want)
		}
	}
	if st, err := os.Stat(filepath.Join(root, "usr/noise")); err != nil || st.Size() != 3*mib {
		t.Errorf("/usr/noise: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(root, workName)); err == nil {
		t.Errorf("/%s is left in the tree", workName)
	}
}

// testWriter shows what is said where the test says its own.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// serving answers with the given body, whatever was asked.
func serving(status int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write(body)
	}
}

// cutting announces more than it sends, as a head does that dies while it answers.
func cutting(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body[:len(body)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}
