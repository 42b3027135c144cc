package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

// server is a Handler with what it was told.
type server struct {
	*Handler
	mu      sync.Mutex
	inv     *inventory.Inventory
	reports []string
}

var clock = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func newServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	for digit, content := range map[string]string{"a": "the root", "b": "the kernel", "c": "the initrd"} {
		writeFile(t, filepath.Join(dir, hash(digit)), fmt.Appendf(nil, "%-1000s", content))
	}
	writeFile(t, dir+"/undionly.kpxe", []byte("a loader"))
	s := &server{inv: fixture()}
	s.Handler = NewHandler(HandlerConfig{
		View: func() *inventory.Inventory { return s.inv },
		Files: func(sha string) (string, bool) {
			path := filepath.Join(dir, sha)
			_, err := os.Stat(path)
			return path, err == nil
		},
		Loaders: Loaders{"undionly.kpxe": dir + "/undionly.kpxe"},
		Tracker: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "tracker ", r.URL.Path) }),
		Torrent: func(sha string, heads []string) ([]byte, error) {
			switch sha {
			case hash("a"):
				return []byte(strings.Join(heads, " ")), nil
			case hash("b"):
				return nil, errors.New("disk full")
			}
			return nil, fs.ErrNotExist
		},
		BindMAC: func(_ context.Context, node string, mac inventory.MAC) error {
			if node == "node005" {
				return errors.New("no quorum")
			}
			n, _ := s.inv.Node(node)
			moved := *n
			moved.MAC = mac
			tx := s.inv.Begin()
			tx.Put(&moved)
			s.inv = tx.Commit(s.inv.Index + 1)
			return nil
		},
		Report: func(n *inventory.Node, r Report) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reports = append(s.reports, fmt.Sprintf("%s %s %g", n.Name, r.Stage, r.Percent))
		},
		Logger: slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return clock },
	})
	return s
}

// ask sends one request from the address.
func (s *server) ask(method, target, from, token, body string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(from), 40000).String()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	fromNode1 = "10.30.0.1"
	fromNode2 = "10.30.0.2"
	fromHead  = "10.30.0.252"
	fromPool  = "10.30.128.1" // leased to 52:54:00:00:00:99
	stranger  = "10.30.200.1" // nobody's address, as a foreign DHCP server gives one
)

