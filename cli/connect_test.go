package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// testCA signs the certificates of one cluster.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t *testing.T, name string) *testCA {
	t.Helper()
	ca := &testCA{}
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return ca
}

func (ca *testCA) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func pemOf(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) string {
	t.Helper()
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	if key == nil {
		return text
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// credential is a file as luna cluster init leaves it.
func (ca *testCA) credential(t *testing.T, name string) string {
	t.Helper()
	cert, key := ca.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return pemOf(t, ca.cert, nil) + pemOf(t, cert, key)
}

// serveTLS serves a head of the cluster on loopback and gives its address.
func (ca *testCA) serveTLS(t *testing.T, h *testHead) string {
	t.Helper()
	cert, key := ca.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "h1"}, DNSNames: []string{"h1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	who := func(r *http.Request) api.Caller {
		if len(r.TLS.PeerCertificates) == 0 {
			return api.Caller{}
		}
		return api.Caller{Name: r.TLS.PeerCertificates[0].Subject.CommonName, Role: api.RoleAdmin}
	}
	srv := httptest.NewUnstartedServer(api.Handler(h, "test", who))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what the tests are about
	srv.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// lunaIn runs one command line in this process.
func lunaIn(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := Root()
	root.SetIn(strings.NewReader(""))
	root.SetOut(&out)
	root.SetErr(&errs)
	code = Run(t.Context(), root, args)
	return code, out.String(), errs.String()
}

func store(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCredentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	one, two, stranger := newTestCA(t, "one"), newTestCA(t, "two"), newTestCA(t, "stranger")
	first, second := one.serveTLS(t, newTestHead()), two.serveTLS(t, newTestHead())

	expect := func(code int, words string, args ...string) {
		t.Helper()
		got, out, errs := lunaIn(t, args...)
		if got != code || !strings.Contains(out+errs, words) {
			t.Errorf("luna %s: exit code %d, want %d and %q in\n%s%s", strings.Join(args, " "), got, code, words, out, errs)
		}
	}
	const answered = "+---------+" // the head answers: an empty list
	expect(1, "none is in ~/.luna", "--server", "https://"+first, "network", "list")

	store(t, home+"/.luna/one.pem", one.credential(t, "alice"))
	store(t, home+"/.luna/two.pem", two.credential(t, "bob"))
	expect(0, answered, "--server", "https://"+first, "network", "list")
	expect(0, answered, "--server", "https://"+second, "network", "list")
	t.Setenv("LUNA_SERVER", "https://"+second+"/")
	expect(0, answered, "network", "list")

	_, port, _ := net.SplitHostPort(first)
	expect(1, "certificate is valid for h1, not localhost", "--server", "https://localhost:"+port, "network", "list")
	expect(1, "is the agent running on that head?", "--server", "https://127.0.0.1:1", "network", "list")

	// Of several heads the first that is there is asked.
	expect(0, answered, "--server", "https://127.0.0.1:1,https://"+first, "network", "list")
	expect(0, "WARNING:luna:127.0.0.1:1 cannot be asked (dial tcp 127.0.0.1:1: connect: connection refused): now "+first+" is",
		"--server", "https://127.0.0.1:1, https://"+first+",https://127.0.0.1:2", "network", "list")
	expect(1, "is the agent running on that head?", "--server", "https://127.0.0.1:1,https://127.0.0.1:2", "network", "list")

	// One credential alone, for another cluster.
	only := store(t, t.TempDir()+"/only.pem", stranger.credential(t, "eve"))
	expect(1, "of no cluster that the credentials are for", "--credential", only, "--server", "https://"+first, "network", "list")
	t.Setenv("LUNA_CREDENTIAL", only)
	expect(1, "of no cluster that the credentials are for", "network", "list")
	// Who knows the cluster but is nobody there.
	cert, key := stranger.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "eve"}})
	store(t, only, pemOf(t, one.cert, nil)+pemOf(t, cert, key))
	expect(1, "a client certificate of this cluster is needed", "--server", "https://"+first, "network", "list")

	for words, text := range map[string]string{
		"there is no CA certificate in it":            "nonsense",
		"it does not hold a certificate with its key": pemOf(t, one.cert, nil),
	} {
		store(t, only, text)
		expect(1, "cannot use the credential "+only+": "+words, "network", "list")
	}
	t.Setenv("LUNA_CREDENTIAL", "")
	store(t, home+"/.luna/broken.pem", "nonsense")
	expect(0, "WARNING:luna:the credential "+home+"/.luna/broken.pem is passed over", "network", "list")
	expect(1, "cannot use the credential /nowhere", "--credential", "/nowhere", "network", "list")
}

