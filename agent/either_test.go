package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/pki"
)

// TestOnePortForBoth asks the same port with and without TLS.
func TestOnePortForBoth(t *testing.T) {
	ca, err := pki.NewAuthority("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{Name: "h1", CA: ca.CertPEM(), Address: netip.MustParseAddr("127.0.0.1")}
	if err := id.signBy(ca); err != nil {
		t.Fatal(err)
	}
	conf, err := id.tls()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{tls: conf}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 1<<20)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(big))
	})}
	go func() { _ = srv.Serve(eitherListener{l, m.nodeTLS()}) }()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca.CertPEM()))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for _, scheme := range []string{"http", "https", "http"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+l.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		cancel()
		if err != nil || string(got) != big {
			t.Errorf("%s: %d bytes, %v", scheme, len(got), err)
		}
	}
}