func TestHandler(t *testing.T) {
	good := NewToken(bootKey, 51, clock)
	late := NewToken(bootKey, 51, clock.Add(-48*time.Hour))
	other := NewToken(bootKey, 52, clock)
	for name, test := range map[string]struct {
		target, from, token string
		code                int
		want                string // in the body; with '!' before it: not in the body
		report              string
	}{
		"no step":                     {"/luna", stranger, "", 400, "the step is missing", ""},
		"unknown step":                {"/luna?step=dance", stranger, "", 400, "step 'dance' is unknown", ""},
		"menu":                        {"/luna?step=boot", stranger, "", 200, "\nitem node006 node006\n", ""},
		"menu of a known machine":     {"/luna?step=boot&mac=52:54:00:00:00:01", fromNode1, "", 200, "\nprompt --key m", ""},
		"menu asks on its network":    {"/luna?step=boot&mac=52:54:00:00:00:06", "fd00:30::6", "", 200, "http://[fd00:30::252]:7050/luna", ""},
		"menu of a bad MAC":           {"/luna?step=boot&mac=x;reboot", stranger, "", 200, "!reboot;", ""},
		"no hwdata":                   {"/luna?step=discovery", fromNode1, "", 400, "hardware addresses are missing", ""},
		"known machine":               {"/luna?step=discovery&hwdata=|52-54-00-00-00-01|", fromNode1, "", 200, "luna.token=AQ", "node001 boot.request 0"},
		"upper case":                  {"/luna?step=discovery&hwdata=asset|AA:BB:CC:DD:EE:FF|52:54:00:00:00:01", fromNode1, "", 200, "luna.node=node001", "node001 boot.request 0"},
		"unknown machine":             {"/luna?step=discovery&hwdata=aa:bb:cc:dd:ee:ff", stranger, "", 404, "no node has one of these", ""},
		"unknown type":                {"/luna?step=discovery&hwdata=52:54:00:00:00:01&type=grub", fromNode1, "", 404, "type 'grub' is unknown", ""},
		"syslinux":                    {"/luna?step=discovery&hwdata=52:54:00:00:00:01&type=syslinux", fromNode1, "", 200, "APPEND root=luna", "node001 boot.request 0"},
		"syslinux, not packed":        {"/luna?step=discovery&hwdata=52:54:00:00:00:04&type=syslinux", stranger, "", 404, "is not packed", ""},
		"not packed":                  {"/luna?step=discovery&hwdata=52:54:00:00:00:04", stranger, "", 200, "osimage 'raw' is not packed", "node004 boot.request 0"},
		"local boot":                  {"/luna?step=discovery&hwdata=52:54:00:00:00:02", fromNode2, "", 200, "sanboot", "node002 boot.request 0"},
		"no token for another node":   {"/luna?step=discovery&hwdata=52:54:00:00:00:01", fromNode2, "", 200, "luna.token=masked ", "node001 boot.request 0"},
		"no token for a head":         {"/luna?step=discovery&hwdata=52:54:00:00:00:01", fromHead, "", 200, "luna.token=masked ", "node001 boot.request 0"},
		"no token for a pool address": {"/luna?step=discovery&hwdata=52:54:00:00:00:01", fromPool, "", 200, "luna.token=masked ", "node001 boot.request 0"},
		"token for a foreign DHCP's":  {"/luna?step=discovery&hwdata=52:54:00:00:00:01", stranger, "", 200, "luna.token=AQ", "node001 boot.request 0"},
		"bind unknown node":           {"/luna?step=discovery&hwdata=52:54:00:00:00:99&node=nobody", fromPool, "", 400, "Object 'nobody' of type 'node' does not exist", ""},
		"bind without MAC":            {"/luna?step=discovery&hwdata=asset&node=node003", fromPool, "", 400, "no hardware address in hwdata", ""},
		"bind without quorum":         {"/luna?step=discovery&hwdata=52:54:00:00:00:99&node=node005", fromPool, "", 503, "node 'node005' cannot be given 52:54:00:00:00:99: no quorum", ""},
		"install without node":        {"/luna?step=install", fromNode1, "", 400, "name of the node is missing", ""},
		"install of unknown node":     {"/luna?step=install&node=nobody", fromNode1, "", 400, "does not exist", ""},
		"install, not packed":         {"/luna?step=install&node=node004", fromNode1, "", 404, "is not packed", ""},
		"install, masked":             {"/luna?step=install&node=node001", fromNode1, "", 200, "!secret", ""},
		"install, from a head":        {"/luna?step=install&node=node001", fromHead, "", 200, "root:secret", ""},
		"install, hash from a head":   {"/luna?step=install&node=node001", fromHead, "", 200, "!" + hash("a"), ""},
		"install, with token":         {"/luna?step=install&node=node001", fromNode1, good, 200, hash("a"), "node001 install.request 0"},
		"1.2 status from the node":    {"/luna?step=install&node=node001&status=install.download", fromNode1, "", 200, "", "node001 install.download 0"},
		"1.2 status from another":     {"/luna?step=install&node=node001&status=install.success", fromNode2, "", 200, "", ""},
		"1.2 status, bad name":        {"/luna?step=install&node=node001&status=%3Cb%3E", fromNode1, "", 200, "", ""},
		"plan":                        {"/plan?node=node001", fromNode1, good, 200, `"image_version":"0123456789abcdef"`, "node001 install.request 0"},
		"plan without token":          {"/plan?node=node001", fromNode1, "", 401, "no boot token was sent", ""},
		"plan with another's token":   {"/plan?node=node001", fromNode1, other, 401, "not one of this node", ""},
		"plan with an old token":      {"/plan?node=node001", fromNode1, late, 401, "more than 24 hours ago", ""},
		"plan of unknown node":        {"/plan?node=nobody", fromNode1, good, 400, "does not exist", ""},
		"kernel":                      {"/boot/0123456789abcdef/vmlinuz", stranger, "", 200, "the kernel", ""},
		"initrd":                      {"/boot/0123456789abcdef/initrd", stranger, "", 200, "the initrd", ""},
		"kernel of no version":        {"/boot/0000000000000000/vmlinuz", stranger, "", 404, "no osimage has a version", ""},
		"kernel by its 1.2 name":      {"/boot/compute-vmlinuz-6.1.0-1-amd64", stranger, "", 200, "the kernel", ""},
		"initrd by its 1.2 name":      {"/boot/compute-initramfs-6.1.0-1-amd64", stranger, "", 200, "the initrd", ""},
		"kernel not packed":           {"/boot/raw-vmlinuz-6.1.0-1-amd64", stranger, "", 404, "no loader, kernel or initrd", ""},
		"loader":                      {"/boot/undionly.kpxe", stranger, "", 200, "a loader", ""},
		"loader not there":            {"/boot/snponly.efi", stranger, "", 404, "no loader, kernel or initrd", ""},
		"artifact":                    {"/artifacts/" + hash("a"), stranger, "", 200, "the root", ""},
		"artifact elsewhere":          {"/artifacts/" + hash("d"), stranger, "", 404, "ask another head", ""},
		"artifacts are not listed":    {"/artifacts/", stranger, "", 404, "", ""},
		"no path out":                 {"/artifacts/..%2f..%2fetc%2fpasswd", stranger, "", 404, "an artifact is /artifacts/SHA256", ""},
		"torrent":                     {"/torrents/" + hash("a") + ".torrent", stranger, "", 200, "10.30.0.252:7050", ""},
		"torrent of nothing":          {"/torrents/" + hash("d") + ".torrent", stranger, "", 404, "no artifact of that hash", ""},
		"torrent that fails":          {"/torrents/" + hash("b") + ".torrent", stranger, "", 500, "disk full", ""},
		"torrent of no name":          {"/torrents/x", stranger, "", 404, "no such torrent", ""},
		"announce":                    {"/announce?info_hash=x", stranger, "", 200, "tracker /announce", ""},
		"scrape":                      {"/scrape", stranger, "", 200, "tracker /scrape", ""},
		"elsewhere":                   {"/etc/passwd", stranger, "", 404, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			resp := s.ask("GET", test.target, test.from, test.token, "")
			body := read(t, resp)
			if resp.StatusCode != test.code {
				t.Fatalf("got %d %s, want %d", resp.StatusCode, body, test.code)
			}
			if unwanted, not := strings.CutPrefix(test.want, "!"); not == strings.Contains(body, unwanted) {
				t.Errorf("got body\n%s\nwant %q", body, test.want)
			}
			if resp.StatusCode >= 400 && strings.Count(body, "\n") != 1 {
				t.Errorf("the refusal is not one line: %q", body)
			}
			if got := strings.Join(s.reports, ", "); got != test.report {
				t.Errorf("reported %q, want %q", got, test.report)
			}
		})
	}
}