func TestServerAddresses(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	file := store(t, t.TempDir()+"/c.pem", newTestCA(t, "one").credential(t, "alice"))
	for _, tc := range []struct{ server, base string }{
		{"", api.SocketBase},
		{"unix:///run/other.sock", api.SocketBase},
		{"https://h1", "https://h1:7051"},
		{"https://h1/", "https://h1:7051"},
		{"https://h1:17051", "https://h1:17051"},
		{"https://[fd00:1::1]", "https://[fd00:1::1]:7051"},
		{"http://h1", ""},
		{"https://", ""},
		{"https://h1/path", ""},
		{"unix://run/luna.sock", ""},
		{"h1", ""},
		{"https://h1:port", ""},
		{"https://h1,https://h2:17051", "https://h1:7051"},
		{"https://h1,unix:///run/other.sock", ""},
		{"unix:///run/other.sock,https://h1", ""},
		{"https://h1,", ""},
	} {
		a := &app{server: tc.server, credential: file}
		client, err := a.connect(io.Discard)
		switch {
		case err != nil && tc.base != "":
			t.Errorf("%q: %v", tc.server, err)
		case err == nil && client.Base != tc.base:
			t.Errorf("%q: base %s, want %q", tc.server, client.Base, tc.base)
		}
	}
}

func TestSocketThatIsNotForUs(t *testing.T) {
	tr := &transport{server: "unix:///run/luna/luna.sock", timeout: time.Second}
	// As the kernel gives it to others than root.
	err := tr.explain(httptest.NewRequest("GET", "/v1/networks", nil), &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if !strings.Contains(err.Error(), "/run/luna/luna.sock is for root alone: use sudo") {
		t.Error(err)
	}
}

func TestEveryCallEnds(t *testing.T) {
	h := newTestHead()
	h.hang = make(chan struct{})
	t.Setenv("LUNA_SERVER", "unix://"+h.serve(t))
	t.Cleanup(func() { close(h.hang) }) // before serve's own cleanup
	code, _, errs := lunaIn(t, "network", "list", "--timeout", "50ms")
	if code != exitRefused || !strings.Contains(errs, "no answer within 50ms: is the agent well?") {
		t.Errorf("a read: exit code %d\n%s", code, errs)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var b bytes.Buffer
	root := Root()
	root.SetOut(&b)
	root.SetErr(&b)
	if code := Run(ctx, root, []string{"network", "list"}); code != exitInterrupted || b.String() != "luna network list: interrupted\n" {
		t.Errorf("Ctrl-C: exit code %d\n%s", code, b.String())
	}
}

func TestWriteWithoutAnswer(t *testing.T) {
	tr := &transport{server: "unix:///s", timeout: time.Second}
	err := tr.explain(httptest.NewRequest("POST", "/v1/networks", nil), context.DeadlineExceeded)
	if !strings.Contains(err.Error(), "may have been made or not") {
		t.Error(err)
	}
}

// trip calls a function when a text goes by.
type trip struct {
	bytes.Buffer
	text string
	then func()
}

func (w *trip) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.then()
	}
	return w.Buffer.Write(p)
}

func TestCtrlCEndsTheWaitForOtherHeads(t *testing.T) {
	h := newTestHead()
	if _, err := h.Init(t.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); err != nil {
		t.Fatal(err)
	}
	if err := h.secondHead(); err != nil {
		t.Fatal(err)
	}
	if err := h.propose(inventory.AddOSImage{Name: "compute", Path: "/img", KernVer: "6.1"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LUNA_SERVER", "unix://"+h.serve(t))
	ctx, cancel := context.WithCancel(t.Context())
	errs := &trip{text: "is held by 1 of 2 heads", then: cancel}
	var out bytes.Buffer
	root := Root()
	root.SetOut(&out)
	root.SetErr(errs)
	code := Run(ctx, root, []string{"osimage", "pack", "compute"})
	if code != exitInterrupted || out.String() != "0123456789abcdef\n" || !strings.Contains(errs.String(), "is packed; the other heads fetch it by themselves") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}