// The NIC that a machine boots from is named first, and gets the address.
func TestBindTakesTheBootingNIC(t *testing.T) {
	s := newServer(t)
	resp := s.ask("GET", "/luna?step=discovery&node=node003&hwdata=52:54:00:00:00:99|asset|02:00:00:00:00:01|52:54:00:00:00:99", fromPool, "", "")
	body := read(t, resp)
	if resp.StatusCode != 200 || !strings.Contains(body, "luna.mac=52:54:00:00:00:99 luna.ip=10.30.0.3/16") {
		t.Errorf("got %d:\n%s", resp.StatusCode, body)
	}
	if !strings.Contains(body, "luna.token=AQ") {
		t.Error("a machine that was bound a moment ago boots from its pool address, and gets no token")
	}
	if got := strings.Join(s.reports, ", "); got != "node003 boot.mac_assigned 0, node003 boot.request 0" {
		t.Errorf("reported %s", got)
	}
}

func TestStatus(t *testing.T) {
	token := NewToken(bootKey, 51, clock)
	for name, test := range map[string]struct {
		token, body string
		code        int
		report      string
	}{
		"report":       {token, `{"stage":"install.download","percent":66.5}`, 204, "node001 install.download 66.5"},
		"out of range": {token, `{"stage":"install.download","percent":1e9}`, 204, "node001 install.download 100"},
		"no token":     {"", `{"stage":"install.success"}`, 401, ""},
		"no JSON":      {token, `stage`, 400, ""},
		"no stage":     {token, `{}`, 400, ""},
		"bad stage":    {token, `{"stage":"<b>"}`, 400, ""},
		"too long":     {token, `{"stage":"x","message":"` + strings.Repeat("x", maxReportBody) + `"}`, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			resp := s.ask("POST", "/status?node=node001", fromNode1, test.token, test.body)
			if got := strings.Join(s.reports, ", "); resp.StatusCode != test.code || got != test.report {
				t.Errorf("got %d %s, reported %q", resp.StatusCode, read(t, resp), got)
			}
		})
	}
}

func TestMethods(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct {
		method, target string
		code           int
	}{
		{"HEAD", "/luna?step=discovery&hwdata=52:54:00:00:00:01", 200},
		{"HEAD", "/luna?step=discovery&hwdata=52:54:00:00:00:77&node=node003", 404},
		{"HEAD", "/boot/0123456789abcdef/vmlinuz", 200},
		{"POST", "/luna?step=boot", 200},
		{"PUT", "/luna?step=boot", 405},
		{"DELETE", "/artifacts/" + hash("a"), 405},
		{"POST", "/plan?node=node001", 405},
	} {
		if resp := s.ask(test.method, test.target, fromNode1, "", ""); resp.StatusCode != test.code {
			t.Errorf("%s %s: got %d, want %d", test.method, test.target, resp.StatusCode, test.code)
		}
	}
	if len(s.reports) != 0 {
		t.Errorf("HEAD was reported: %v", s.reports)
	}
	if n, _ := s.inv.Node("node003"); n.MAC != "" {
		t.Error("HEAD bound a hardware address")
	}
}

// What goes over a real connection: lengths, ranges, and a plan that decodes.
func TestOverTheWire(t *testing.T) {
	s := newServer(t)
	web := httptest.NewServer(s)
	defer web.Close()
	get := func(path string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, path := range []string{"/luna?step=boot", "/luna?step=discovery&hwdata=52:54:00:00:00:01", "/boot/" + versionA + "/vmlinuz", "/boot/undionly.kpxe"} {
		resp := get(path)
		if body := read(t, resp); resp.ContentLength != int64(len(body)) {
			t.Errorf("%s: length %d, body %d", path, resp.ContentLength, len(body))
		}
	}
	resp := get("/artifacts/"+hash("a"), "Range", "bytes=4-5")
	if body := read(t, resp); resp.StatusCode != 206 || body != "ro" {
		t.Errorf("range: got %d %q", resp.StatusCode, body)
	}
	resp = get("/artifacts/"+hash("a"), "If-None-Match", `"`+hash("a")+`"`)
	if resp.StatusCode != 304 {
		t.Errorf("the hash is not the ETag: got %d", resp.StatusCode)
	}
	var plan Plan
	if err := json.NewDecoder(get("/plan?node=node001", "Authorization", "Bearer "+NewToken(bootKey, 51, clock)).Body).Decode(&plan); err != nil {
		t.Fatal(err)
	}
	if plan.Root.SHA256 != hash("a") || plan.Version != PlanVersion || len(plan.Heads) != 3 {
		t.Errorf("got plan %+v", plan)
	}
}

// TestBehind: a head that knows nothing yet, or less than the others, sends machines
// to these, whatever they ask for that can change; what it holds it gives.
func TestBehind(t *testing.T) {
	for name, behind := range map[string]func(*server){
		"it knows nothing": func(s *server) { s.inv = inventory.Empty() },
		"it knows less":    func(s *server) { s.Current = func() bool { return false } },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			behind(s)
			for _, path := range []string{
				"/luna?step=boot", "/luna?step=boot&mac=52:54:00:00:00:01", "/luna?step=discovery&hwdata=52:54:00:00:00:01",
				"/luna?step=install&node=node001", "/plan?node=node001",
			} {
				r := s.ask("GET", path, fromNode1, NewToken(bootKey, 51, clock), "")
				if body := read(t, r); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "ask another head") {
					t.Errorf("%s: %s %q", path, r.Status, body)
				}
			}
			for _, path := range []string{"/boot/undionly.kpxe", "/artifacts/" + hash("a")} {
				if r := s.ask("GET", path, fromNode1, "", ""); r.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", path, r.Status)
				}
			}
		})
	}
}

func TestOpenTFTP(t *testing.T) {
	s := newServer(t)
	for name, want := range map[string]string{
		"undionly.kpxe":                     "a loader",
		"luna_undionly.kpxe":                "a loader",
		"pxelinux.cfg/01-52-54-00-00-00-01": "luna_node001",
		"pxelinux.cfg/01-52-54-00-00-00-77": "",
		"first/52-54-00-00-00-01":           "set luna-menu /luna?step=boot&mac=52:54:00:00:00:01\n",
		"first/52-54-00-00-00-77":           "mac=52:54:00:00:00:77\n",
		"first/../../etc/passwd":            "",
		"pxelinux.cfg/01-":                  "",
		"pxelinux.cfg/default":              "",
		"snponly.efi":                       "",
		"/etc/passwd":                       "",
		"../../etc/passwd":                  "",
	} {
		f, err := s.OpenTFTP(name, netip.MustParseAddr(fromNode1))
		if want == "" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got error %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := io.ReadAll(f)
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		f.Close()
	}
}

// TestReportsAreBounded: whatever a node says, heads keep little of it.
func TestReportsAreBounded(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("a", 65)
	s.ask("GET", "/luna?step=install&node=node001&status="+long, fromNode1, "", "")
	token := NewToken(bootKey, 51, clock)
	for _, body := range []string{`{"stage":"` + long + `"}`, `{"stage":"install.request","version":"` + long + `"}`, `{"stage":"install.request","run":"` + long + `"}`} {
		if r := s.ask("POST", "/status?node=node001", fromNode1, token, body); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40s...: %s", body, r.Status)
		}
	}
	if len(s.reports) > 0 {
		t.Errorf("reported: %v", s.reports)
	}
}

// TestBindsAreBounded: each is a change of the inventory, and anybody may ask for it.
func TestBindsAreBounded(t *testing.T) {
	s := newServer(t)
	codes := map[int]int{}
	for i := range 100 {
		mac := fmt.Sprintf("52:54:00:00:07:%02x", i)
		codes[s.ask("GET", "/luna?step=discovery&node=node003&hwdata="+mac, fromPool, "", "").StatusCode]++
	}
	if codes[http.StatusServiceUnavailable] < 50 || codes[http.StatusOK] < bindsPerSecond {
		t.Errorf("answers by their code: %v", codes)
	}
}

// TestACutFileIsNotServed: firmware cannot know that a kernel is not whole.
func TestACutFileIsNotServed(t *testing.T) {
	s := newServer(t)
	path, _ := s.Files(hash("b"))
	if err := os.Truncate(path, 999); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/boot/" + versionA + "/vmlinuz", "/boot/compute-vmlinuz-6.1.0-1-amd64"} {
		if r := s.ask("GET", name, fromNode1, "", ""); r.StatusCode != http.StatusNotFound || !strings.Contains(read(t, r), "ask another head") {
			t.Errorf("%s: %s", name, r.Status)
		}
	}
	if r := s.ask("GET", "/boot/"+versionA+"/initrd", fromNode1, "", ""); r.StatusCode != http.StatusOK {
		t.Errorf("the initrd, which is whole: %s", r.Status)
	}
}

// TestTFTPOfAHeadThatKnowsLess: it gives loaders, and nothing that might be old.
func TestTFTPOfAHeadThatKnowsLess(t *testing.T) {
	s := newServer(t)
	s.Current = func() bool { return false }
	for name, given := range map[string]bool{"undionly.kpxe": true, "pxelinux.cfg/01-52-54-00-00-00-01": false, "first/52-54-00-00-00-01": false} {
		f, err := s.OpenTFTP(name, netip.MustParseAddr(fromNode1))
		if given != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
}

// A thousand machines that nobody knows ask for their menu every 13 s.
func BenchmarkMenu(b *testing.B) {
	tx := fixture().Begin()
	for i := range 10000 {
		tx.Put(&inventory.Node{ID: inventory.ID(1000 + i), Name: fmt.Sprintf("n%05d", i), Group: 40})
	}
	site := Site{Inventory: tx.Commit(2)}
	for _, list := range []bool{false, true} {
		b.Run(fmt.Sprintf("list=%v", list), func(b *testing.B) {
			for b.Loop() {
				site.Menu("52:54:00:00:00:99", list)
			}
		})
	}
}

func BenchmarkBootScript(b *testing.B) {
	inv := fixture()
	n, _ := inv.Node("node001")
	site := Site{Inventory: inv}
	for b.Loop() {
		site.BootScript(n, NewToken(bootKey, n.ID, clock))
	}
}
